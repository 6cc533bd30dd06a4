"""Try kept webhook deliveries again: `manage.py clerk_replay [SVIX_ID …]`."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from users.management.bulk import as_command_errors
from users.management.terminal import EngineerCommand
from users.models import WebhookDelivery
from users.sync import inbound
from users.sync.showing import visible


class Command(EngineerCommand):
    help = (
        "Try events from Clerk again that could not take effect: the named ones, else all that "
        "are kept. Exit code 0: none is left; 2: some are, and why is said; 1: it could not run."
    )
    examples = ("clerk_replay", "clerk_replay msg_2xA1bC3dE5fG7hI9jK1lM3nO5pQ")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("svix_id", nargs="*", help="ids of deliveries; default: all kept ones")
        parser.add_argument("--json", action="store_true", help="one JSON document, for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        with as_command_errors(self.stderr):
            results = _retry(options["svix_id"] or None)
        left = [result for result in results if not result.done]
        if options["json"]:
            self.stdout.write(json.dumps({"left": len(left), "deliveries": [
                {"svix_id": result.svix_id, "done": result.done, "error": result.error}
                for result in results
            ]}))  # fmt: skip
        else:
            for result in results:
                self.stdout.write(visible(f"{result.svix_id}: {result.error or 'done'}"))
            if not results:
                self.stdout.write("Nothing is kept.")
        if left:
            sys.exit(2)


def _retry(named: list[str] | None) -> list[inbound.Received]:
    """Raises `CommandError` for deliveries that are not kept."""
    if named is not None:
        kept = WebhookDelivery.objects.filter(pk__in=named, payload__isnull=False)
        if unknown := set(named) - set(kept.values_list("pk", flat=True)):
            raise CommandError(
                f"Not kept, because unknown or processed: {', '.join(sorted(unknown))}."
            )
    return inbound.retry(named)
