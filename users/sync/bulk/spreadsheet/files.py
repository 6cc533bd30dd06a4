"""Open a spreadsheet by its content, whatever its name is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from users.errors import BulkRefused
from users.sync.bulk.spreadsheet import csv_file, workbook
from users.sync.bulk.spreadsheet.sheet import Sheet

ZIP, OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


@contextmanager
def open_sheet(file: Path, *, encoding: str = "") -> Iterator[Sheet]:
    """Open a CSV file or an Excel workbook.

    `encoding` is that of a CSV file; by default it is detected. Raises `BulkRefused`; reading the
    rows raises `Unreadable`.
    """
    try:
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise BulkRefused(
                f"{file} cannot be read: it is a pipe or a device, and a spreadsheet is read more "
                "than once. Save it as a file."
            )
        raw = file.open("rb")
    except OSError as error:
        raise BulkRefused(f"{file} cannot be read: {error.strerror}.") from None
    with raw:
        start = raw.read(len(ZIP))
        raw.seek(0)
        if start == OLD_EXCEL:
            raise BulkRefused(
                f"{file} is an old Excel file (.xls), or protected by a password. Save it as .xlsx "
                "or as “CSV UTF-8”."
            )
        if start == ZIP:
            if encoding:
                raise BulkRefused(
                    f"--encoding is for CSV files, and {file} is an Excel workbook. Nothing was "
                    "changed; leave --encoding out."
                )
            with workbook.opened(raw, file.name) as sheet:
                yield sheet
        else:
            yield csv_file.opened(raw, file.name, encoding=encoding)
