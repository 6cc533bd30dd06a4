"""The base of the commands that read a spreadsheet: options, errors, result file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from django.core.management.base import CommandParser

from users.errors import BulkRefused
from users.management import report
from users.management.bulk import SHOWN, BulkCommand, BulkOptions
from users.management.hints import with_hints
from users.models import BulkRun, OperationKind
from users.sync.bulk import results
from users.sync.bulk.results import Result
from users.sync.bulk.spreadsheet.reading import FileRefused, Options
from users.sync.display import time_text, visible
from users.sync.services import invitation_limit

ABOUT_FILES = (
    "The file is CSV (UTF-8, UTF-16 or Windows-1252; commas, semicolons or tabs) or an Excel "
    "workbook (.xlsx). Its first line names the columns; usual other names are understood, and "
    "the plan says how. Everything that is wrong is said at once, with line and column, before "
    "Clerk is asked anything; it stands in the result file as well. "
)


class FileOptions(BulkOptions):
    """The options of a command whose plan comes from a spreadsheet."""

    encoding: str
    ignore_unknown_columns: bool


FileOptionsT = TypeVar("FileOptionsT", bound=FileOptions)


def refuse_result(options: BulkOptions) -> None:
    """Refuse a result file for a plan that does not come from a spreadsheet.

    Raises `BulkRefused`.
    """
    if options["result"]:
        raise BulkRefused(
            "--result needs a spreadsheet, as it has a line for each of its lines. Nothing was "
            "changed; `runs export` writes the rows of a run."
        )


def refuse_reading(options: FileOptions) -> None:
    """Refuse options for reading a spreadsheet where there is none.

    Raises `BulkRefused`.
    """
    for name in ("encoding", "ignore_unknown_columns"):
        if options[name]:
            raise BulkRefused(
                f"--{name.replace('_', '-')} needs a spreadsheet. Nothing was changed."
            )


class SpreadsheetCommand(BulkCommand[FileOptionsT]):
    """A bulk command whose plan comes from a file."""

    keys = (*BulkCommand.keys, "notes", "errors")

    lines: Mapping[int, Result] = {}
    """The result of each line of the file, if nothing is done for it."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the file and the options for reading it."""
        parser.add_argument("file", type=Path, nargs="?", help="CSV or .xlsx")
        parser.add_argument(
            "--ignore-unknown-columns", action="store_true",
            help="leave out columns that are not known; the plan names them",
        )  # fmt: skip
        parser.add_argument(
            "--encoding", default="", help="of a CSV file; by default it is found out"
        )
        parser.add_argument("--result", type=Path, help="a new file; default: FILE.result.RUN.csv")
        super().add_arguments(parser)

    def read(self, options: FileOptionsT) -> None:
        """Read the file, and report all its errors at once.

        Raises `FileRefused` and `BulkRefused`.
        """
        file: Path | None = options["file"]
        if file is None:
            raise BulkRefused(f"Name the spreadsheet: manage.py {self.name} FILE.csv")
        how = Options(options["encoding"], options["ignore_unknown_columns"])
        try:
            self.read_file(file, how, options)
        except FileRefused as refused:
            self._tell(refused, options["result"] or results.path_for(file), options)
            raise

    def read_file(self, file: Path, how: Options, options: FileOptionsT) -> None:
        """Read the file.

        Raises `FileRefused` with all errors of the file, and `BulkRefused`.
        """
        raise NotImplementedError

    def _tell(self, refused: FileRefused, file: Path, options: FileOptionsT) -> None:
        """Report all errors: in the document or on the terminal, and in the result file.

        They are told, too, where no file can be written beside the spreadsheet.
        """
        wrong: dict[int, Result] = {}
        for fault in refused.faults:
            message = with_hints(fault.message)
            said = f"{fault.column}: {message}" if fault.column else message
            before = wrong.get(fault.line)
            reason = f"{before.reason}; {said}" if before else said
            wrong[fault.line] = Result("", "wrong", reason)
        if options["json"]:
            self.known |= report.faults_of(refused)
        else:
            for text in (*refused.notes, *map(str, refused.faults[:SHOWN])):
                self.stderr.write(visible(with_hints(text)))
            if (more := len(refused.faults) - SHOWN) > 0:
                self.stderr.write(f"… and {more} more.")
        try:
            results.write(file, wrong)
        except BulkRefused as problem:
            self.stderr.write(visible(str(problem)))
        else:
            if not options["json"]:
                self.stderr.write(visible(f"All of it stands in {file}."))

    def begin(self, run: BulkRun, options: FileOptionsT) -> None:
        """Write the result file before the first change, to prove that it can be written.

        There is no result file for a plan that came from no file.

        Raises `BulkRefused`.
        """
        planned = run.rows.filter(line__isnull=False).values_list("line", "label")
        lines = self.lines or {line: Result(label) for line, label in planned if line is not None}
        if not lines:
            refuse_result(options)
            return
        source = options["file"] or options["plan_file"] or Path(f"undo-of-{options['undo']}.csv")
        file = options["result"] or results.path_for(source, run)
        results.write(file, lines)
        run.options["result"] = str(file.resolve())
        run.save(update_fields=["options"])

    def nothing_to_do(self, options: FileOptionsT) -> None:
        """Write the result file of a plan without changes."""
        if options["file"]:
            results.write(options["result"] or results.path_for(options["file"]), self.lines)

    def applied(self, run: BulkRun) -> None:
        """Report the invitations that wait, and write the result of each line."""
        if run.rows.filter(
            operation__in=[OperationKind.INVITE, OperationKind.CREATE_INVITED]
        ).exists():
            self._tell_what_waits()
        if "result" in run.options:
            self._write_result(run, Path(run.options["result"]))

    def _tell_what_waits(self) -> None:
        if not self._quiet and (last := invitation_limit.last_sent_at()):
            self.stderr.write(
                f"Invitations wait, as Clerk takes {invitation_limit.PER_HOUR} an hour. The worker "
                f"sends them; the last one about {time_text(last)}."
            )

    def _write_result(self, run: BulkRun, file: Path) -> None:
        try:
            results.write(file, results.of_run(results.read(file), run))
        except BulkRefused as problem:
            self.stderr.write(
                visible(f"{problem} The rows of run {run.pk} in the admin say the same.")
            )
        else:
            if not self._quiet:
                self.stderr.write(visible(f"What became of each line stands in {file}."))
