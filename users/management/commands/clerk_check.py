"""Check that everything is set up and healthy: `manage.py clerk_check`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Unpack

from django.conf import settings
from django.core.management.base import CommandParser
from rich.table import Table

from users.clerk import Deadline, clerk
from users.management.command import JsonCommand, JsonOptions
from users.management.terminal import print_table
from users.sync.diagnostics import Finding, Level, check
from users.sync.mirror import instance


class CheckOptions(JsonOptions):
    """The options of the command."""

    accept_instance: str | None


class Command(JsonCommand):
    """Run all diagnostics. It needs no system checks, so that it can report what is broken."""

    name = "clerk_check"
    keys = ("broken", "findings")
    help = (
        "Check the key, Clerk, the clock, the webhook secret, the database, the worker and what "
        "is unfinished, and say how to fix what is wrong. Exit code 0: nothing is broken; 1: "
        "something is."
    )
    examples = ("clerk_check", "clerk_check --json")
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --accept-instance."""
        parser.add_argument(
            "--accept-instance", metavar="ID",
            help="remember this Clerk instance (ins_…) as ours, in place of the one before",
        )  # fmt: skip
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Unpack[CheckOptions]) -> None:
        """Accept the instance if asked to, then report all findings.

        It exits with code 1 if anything is broken.
        """
        if options["accept_instance"]:
            deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
            instance.accept(options["accept_instance"], clerk(), deadline)
        found = list(check())
        broken = any(finding.level is Level.BROKEN for finding in found)
        if options["json"]:
            rows = [asdict(finding) | {"level": finding.level.value} for finding in found]
            self.known = {"broken": broken, "findings": rows}
        elif self.stdout.isatty():
            print_table(self.stdout, _table(found))
        else:
            for finding in found:
                self.stdout.write(_line(finding))
        if broken:
            sys.exit(1)


def _line(finding: Finding) -> str:
    fix = f" Fix: {finding.fix}" if finding.fix else ""
    return f"{finding.level.value}: {finding.subject}. {finding.meaning}{fix}"


def _table(found: Iterable[Finding]) -> Table:
    table = Table()
    for column in ("Subject", "State", "What it means", "How to fix it"):
        table.add_column(column, overflow="fold")
    for finding in found:
        table.add_row(finding.subject, finding.level.value, finding.meaning, finding.fix)
    return table
