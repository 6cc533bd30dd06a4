"""Finish what was left unfinished: `manage.py clerk_recover`."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import CommandParser

from users.management.bulk import as_command_errors
from users.management.terminal import EngineerCommand
from users.sync import upkeep
from users.sync.deliveries import Received
from users.sync.recovery import RecoveryResult
from users.sync.showing import visible


class Command(EngineerCommand):
    help = (
        "Resolve pending changes by what Clerk has; a save that is still running is left alone. "
        "Then try waiting events again, send waiting invitations and ban replaced accounts. The "
        "background worker does the same every minute. Exit code 0: no change is pending; 2: some "
        "stay pending, with the reason of each; 1: it could not run."
    )
    examples = ("clerk_recover", "clerk_recover --quiet")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--quiet",
            action="store_true",
            help="say only what is not done, and the notes, for cron",
        )
        parser.add_argument("--json", action="store_true", help="one JSON document, for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        with as_command_errors(self.stderr):
            report = upkeep.run()
        if options["json"]:
            self.stdout.write(json.dumps(_document(report)))
        else:
            for line in _lines_left(report) if options["quiet"] else _lines(report):
                self.stdout.write(visible(line))
        if report.left:
            sys.exit(2)


def _lines(report: upkeep.Report) -> list[str]:
    lines = [_attempt_line(result) for result in report.attempts]
    lines += [_event_line(event) for event in report.events]
    return lines + report.notes or ["No change is pending."]


def _lines_left(report: upkeep.Report) -> list[str]:
    """Leave out what was resolved. A note may need a person, so each is kept."""
    lines = [_attempt_line(result) for result in report.attempts if not result.resolved]
    lines += [_event_line(event) for event in report.events if not event.done]
    return lines + report.notes


def _attempt_line(result: RecoveryResult) -> str:
    return f"{result.attempt.pk} {result.attempt}: {result.outcome.label}. {result.message}"


def _event_line(event: Received) -> str:
    return f"Event {event.svix_id}: {event.error or 'done'}"


def _document(report: upkeep.Report) -> dict[str, Any]:
    return {
        "open": report.left,
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
        "events": [
            {"svix_id": event.svix_id, "done": event.done, "error": event.error}
            for event in report.events
        ],
        "notes": report.notes,
    }
