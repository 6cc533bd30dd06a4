"""Read a whole spreadsheet, and collect everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from users.errors import BulkRefused
from users.sync.bulk.plan import counted
from users.sync.bulk.results import Result
from users.sync.bulk.spreadsheet.files import open_sheet
from users.sync.bulk.spreadsheet.header import Header, read_header
from users.sync.bulk.spreadsheet.sheet import Fault, Row, Sheet, Unreadable
from users.sync.mirror import comparison

CHUNK = 2000
MOST_COLUMNS = 1_000


@dataclass(frozen=True)
class Options:
    """How to read a file, as its user states it."""

    encoding: str = ""
    ignore_unknown: bool = False


@dataclass
class Reading:
    """State of reading a file: how it was read, its faults, and a result for each valid line."""

    file: Path
    notes: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    results: dict[int, Result] = field(default_factory=dict)

    def add(self, *faults: Fault) -> None:
        """Add faults."""
        self.faults += faults

    def check(self) -> None:
        """Raise `FileRefused` with all faults in the order of their lines."""
        if self.faults:
            raise FileRefused(self)


class FileRefused(BulkRefused):
    """A spreadsheet with faults. Nothing was changed, and Clerk was not asked."""

    def __init__(self, reading: Reading) -> None:
        self.notes = tuple(reading.notes)
        self.faults = sorted(reading.faults, key=lambda fault: fault.line)
        count = len(self.faults)
        wrong = "1 thing is wrong" if count == 1 else f"{count:,} things are wrong"
        them = "it" if count == 1 else "them"
        super().__init__(
            f"{wrong} with {reading.file}. Nothing was changed. Correct {them} and run it again."
        )


@dataclass(frozen=True)
class Line:
    """The texts of one line by field."""

    number: int
    cells: dict[str, str]


class Purpose(Protocol):
    """What the lines of a file are used for."""

    @property
    def known(self) -> Collection[str]:
        """Return the fields that the columns may hold."""

    @property
    def unread(self) -> Collection[str]:
        """Return other fields of ours that the columns may hold, and that are not read."""

    def lacks(self, header: Header) -> Iterator[str]:
        """Yield a phrase for each thing that the columns lack."""

    def take(self, header: Header, lines: list[Line]) -> None:
        """Interpret the next lines, and collect what is wrong with them."""


def read(reading: Reading, options: Options, purpose: Purpose) -> None:
    """Read the file, and pass its lines to `purpose`, a chunk at a time.

    Blank lines and blank columns are left out. If the columns lack something, no lines are passed
    on. Raises `BulkRefused` for a file that cannot be read at all.
    """
    with open_sheet(reading.file, encoding=options.encoding) as sheet:
        reading.notes.append(sheet.read_as)
        _read(sheet, reading, options, purpose)


def _read(sheet: Sheet, reading: Reading, options: Options, purpose: Purpose) -> None:
    rows = _filled_rows(sheet, reading)
    first = next(rows, None)
    if first is None and reading.faults:
        return  # not even the header can be read
    if first is None:
        raise BulkRefused(f"The file is empty: {reading.file} holds no text. Nothing was planned.")
    header, faults = read_header(
        first,
        known=purpose.known,
        unread=purpose.unread,
        ignore_unknown=options.ignore_unknown,
    )
    lacking = [Fault(header.line, reason) for reason in purpose.lacks(header)]
    reading.add(*faults, *lacking)
    if header.note:
        reading.notes.append(header.note)
    count = 0
    for chunk in _chunks(rows):
        count += len(chunk)
        whole = [row for row in chunk if _is_whole(row, header, sheet, reading)]
        if not lacking:
            purpose.take(header, [Line(row.line, header.cells(row)) for row in whole])
    if not count and not reading.faults:
        reading.add(Fault(header.line, "the file has a header row but no data rows"))
    reading.notes.append(f"{counted(count, 'line')} below the header.")


def _filled_rows(sheet: Sheet, reading: Reading) -> Iterator[Row]:
    """Yield the rows that are not blank, trimmed, as far as the file can be read."""
    try:
        for row in map(Row.trimmed, sheet.rows):
            if any(row.cells[MOST_COLUMNS:]):
                raise Unreadable(row.line, f"a row may have at most {MOST_COLUMNS:,} cells")
            if not row.blank:
                yield row
    except Unreadable as problem:
        reading.add(Fault(problem.line, str(problem)))


def _is_whole(row: Row, header: Header, sheet: Sheet, reading: Reading) -> bool:
    faults = list(header.faults_of(row, full_rows=sheet.full_rows))
    reading.add(*faults)
    return not faults


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def doubled(wanted: Iterable[tuple[int, str]], header: Header) -> Iterator[Fault]:
    """Yield a fault for each new address that two lines give.

    `wanted` holds the number and the address of each line.
    """
    first: dict[str, int] = {}
    for line, email in wanted:
        earlier = first.setdefault(comparison.normalized_email(email), line)
        if earlier != line:
            yield Fault(line, f"line {earlier} has {email} too", header.label("email"))
