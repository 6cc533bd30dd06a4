"""Plan the changes of a spreadsheet that somebody uploads on a page."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from users.errors import BulkRefused
from users.sync.actors import Actor
from users.sync.bulk.allowed import only_allowed
from users.sync.bulk.clerk_values import with_clerk_values
from users.sync.bulk.list_actions import MOST
from users.sync.bulk.plan import Plan
from users.sync.bulk.spreadsheet import updates
from users.sync.bulk.spreadsheet.header import CAN_BE_LEFT_OUT
from users.sync.bulk.spreadsheet.reading import FileRefused, Options
from users.sync.bulk.spreadsheet.sheet import Fault
from users.sync.bulk.spreadsheet.updates import IN_ITS_COLUMN

UNPACKED = 50 * 2**20
"""The most bytes that the parts of a workbook may have when they are unpacked."""
LONGEST_NAME = 200
"""The most bytes of the name of a file."""
_ON_THE_PAGE: Mapping[str, str] = {
    CAN_BE_LEFT_OUT: "“Leave out unknown columns” leaves it out",
    IN_ITS_COLUMN: f"{IN_ITS_COLUMN}, or choose it at “New emails”",
}
"""Advice, and how the page puts it."""


class UploadRefused(BulkRefused):
    """A spreadsheet with faults. Nothing was changed."""

    def __init__(self, message: str, faults: Iterable[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


def plan_upload(
    name: str, chunks: Iterable[bytes], *, options: Options, new_address: str, actor: Actor
) -> Plan:
    """Plan what the file changes, as far as the actor may do it.

    Raises `UploadRefused` with everything that is wrong with the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _storable(name)
        with file.open("wb") as written:
            written.writelines(chunks)
        _check_size(file)
        try:
            plan, results = updates.read(file, options=options, new_address=new_address)
        except FileRefused as refused:
            raise UploadRefused(
                _summary(file.name, refused), map(_on_the_page, refused.faults)
            ) from None
        except BulkRefused as refused:
            raise UploadRefused(str(refused).replace(str(file), file.name)) from None
    if len(plan.rows) > MOST:
        raise UploadRefused(
            f"{name} has {len(plan.rows):,} changes, and the limit is {MOST:,}. Nothing was "
            "changed. Ask an engineer: the command line has no such limit."
        )
    same = len(results) - len({row.line for row in plan.rows})
    notes = (f"Lines that change nothing: {same:,}.",) if same else ()
    plan = replace(with_clerk_values(plan), notes=(*plan.notes, *notes))
    return only_allowed(plan, actor=actor)


def _storable(name: str) -> str:
    """Return the name, cut to what a folder takes: browsers send longer ones, in bytes."""
    return os.path.basename(name).encode()[:LONGEST_NAME].decode(errors="ignore")


def _check_size(file: Path) -> None:
    try:
        with ZipFile(file) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    except BadZipFile:
        return
    if unpacked > UNPACKED:
        raise UploadRefused(f"{file.name} is too large when it is unpacked. Nothing was changed.")


def _summary(name: str, refused: FileRefused) -> str:
    count = len(refused.faults)
    wrong, them = ("1 thing is", "it") if count == 1 else (f"{count:,} things are", "them")
    return (
        f"{wrong} wrong with {name}. Nothing was changed. Correct {them} and upload the file again."
    )


def _on_the_page(fault: Fault) -> Fault:
    message = fault.message
    for advice, words in _ON_THE_PAGE.items():
        message = message.replace(advice, words)
    return replace(fault, message=message)
