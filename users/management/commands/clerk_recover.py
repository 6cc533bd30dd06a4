"""Resolve pending changes and finish other waiting work: `manage.py clerk_recover`."""

from __future__ import annotations

import sys
from typing import Unpack

from django.core.management.base import CommandParser

from users.management.command import JsonCommand, JsonOptions
from users.management.report import event_of
from users.sync import maintenance
from users.sync.display import visible
from users.sync.inbound.deliveries import Received
from users.sync.outbound.recovery import RecoveryResult


class RecoverOptions(JsonOptions):
    """The options of the command."""

    quiet: bool


class Command(JsonCommand):
    """Run maintenance once, as the background worker does every minute."""

    name = "clerk_recover"
    keys = ("left", "attempts", "events", "notes")
    help = (
        "Resolve pending changes by what Clerk has; a save that is still running is left alone. "
        "Then try waiting events again, send waiting invitations and ban replaced accounts. The "
        "background worker does the same every minute. Exit code 0: no change is pending; 2: some "
        "stay pending, with the reason of each; 1: it could not run."
    )
    examples = ("clerk_recover", "clerk_recover --quiet")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --quiet."""
        parser.add_argument(
            "--quiet",
            action="store_true",
            help="say only what is not done, and the notes, for cron",
        )
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Unpack[RecoverOptions]) -> None:
        """Run maintenance and report it. It exits with code 2 if a change stays pending."""
        self.begun = "What it did is kept. Run it again to do the rest."
        report = maintenance.run()
        if options["json"]:
            self.known = _document(report)
        else:
            for line in _lines_left(report) if options["quiet"] else _lines(report):
                self.stdout.write(visible(line))
        if report.left:
            sys.exit(2)


def _lines(report: maintenance.Report) -> list[str]:
    lines = [_attempt_line(result) for result in report.attempts]
    lines += [_event_line(event) for event in report.events]
    return lines + report.notes or ["No change is pending."]


def _lines_left(report: maintenance.Report) -> list[str]:
    """Leave out what was resolved. Keep all notes, because a note may need a person."""
    lines = [_attempt_line(result) for result in report.attempts if not result.resolved]
    lines += [_event_line(event) for event in report.events if not event.done]
    return lines + report.notes


def _attempt_line(result: RecoveryResult) -> str:
    return f"{result.attempt.pk} {result.attempt}: {result.outcome.label}. {result.message}"


def _event_line(event: Received) -> str:
    return f"Event {event.svix_id}: {event.error or 'done'}"


def _document(report: maintenance.Report) -> dict[str, object]:
    return {
        "left": report.left,
        "attempts": [
            {
                "attempt": result.attempt.pk,
                "operation": result.attempt.operation,
                "user": str(result.attempt.user_id or ""),
                "status": result.outcome,
                "message": result.message,
            }
            for result in report.attempts
        ],
        "events": [event_of(event) for event in report.events],
        "notes": report.notes,
    }
