"""Corrections from a spreadsheet: `manage.py update_users FILE.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from users.errors import BulkRefused
from users.management.bulk import BulkCommand
from users.management.options import add_choice
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
    examples = ("update_users fixes.csv", "update_users fixes.csv --apply --limit 5")
    keys: dict[int, str] = {}

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", help="CSV in UTF-8; commas or semicolons")
        parser.add_argument(
            "--new-address", choices=list(spreadsheet.WAYS), default="",
            help="for lines that do not say it themselves",
        )  # fmt: skip
        parser.add_argument("--result", type=Path, help="a new file; default: FILE.result.RUN.csv")
        add_choice(parser)
        super().add_arguments(parser)

    def plan(self, options: dict[str, Any]) -> Plan:
        file: Path | None = options["file"]
        if (result := options["result"]) and result.exists():
            raise BulkRefused(f"{result} exists. Nothing was changed; give --result a new name.")
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

    def begin(self, run: BulkRun, options: dict[str, Any]) -> None:
        """Write the result file before the first change, so that it can be written."""
        source = options["file"] or options["plan_file"] or Path(f"undo-of-{options['undo']}.csv")
        file = options["result"] or results.path_for(source, run)
        lines = run.rows.filter(line__isnull=False).values_list("line", "label")
        keys = self.keys or {line: label for line, label in lines if line is not None}
        results.write(file, {line: Result(key) for line, key in keys.items()})
        run.options["result"] = str(file.resolve())
        run.save(update_fields=["options"])

    def nothing_to_do(self, options: dict[str, Any]) -> None:
        if options["file"]:
            file = options["result"] or results.path_for(options["file"])
            results.write(file, {line: Result(key) for line, key in self.keys.items()})

    def applied(self, run: BulkRun) -> None:
        file = Path(run.options["result"])
        try:
            results.write(file, results.of_run(results.read(file), run))
        except BulkRefused as problem:
            self.stderr.write(f"{problem} The rows of run {run.pk} in the admin say the same.")
        else:
            if not self._quiet:
                self.stderr.write(f"What became of each line stands in {file}.")
