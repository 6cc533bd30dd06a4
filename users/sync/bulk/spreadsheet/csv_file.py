"""Read CSV in the encodings and with the separators that spreadsheets write."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from itertools import chain
from typing import BinaryIO

from charset_normalizer import from_bytes

from users.errors import BulkRefused
from users.sync.bulk.spreadsheet.sheet import Row, Sheet, Unreadable

BLOCK = 1 << 16
CHECK_THE_NAMES = "check the names with accents"
CANNOT_BE_TOLD = (
    "is not a spreadsheet in an encoding that can be told. Save it as .xlsx or as “CSV UTF-8”"
)
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n?\Z', re.IGNORECASE)
"""A first line that Excel writes and reads before the header."""

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
         (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
ASSUMED = ("cp1252", "utf_16_le", "utf_16_be")
"""Encodings to consider for a file without a byte order mark that is not UTF-8."""
NAMES = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "utf_16_le": "UTF-16",
    "utf_16_be": "UTF-16",
    "cp1252": "Windows-1252 (Western European)",
}


@dataclass(frozen=True)
class Encoding:
    """Encoding of a file; `assumed` means that the file itself does not state it."""

    codec: str
    assumed: bool = False

    @property
    def name(self) -> str:
        """Return the name of the encoding for people."""
        return NAMES.get(self.codec, self.codec)


def opened(raw: BinaryIO, name: str, *, encoding: str) -> Sheet:
    """Open a CSV file. Raises `BulkRefused` when the encoding cannot be detected.

    An empty `encoding` is detected.
    """
    found = _given(encoding) if encoding else _found(raw, name)
    text = TextIOWrapper(raw, encoding=found.codec, newline="")
    try:
        above, first = _first_record(text)
    except UnicodeError:
        raise _other_encoding(name, found) from None
    if first and (given := SEPARATOR_LINE.match(first[0])):
        above, first, separator = above + 1, first[1:], given[1]
    else:
        separator = max(SEPARATORS, key=lambda one: len(_split(first, one)))
    lines = chain(first, text)
    read_as = (
        f"{name} was read as CSV in {found.name}, separated by "
        f"{SEPARATORS.get(separator, f'“{separator}”')}."
    )
    if found.assumed:
        read_as += f" The file does not say in which encoding it is written: {CHECK_THE_NAMES}."
    return Sheet(_rows(lines, separator, above, name, found), read_as, full_rows=True)


def _first_record(text: TextIOWrapper) -> tuple[int, list[str]]:
    """Return the number of empty lines at the top, and the lines of the first record.

    A header may have line breaks in its quotes. A quote that never ends is followed no further than
    a cell may be long.
    """
    above, record, length, quotes = 0, list[str](), 0, 0
    while line := text.readline():
        if not record and not line.strip():
            above += 1
            continue
        record.append(line)
        length, quotes = length + len(line), quotes + line.count('"')
        if quotes % 2 == 0 or length > csv.field_size_limit():
            break
    return above, record


def _split(lines: Sequence[str], separator: str) -> list[str]:
    """Return the cells of a record; none if it is not CSV, which the reader of the rows reports."""
    try:
        return next(csv.reader(lines, delimiter=separator), [])
    except csv.Error:
        return []


def _rows(
    lines: Iterator[str], separator: str, above: int, name: str, encoding: Encoding
) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        line = above + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            reason = f"this is not CSV ({error}). Nothing below it could be read"
            raise Unreadable(line, reason) from None
        except UnicodeError:
            raise _other_encoding(name, encoding) from None
        if cells is None:
            return
        yield Row(line, tuple(cells))


# --- Encodings -----------------------------------------------------------------------------------


def _found(raw: BinaryIO, name: str) -> Encoding:
    """Detect the encoding: by its mark, else UTF-8 if all of it is valid, else by its letters."""
    start = raw.read(BLOCK)
    raw.seek(0)
    for mark, codec in MARKS:
        if start.startswith(mark):
            return Encoding(codec)
    if b"\0" not in start and _is_utf_8(raw):
        return Encoding("utf-8")
    best = from_bytes(raw.read(), cp_isolation=list(ASSUMED)).best()
    raw.seek(0)
    if best is None:
        raise BulkRefused(f"{name} {CANNOT_BE_TOLD}.")
    return Encoding(best.encoding, assumed=True)


def _is_utf_8(raw: BinaryIO) -> bool:
    """Return whether the whole file is valid UTF-8; it is read in blocks, as files may be large."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while block := raw.read(BLOCK):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    finally:
        raw.seek(0)
    return True


def _given(encoding: str) -> Encoding:
    try:
        TextIOWrapper(BytesIO(), encoding=encoding)  # refuses codecs that are not of text: base64
        return Encoding(codecs.lookup(encoding).name)
    except LookupError:
        raise BulkRefused(f"There is no encoding {encoding}: try utf-8 or cp1252.") from None


def _other_encoding(name: str, encoding: Encoding) -> BulkRefused:
    return BulkRefused(
        f"{name} is not {encoding.name} throughout. Save it as .xlsx or as “CSV UTF-8”."
    )
