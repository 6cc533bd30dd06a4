"""Read Excel workbooks (.xlsx): the values that Excel shows, as texts."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, time, timedelta
from lzma import LZMAError
from typing import BinaryIO, Protocol
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

from openpyxl import load_workbook

from users.errors import BulkRefused
from users.sync.bulk.spreadsheet.sheet import Row, Sheet, Unreadable

BROKEN = (
    ArithmeticError, AttributeError, BadZipFile, EOFError, LookupError, LZMAError, OSError,
    ParseError, RuntimeError, TypeError, ValueError, ZlibError,
)  # fmt: skip
"""Exceptions that openpyxl raises for a file that is incomplete or not a workbook.

`OSError` is a document of another program, `RuntimeError` an archive that is encrypted or packed in
a way that Python does not know.
"""


BLOCK = 1 << 16
MOST_ROWS, MOST_CELLS = 1_048_576, 50_000_000
"""Excel has no more rows. openpyxl makes up all empty rows before a row with a large number, and
all empty cells before a cell: without limits, a small file could be read for ever.
"""
FORMULA = re.compile(rb"<(\w{1,8}:)?f[ >/]")
HIDDEN = re.compile(rb"<(\w{1,8}:)?(row|col) [^<>]*\bhidden=[\"'](1|true)")
MERGED = re.compile(rb"<(\w{1,8}:)?mergeCell ")
LONGEST_MARK = 1024
"""Bytes of the longest mark, which may be split over two blocks."""
ESCAPED = re.compile(r"_x(?!0000)([0-9A-Fa-f]{4})_")
"""How Excel stores a character that XML cannot hold, such as the end of a line of Windows."""
NOTES = {
    HIDDEN: " Hidden rows and columns are read as well.",
    MERGED: " Of merged cells only the first one counts; the others are empty.",
}
"""What a reader who looks at the sheet in Excel would not expect."""


@contextmanager
def opened(raw: BinaryIO, name: str) -> Iterator[Sheet]:
    """Open the first visible sheet. Raises `BulkRefused`.

    A sheet with formulas is read twice in parallel, for values and for formulas: a formula whose
    result was never stored has no value, and must not be taken for an empty cell.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions, which are not read
            values = load_workbook(raw, read_only=True, data_only=True)
            marks = _marks(raw)
            formulas = load_workbook(raw, read_only=True) if FORMULA in marks else None
            sheets = [sheet for sheet in values.worksheets if sheet.sheet_state == "visible"]
    except BROKEN:
        raise BulkRefused(f"{name} is not an Excel workbook that can be read.") from None
    if not sheets:
        raise BulkRefused(f"{name} has no visible sheet.")
    read, *others = sheets
    read_as = f"{name} was read as an Excel workbook, sheet “{read.title}”."
    if others:
        read_as += f" Not read: {', '.join(f'“{sheet.title}”' for sheet in others)}."
    read_as += "".join(note for mark, note in NOTES.items() if mark in marks)
    try:
        written = formulas[read.title] if formulas else None
        yield Sheet(_rows(read, written), read_as, full_rows=False)
    finally:
        values.close()
        if formulas:
            formulas.close()


def _marks(raw: BinaryIO) -> set[re.Pattern[bytes]]:
    """Return which of the marks any sheet has.

    This takes a tenth of the time of reading the formulas.
    """
    found: set[re.Pattern[bytes]] = set()
    with ZipFile(raw) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/") and name.endswith(".xml"):
                with archive.open(name) as part:
                    before = b""
                    while block := part.read(BLOCK):
                        text = before + block
                        wanted = {FORMULA, HIDDEN, MERGED} - found
                        found |= {mark for mark in wanted if mark.search(text)}
                        before = block[-LONGEST_MARK:]
    return found


class _Sheet(Protocol):
    """What is used of a worksheet of openpyxl."""

    def reset_dimensions(self) -> None: ...

    def iter_rows(self, *, values_only: bool) -> Iterable[tuple[object, ...]]: ...


def _rows(values: _Sheet, formulas: _Sheet | None) -> Iterator[Row]:
    line = cells = 0
    try:
        for line, (shown, written) in enumerate(_both(values, formulas), start=1):
            cells += len(shown)
            if line > MOST_ROWS or cells > MOST_CELLS:
                most = f"{MOST_ROWS:,} rows and {MOST_CELLS:,} cells"
                raise Unreadable(line, f"a sheet may have at most {most}")
            yield Row(line, _without_empty_end(tuple(map(_text, shown, written))))
    except BROKEN:
        raise Unreadable(line + 1, "the workbook is broken from here on") from None


def _both(
    values: _Sheet, formulas: _Sheet | None
) -> Iterator[tuple[tuple[object, ...], tuple[object, ...]]]:
    """Yield the values of each row beside its formulas; without formulas, both are the values."""
    values.reset_dimensions()  # other programs write wrong ones, which would hide rows
    if formulas is None:
        yield from ((row, row) for row in values.iter_rows(values_only=True))
        return
    formulas.reset_dimensions()
    yield from zip(
        values.iter_rows(values_only=True), formulas.iter_rows(values_only=True), strict=True
    )


def _without_empty_end(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return the cells up to the last text: whoever formats a whole row fills it with cells."""
    return cells[: max((place for place, cell in enumerate(cells, start=1) if cell), default=0)]


def _text(shown: object, written: object) -> str:
    """Return what Excel shows in a cell, in a form that does not depend on the cell's format.

    If no result of a formula is stored, return the formula itself.
    """
    match shown:
        case None:
            return _formula(written)
        case str():
            return _unescaped(shown)
        case bool():
            return str(shown).upper()
        case datetime() if shown.time() == time():
            return shown.date().isoformat()
        case datetime():
            return shown.isoformat(sep=" ")
        case timedelta():  # Python writes days as a word, which looks like a name
            minutes, seconds = divmod(round(shown.total_seconds()), 60)
            return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        case float() if shown.is_integer():
            return str(int(shown))
    return str(shown)


def _unescaped(text: str) -> str:
    if "_x" not in text:
        return text
    decoded = ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    # The escapes are of UTF-16: two may be one character.
    return decoded.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _formula(written: object) -> str:
    if written is None:
        return ""
    return str(getattr(written, "text", None) or written)  # an array formula holds its text
