"""Settle changes whose process died: `manage.py clerk_recover`."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from users.sync import recovery


class Command(BaseCommand):
    help = (
        "Settle every open attempt by what Clerk has: applied or dropped. A user whose save is "
        "alive is left alone. Exit code 0: nothing is open any more; 2: some stay open, and why "
        "is said; 1: it could not run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document, for machines")

    def handle(self, *args: Any, **options: Any) -> None:
        results = []
        for settled in recovery.recover_all():
            results.append(settled)
            if not options["json"]:
                attempt = settled.attempt
                self.stdout.write(
                    f"{attempt.pk} {attempt}: {settled.status.label}. {settled.message}"
                )
        still_open = [settled for settled in results if not settled.settled]
        if options["json"]:
            self.stdout.write(json.dumps({"open": len(still_open), "attempts": [
                {
                    "attempt": settled.attempt.pk,
                    "operation": settled.attempt.operation,
                    "user": str(settled.attempt.user_id or ""),
                    "status": settled.status,
                    "message": settled.message,
                }
                for settled in results
            ]}))  # fmt: skip
        elif not results:
            self.stdout.write("Nothing is open.")
        if still_open:
            sys.exit(2)
