"""Apply stored webhook deliveries again: `manage.py clerk_replay [SVIX_ID …]`."""

from __future__ import annotations

import sys
from typing import Unpack

from django.core.management.base import CommandError, CommandParser

from users.management.command import JsonCommand, JsonOptions
from users.management.report import event_of
from users.models import WebhookDelivery
from users.sync.display import visible
from users.sync.inbound import deliveries
from users.sync.inbound.deliveries import Outcome, Received


class ReplayOptions(JsonOptions):
    """The options of the command."""

    svix_id: list[str]


class Command(JsonCommand):
    """Apply the named events again, or else all events that wait."""

    name = "clerk_replay"
    keys = ("left", "events")
    help = (
        "Try events from Clerk again that could not take effect: the named ones, else all that "
        "wait. Events that can never be applied are listed, and tried again only when they are "
        "named. Exit code 0: none waits, and all named ones took effect; 2: some did not, and "
        "why is said; 1: it could not run."
    )
    examples = ("clerk_replay", "clerk_replay msg_2xA1bC3dE5fG7hI9jK1lM3nO5pQ")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the ids of deliveries."""
        parser.add_argument("svix_id", nargs="*", help="ids of deliveries; default: all that wait")
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Unpack[ReplayOptions]) -> None:
        """Apply the events and report each. It exits with code 2 if one was not applied."""
        named = options["svix_id"] or None
        self.begun = "What it did is kept. Run it again to do the rest."
        results = _retry(named)
        left = [result for result in results if not result.done]
        results += [] if named else _set_aside({result.svix_id for result in results})
        if options["json"]:
            self.known = {"left": len(left), "events": list(map(event_of, results))}
        else:
            for result in results:
                said = "done" if result.done else result.report
                self.stdout.write(visible(f"{result.svix_id}: {said}"))
            if not results:
                self.stdout.write("No event waits.")
        if left:
            sys.exit(2)


def _retry(named: list[str] | None) -> list[Received]:
    """Apply the named events, or else all that wait.

    Raises `CommandError` for deliveries that are not stored.
    """
    if named is not None:
        kept = WebhookDelivery.objects.filter(pk__in=named, payload__isnull=False)
        if unknown := set(named) - set(kept.values_list("pk", flat=True)):
            listed = ", ".join(sorted(unknown))
            raise CommandError(f"These events are not known, or do not wait: {listed}.")
    return deliveries.retry(named)


def _set_aside(tried: set[str]) -> list[Received]:
    return [
        Received(delivery.pk, Outcome.UNUSABLE, delivery.error)
        for delivery in deliveries.unusable().exclude(pk__in=tried).defer("payload")
    ]
