"""List the differences between the database and Clerk: `manage.py clerk_diff`."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from typing import Unpack

from django.core.management.base import CommandParser
from django.utils import timezone
from rich.table import Table

from users.errors import BulkRefused
from users.management.bulk import refresh
from users.management.command import JsonCommand, JsonOptions
from users.management.options import call_rate, refuse_together
from users.management.terminal import print_table
from users.models import BulkRun
from users.sync.bulk.exports import DIFF_COLUMNS
from users.sync.bulk.lock import one_at_a_time
from users.sync.bulk.results import safe
from users.sync.display import visible
from users.sync.messages import age
from users.sync.mirror import scan
from users.sync.mirror.report import Difference, Kind, find


class DiffOptions(JsonOptions):
    """The options of the command."""

    refresh: bool
    kind: list[str] | None
    format: str | None
    quiet: bool
    rate: float | None
    accept_missing: bool


class Command(JsonCommand):
    """List what is out of sync, with the likely cause."""

    name = "clerk_diff"
    keys = ("looked_at", "summary", "differences")
    help = (
        "List the differences between the database and our copy of Clerk's side, with the likely "
        "cause of each. --refresh reads all of Clerk's users first. Exit code 0: no difference; "
        "2: some; 1: it could not run."
    )
    examples = ("clerk_diff --refresh --quiet", "clerk_diff --kind name --format csv")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options for reading Clerk, for selecting differences and for the output."""
        parser.add_argument(
            "--refresh", action="store_true", help="read all of Clerk's users first"
        )
        parser.add_argument("--kind", action="append", choices=Kind.values, help="repeatable")
        parser.add_argument("--format", choices=["table", "csv"], help="default: table")
        parser.add_argument(
            "--quiet", action="store_true", help="say nothing unless something differs, for cron"
        )
        parser.add_argument("--rate", type=float, metavar="N", help="requests to Clerk a second")
        parser.add_argument("--accept-missing", action="store_true",
                            help="accept that very many accounts are gone from Clerk")  # fmt: skip
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Unpack[DiffOptions]) -> None:
        """Scan Clerk if asked to, then list the differences.

        It exits with code 2 if there are any.
        """
        refuse_together(options, "json", ["format"])
        rate = _rate_of(options)
        if options["refresh"]:
            with one_at_a_time():
                refresh(
                    self.stderr,
                    rate=rate,
                    accept_missing=options["accept_missing"],
                    quiet=options["quiet"],
                )
        found = list(find([Kind(kind) for kind in options["kind"] or []]))
        self._tell(found, scan.last_finished(), options)
        if found:
            sys.exit(2)

    def _tell(self, found: list[Difference], look: BulkRun | None, options: DiffOptions) -> None:
        if options["json"]:
            self.known = _document(found, look)
        elif not found and options["quiet"]:
            pass
        elif options["format"] == "csv":
            self._csv(found, look)
        else:
            self._table(found, look)

    def _table(self, found: list[Difference], look: BulkRun | None) -> None:
        self.stdout.write(_age(look))
        if not found:
            self.stdout.write("No difference in what was read.")
            return
        table = Table()
        for column in ("What", "User", "Here", "In Clerk", "Likely cause"):
            table.add_column(column, overflow="fold")
        for difference in found:
            table.add_row(
                difference.kind.label,
                *map(
                    visible,
                    (
                        difference.label or difference.clerk_id,
                        difference.ours,
                        difference.theirs,
                        difference.cause,
                    ),
                ),
            )
        print_table(self.stdout, table)
        for kind, count in _summary(found).items():
            self.stdout.write(f"{kind}: {count}")

    def _csv(self, found: list[Difference], look: BulkRun | None) -> None:
        self.stderr.write(_age(look))
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(DIFF_COLUMNS)
        for difference in found:
            writer.writerow([safe(cell) for cell in _cells(difference).values()])
        self.stdout.write(text.getvalue())


def _document(found: list[Difference], look: BulkRun | None) -> dict[str, object]:
    return {
        "looked_at": look.started_at.isoformat() if look else None,
        "summary": _summary(found),
        "differences": [_cells(difference) for difference in found],
    }


def _rate_of(options: DiffOptions) -> float:
    """Return the number of calls to Clerk a second.

    Raises `BulkRefused` for a wrong rate, and for options that need --refresh.
    """
    rate = call_rate(options["rate"])
    if not options["refresh"]:
        for needing in ("rate", "accept_missing"):
            if options[needing] not in (None, False):
                raise BulkRefused(f"--{needing.replace('_', '-')} needs --refresh.")
    return rate


def _age(look: BulkRun | None) -> str:
    """Say when all users of Clerk were last read into the mirror."""
    if look is None:
        return "Not all of Clerk's users have been read yet. Run: manage.py clerk_diff --refresh"
    past = age(timezone.now() - look.started_at)
    return f"All of Clerk's users were last read {past} ago. Some may have been read since."


def _summary(found: list[Difference]) -> dict[str, int]:
    counted = Counter(difference.kind for difference in found)
    return {str(kind.label): counted[kind] for kind in Kind if counted[kind]}


def _cells(difference: Difference) -> dict[str, str]:
    return {column: str(getattr(difference, column) or "") for column in DIFF_COLUMNS}
