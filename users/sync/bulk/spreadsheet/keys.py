"""Find the user of each line of a spreadsheet by `id`, else `clerk_id`, else `email`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from users.models import BuilderUser
from users.sync.bulk.spreadsheet.header import Header
from users.sync.bulk.spreadsheet.reading import Line
from users.sync.bulk.spreadsheet.sheet import Fault
from users.sync.mirror import comparison

KEYS = ("id", "clerk_id", "email")


def key_of(header: Header) -> str:
    """Return the column that is the key of a file, empty if it has none."""
    return next((key for key in KEYS if key in header.fields), "")


def lacks_key(header: Header) -> Iterator[str]:
    """Yield a sentence if the file has no key."""
    if not key_of(header):
        yield f"no key: one of the columns {', '.join(KEYS)} is needed"


def normalized(key: str, text: str) -> str:
    """Return the key in the form in which it is compared; empty for a text that cannot be one."""
    if key == "id":
        try:
            return str(uuid.UUID(text))
        except ValueError:
            return ""
    if "\0" in text:
        return ""
    return comparison.normalized_email(text) if key == "email" else text


class Keyed:
    """Finds the users of lines; two lines must not name the same user."""

    def __init__(self) -> None:
        self._first_lines: dict[uuid.UUID, int] = {}

    def find(
        self, header: Header, lines: list[Line]
    ) -> Iterator[tuple[Line, BuilderUser | None, list[Fault]]]:
        """Yield each line with its user, if there is one, and with what is wrong with its key."""
        key = key_of(header)
        users = _users(key, lines)
        for line in lines:
            user = users.get(normalized(key, line.cells[key]))
            wrong = self._problem(line, key, user)
            faults = [Fault(line.number, wrong, header.label(key))] if wrong else []
            yield line, user, faults

    def _problem(self, line: Line, key: str, user: BuilderUser | None) -> str:
        """Return what is wrong with the key of a line; empty for nothing."""
        text = line.cells[key]
        if not text:
            return f"no {key}"
        if user is None:
            return f"no user has the {key} “{text}”"
        if (first := self._first_lines.setdefault(user.pk, line.number)) != line.number:
            return f"the same user as in line {first}"
        return ""


def _users(key: str, lines: list[Line]) -> dict[str, BuilderUser]:
    keys = {normalized(key, line.cells[key]) for line in lines} - {""}
    users = BuilderUser.objects.all()
    if key == "id":
        found = users.in_bulk([uuid.UUID(one) for one in keys])
        return {str(pk): user for pk, user in found.items()}
    if key == "clerk_id":
        return {user.clerk_id or "": user for user in users.filter(clerk_id__in=keys)}
    found_by_email = comparison.with_email(users, *keys)
    return {comparison.normalized_email(user.email): user for user in found_by_email}
