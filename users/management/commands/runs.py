"""List, show or export bulk runs: `manage.py runs [list | show | export] [RUN]`."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Unpack

from django.core.management.base import CommandParser
from rich.table import Table

from users.errors import BulkRefused
from users.management import report
from users.management.command import JsonCommand, JsonOptions
from users.management.options import whole_number
from users.management.terminal import print_table
from users.models import BulkRun
from users.sync.bulk import files, results
from users.sync.bulk.results import counts_of
from users.sync.bulk.run import bring_up_to_date
from users.sync.display import visible

LISTED = 20


class RunsOptions(JsonOptions):
    """The options of the command."""

    action: str
    run: int | None
    out: Path | None


class Command(JsonCommand):
    """Show bulk runs. It changes none."""

    name = "runs"
    keys = ("run", "runs")
    help = (
        "Look at bulk runs: list the newest, show one with the rows that are not done, or export "
        "all its rows as CSV. Without RUN, show and export take the newest one that has rows. "
        "Nothing is changed. Exit code 0: shown; 1: there is no such run."
    )
    examples = ("runs", "runs show", "runs export 12 --out run-12.csv")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the action, the run and the file of an export."""
        parser.add_argument("action", nargs="?", choices=["list", "show", "export"], default="list")
        parser.add_argument("run", nargs="?", type=whole_number, metavar="RUN")
        parser.add_argument(
            "--out", type=Path, metavar="FILE", help="export: a new file; default is stdout"
        )
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Unpack[RunsOptions]) -> None:
        """Update the runs from their attempts, then do the action."""
        _refuse_ignored(options)
        bring_up_to_date()
        if options["action"] == "list":
            self._list(options)
        elif options["action"] == "show":
            self._show(_find(options["run"]), options)
        else:
            self._export(_find(options["run"]), options["out"])

    def _list(self, options: RunsOptions) -> None:
        newest = list(BulkRun.objects.select_related("actor").order_by("-pk")[:LISTED])
        if options["json"]:
            self.known["runs"] = [report.result_of(run) for run in newest]
            return
        table = Table()
        for column in ("Run", "Command", "Started (UTC)", "State", "Rows", "By"):
            table.add_column(column, overflow="fold")
        for run in newest:
            table.add_row(
                str(run.pk), run.command, f"{run.started_at:%Y-%m-%d %H:%M}",
                run.get_state_display(), _counted(run), str(run.actor or ""),
            )  # fmt: skip
        print_table(self.stdout, table)

    def _show(self, run: BulkRun, options: RunsOptions) -> None:
        result = self.known["run"] = report.result_of(run)
        if options["json"]:
            return
        for row in result["not_done"]:
            self.stdout.write(visible(f"{row['state']}: {row['label']}. {row['reason']}"))
        state = run.get_state_display().lower()
        self.stdout.write(f"Run {run.pk} ({run.command}): {state}, {_counted(run)}.")
        if run.message:
            self.stdout.write(visible(run.message))

    def _export(self, run: BulkRun, out: Path | None) -> None:
        text = StringIO()
        csv.writer(text).writerows(results.export(run))
        if out is None:
            self.stdout.write(text.getvalue())
            return
        with files.written(out) as file:
            file.write(text.getvalue())


def _refuse_ignored(options: RunsOptions) -> None:
    """Refuse options that the action would ignore, and a file that exists.

    Raises `BulkRefused`.
    """
    action = options["action"]
    if action == "list" and options["run"] is not None:
        raise BulkRefused(f"“list” takes no RUN. Use: manage.py runs show {options['run']}")
    if action != "export" and options["out"]:
        raise BulkRefused(f"“{action}” writes no file: --out is for “export”.")
    if action == "export" and options["json"]:
        raise BulkRefused("“export” writes CSV. Use “show” with --json.")
    files.check_outputs({"--out": options["out"]}, inputs={})


def _find(pk: int | None) -> BulkRun:
    """Return the run, or the newest one that has rows.

    This updates its result file, which the worker may not be able to write.

    Raises `BulkRefused`.
    """
    if pk is None:
        run = BulkRun.objects.filter(rows__isnull=False).order_by("-pk").first()
    else:
        run = BulkRun.objects.filter(pk=pk).first()
    if run is None:
        raise BulkRefused(f"There is no run {pk}." if pk is not None else "There is no run yet.")
    results.follow(run)
    run.refresh_from_db()
    return run


def _counted(run: BulkRun) -> str:
    counts = counts_of(run)
    return ", ".join(f"{count} {state.lower()}" for state, count in counts.items()) or "no rows"
