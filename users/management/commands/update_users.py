"""Corrections from a spreadsheet: `manage.py update_users FILE.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from users.errors import BulkRefused
from users.management.bulk import BulkCommand
from users.models import BulkRun
from users.sync.bulk import results, spreadsheet
from users.sync.bulk.plan import Plan
from users.sync.bulk.results import Result


class Command(BulkCommand):
    name = "update_users"
    help = (
        "Bring users to what a spreadsheet says. The first line names the columns: a key (id, "
        "clerk_id or email) and any of name, email, role, internal_role, builder_group (by name "
        "or id), new_address (replace or invite: what becomes of the sign-in of a linked user "
        "with a new email). An empty cell leaves a field as it is; (none) empties a group or an "
        "internal role. Everything that is wrong is said at once, with line numbers, before "
        "anything happens. A result file has a line for each line. " + (BulkCommand.__doc__ or "")
    )
    keys: dict[int, str] = {}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", help="CSV in UTF-8; commas or semicolons")
        parser.add_argument(
            "--new-address", choices=list(spreadsheet.WAYS), default="",
            help="for lines that do not say it themselves",
        )  # fmt: skip
        parser.add_argument("--result", type=Path, help="default: FILE.result.csv")
        super().add_arguments(parser)

    def plan(self, options: dict[str, Any]) -> Plan:
        file: Path | None = options["file"]
        if file is None:
            raise BulkRefused("Name the spreadsheet: manage.py update_users FILE.csv")
        reading = spreadsheet.read(file, new_address=options["new_address"])
        if reading.bad:
            for bad in reading.bad:
                self.stderr.write(str(bad))
            raise BulkRefused(
                f"{len(reading.bad)} things are wrong with {file}. Nothing was changed; "
                "correct them and run it again."
            )
        self.keys = reading.keys
        return reading.plan(file)

    def prepare(self, plan: Plan, options: dict[str, Any]) -> dict[str, Any]:
        """The result file is written before the first change, so that it can be."""
        file = options["file"] or options["plan_file"] or Path(f"undo-of-{options['undo']}.csv")
        result = options["result"] or file.with_suffix(".result.csv")
        keys = self.keys or {row.line: row.label for row in plan.rows if row.line}
        results.write(result, {line: Result(key) for line, key in keys.items()})
        return {"result": str(result.resolve())}

    def applied(self, run: BulkRun) -> None:
        file = Path(run.options["result"])
        results.write(file, results.of_run(results.read(file), run))
        self.stderr.write(f"What became of each line stands in {file}.")
