"""A spreadsheet of corrections, read as a whole before anything happens.

The first line names the columns. The key is `id`, else `clerk_id`, else `email`; a `clerk_id`
beside `id` is compared, so that an export of another instance is noticed. An empty cell leaves
a field as it is; `(none)` empties a group or an internal role.
"""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError

from users.errors import BulkRefused
from users.models import BuilderUser, InternalRole, Role
from users.models import Operation as Kind
from users.sync.bulk.choosing import Groups
from users.sync.bulk.plan import Plan, Planned
from users.sync.mirror import comparison
from users.sync.operations.base import Changes
from users.validation import clean_email, clean_name, clean_roles
from users.version import same, value_of

KEYS = ("id", "clerk_id", "email")
FIELDS = ("name", "email", "role", "internal_role", "builder_group")
NEW_ADDRESS = "new_address"
NONE = "(none)"
CHUNK = 2000
WAYS = {"replace": Kind.REPLACE_EMAIL, "invite": Kind.INVITE}
"""What becomes of the sign-in of a linked user with a new address, as on *Change email*."""


@dataclass(frozen=True)
class BadRow:
    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


@dataclass
class Reading:
    """A spreadsheet read and compared: what would change, the lines that change nothing
    (`{line: key}`), and what is wrong with it."""

    rows: list[Planned] = field(default_factory=list)
    keys: dict[int, str] = field(default_factory=dict)
    bad: list[BadRow] = field(default_factory=list)

    def plan(self, file: Path) -> Plan:
        return Plan("update_users", tuple(self.rows), options={"file": file.name})


@dataclass(frozen=True)
class _Line:
    number: int
    key: str
    cells: dict[str, str]


def read(file: Path, *, new_address: str = "") -> Reading:
    """Read all of it and compare it with the rows; nothing is changed.

    `new_address` is the way of `WAYS` for lines that name none. Raises `BulkRefused` for a file
    that cannot be read at all; what is wrong with single lines is all in `bad`.
    """
    reading = Reading()
    try:
        with file.open("rb") as raw:
            text = TextIOWrapper(raw, encoding="utf-8-sig", newline="")
            _read(text, reading, new_address)
    except OSError as error:
        raise BulkRefused(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BulkRefused(f"{file} is not UTF-8. Save it as “CSV UTF-8”.") from None
    except csv.Error as error:
        raise BulkRefused(f"{file} is not a CSV file: {error}.") from None
    reading.bad += _taken(reading.rows)
    reading.bad.sort(key=lambda bad: bad.line)
    return reading


def _read(text: TextIOWrapper, reading: Reading, new_address: str) -> None:
    head = text.readline()
    text.seek(0)
    lines = csv.reader(text, delimiter=_delimiter(head), strict=True)
    columns = _columns(next(lines, []))
    key = _key_of(columns)
    comparison = _Comparison(key, Groups(), new_address, reading)
    chunk: list[_Line] = []
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            reading.bad.append(
                BadRow(lines.line_num, f"it has {len(cells)} cells, not {len(columns)}")
            )
            continue
        named = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
        chunk.append(_Line(lines.line_num, named[key], named))
        if len(chunk) == CHUNK:
            comparison.add(chunk)
            chunk = []
    comparison.add(chunk)
    if not reading.keys and not reading.bad:
        raise BulkRefused("The file has a head and no line below it. Nothing was planned.")


def _delimiter(head: str) -> str:
    """Spreadsheets of some countries write semicolons."""
    return max(",;\t", key=head.count)


def _columns(head: Sequence[str]) -> list[str]:
    """The names of the columns. Raises `BulkRefused` saying all that is wrong with them."""
    columns = [column.strip().lower() for column in head]
    if not any(columns):
        raise BulkRefused("The file is empty. Nothing was planned.")
    known = {*KEYS, *FIELDS, NEW_ADDRESS}
    wrong = [f"unknown column “{column}”" for column in columns if column not in known]
    wrong += [
        f"column “{column}” twice" for column in sorted(set(columns)) if columns.count(column) > 1
    ]
    if not any(key in columns for key in KEYS):
        wrong.append(f"no key: one of the columns {', '.join(KEYS)} is needed")
    elif not set(columns) & set(FIELDS) - {_key_of(columns)}:
        wrong.append(f"nothing to change: none of the columns {', '.join(FIELDS)}")
    if wrong:
        raise BulkRefused(
            f"The columns cannot be used: {'; '.join(wrong)}. Known are "
            f"{', '.join(sorted(known))}. Nothing was planned."
        )
    return columns


def _key_of(columns: Sequence[str]) -> str:
    return next(key for key in KEYS if key in columns)


class _Comparison:
    """Lines held against the rows that they mean, a chunk at a time."""

    def __init__(self, key: str, groups: Groups, new_address: str, reading: Reading) -> None:
        self._key = key
        self._groups = groups
        self._new_address = new_address
        self._reading = reading
        self._first_lines: dict[str, int] = {}

    def add(self, lines: list[_Line]) -> None:
        users = self._users(lines)
        for line in lines:
            key = _normal(self._key, line.key)
            user = users.get(key)
            first = self._first_lines.setdefault(key, line.number) if user else line.number
            problems: list[str] = []
            if not line.key:
                problems.append(f"no {self._key}")
            elif user is None:
                problems.append(f"no user has the {self._key} “{line.key}”")
            elif first != line.number:
                problems.append(f"the same user as in line {first}")
            else:
                planned = list(self._compare(user, line, problems))
                if not problems:
                    self._reading.keys[line.number] = line.key
                    self._reading.rows += planned
            self._reading.bad += [BadRow(line.number, problem) for problem in problems]

    def _users(self, lines: list[_Line]) -> dict[str, BuilderUser]:
        keys = {_normal(self._key, line.key) for line in lines} - {""}
        users = BuilderUser.objects.all()
        if self._key == "id":
            found = users.in_bulk([uuid.UUID(key) for key in keys])
            return {str(pk): user for pk, user in found.items()}
        if self._key == "clerk_id":
            return {user.clerk_id or "": user for user in users.filter(clerk_id__in=keys)}
        found_by_email = comparison.with_email(users, *keys)
        return {comparison.normalized_email(user.email): user for user in found_by_email}

    def _compare(self, user: BuilderUser, line: _Line, problems: list[str]) -> Iterator[Planned]:
        """What the line changes of its user."""
        given = line.cells.get("clerk_id")
        if given and given != (user.clerk_id or ""):
            problems.append(f"{user} has another clerk_id: is this an export of this instance?")
        changes: Changes = {}
        for column in FIELDS:
            cell = line.cells.get(column)
            if not cell or column == self._key:
                continue
            before = value_of(user, column)
            if cell == str(before or "").strip():
                continue  # today's rules do not bind what is stored
            try:
                wanted = self._cleaned(column, cell)
            except ValidationError as error:
                problems.append(f"{column}: {' '.join(error.messages)}")
                continue
            if not same(column, before, wanted):
                changes[column] = [before, wanted]
        if "role" in changes or "internal_role" in changes:
            try:
                clean_roles(
                    changes.get("role", [None, user.role])[1],
                    changes.get("internal_role", [None, user.internal_role])[1],
                )
            except ValidationError as error:
                problems.append(f"internal_role: {' '.join(error.messages)} Give it as {NONE}.")
        way = line.cells.get(NEW_ADDRESS) or self._new_address
        if way and way not in WAYS:
            problems.append(f"{NEW_ADDRESS} must be {' or '.join(WAYS)}, not “{way}”")
        if user.linked and "email" in changes:
            email = changes.pop("email")
            if not way:
                problems.append(
                    f"{user} signs in with another address: say {' or '.join(WAYS)} in the column "
                    f"{NEW_ADDRESS}, or with --new-address"
                )
            elif way in WAYS:
                yield Planned.on(user, WAYS[way], {"email": email}, line.number)
        if changes:
            yield Planned.on(user, Kind.UPDATE, changes, line.number)

    def _cleaned(self, column: str, cell: str) -> Any:
        """The value as the column of the table holds it. Raises `ValidationError`."""
        if column == "name":
            return clean_name(cell)
        if column == "email":
            return clean_email(cell)
        if column == "role":
            return _choice(Role, cell)
        if cell.lower() == NONE:
            return None
        if column == "internal_role":
            return _choice(InternalRole, cell)
        try:
            return str(self._groups.get(cell).pk)
        except KeyError as error:
            raise ValidationError(f"there is no {error.args[0]}") from None


def _choice(choices: Any, cell: str) -> str:
    """By value or label, ignoring case."""
    for value, label in choices.choices:
        if cell.lower() in (value.lower(), label.lower()):
            return str(value)
    raise ValidationError(f"“{cell}” is none of {', '.join(choices.values)}")


def _normal(key: str, text: str) -> str:
    """The key as it is compared; "" for what cannot be one."""
    if key == "id":
        try:
            return str(uuid.UUID(text))
        except ValueError:
            return ""
    if "\0" in text:
        return ""
    return comparison.normalized_email(text) if key == "email" else text


def _taken(rows: Sequence[Planned]) -> Iterator[BadRow]:
    """New addresses that another user has, or that two lines give."""
    wanted = [(row.changes["email"][1], row) for row in rows if "email" in row.changes]
    owners: dict[str, str] = {}
    emails = [email for email, _ in wanted]
    for start in range(0, len(emails), CHUNK):
        taken = comparison.with_email(BuilderUser.objects.all(), *emails[start : start + CHUNK])
        for email, pk in taken.values_list("email", "pk"):
            owners[comparison.normalized_email(email)] = str(pk)
    lines: dict[str, int] = {}
    for email, row in wanted:
        line = row.line or 0
        key = comparison.normalized_email(email)
        if owners.get(key, row.user_id) != row.user_id:
            yield BadRow(line, f"email: another builder user has {email}")
        elif lines.setdefault(key, line) != line:
            yield BadRow(line, f"email: line {lines[key]} has {email} too")
