"""Read a spreadsheet that names users, for `clerk_action`.

All keys of a line must name the same user, so that a line whose cells were shifted does not act on
another user. Columns of an export that do not identify the user are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from users.models import BuilderUser
from users.sync.bulk.actions import People
from users.sync.bulk.results import Result
from users.sync.bulk.spreadsheet import reading
from users.sync.bulk.spreadsheet.header import FIELD_OF, Header
from users.sync.bulk.spreadsheet.keys import KEYS, Keyed, key_of, lacks_key, normalized
from users.sync.bulk.spreadsheet.reading import Line, Options, Reading
from users.sync.bulk.spreadsheet.sheet import Fault


def read(file: Path, *, options: Options) -> People:
    """Read the whole file.

    Raises `FileRefused` with everything that is wrong with the file, and `BulkRefused` when the
    file cannot be read.
    """
    sheet = Reading(file)
    people = People(file=file.name, results=sheet.results, notes=sheet.notes)
    reading.read(sheet, options, _People(sheet, people))
    sheet.check()
    return people


class _People:
    """Collects the users that the lines name."""

    known = frozenset(KEYS)
    unread = frozenset(FIELD_OF.values()) - known

    def __init__(self, sheet: Reading, people: People) -> None:
        self._sheet = sheet
        self._people = people
        self._keyed = Keyed()

    def lacks(self, header: Header) -> Iterator[str]:
        """Yield a phrase if the file has no key."""
        yield from lacks_key(header)

    def take(self, header: Header, lines: list[Line]) -> None:
        """Add the users of lines, and what is wrong with their keys."""
        key = key_of(header)
        for line, user, faults in self._keyed.find(header, lines):
            self._sheet.add(*faults)
            if user is None:
                continue
            self._sheet.add(*_differing(user, line, header))
            self._people.lines[user.pk] = line.number
            self._people.results[line.number] = Result(line.cells[key])


def _differing(user: BuilderUser, line: Line, header: Header) -> Iterator[Fault]:
    """Yield a fault for each key of the line that is not the user's."""
    stored = {"id": str(user.pk), "clerk_id": user.clerk_id or "", "email": user.email}
    for key in KEYS:
        given = line.cells.get(key)
        if given and normalized(key, given) != normalized(key, stored[key]):
            message = f"“{user}” has another {key}: is this line about one person?"
            yield Fault(line.number, message, header.label(key))
