"""Compare a spreadsheet of corrections with the users that its lines name.

The key is `id`, else `clerk_id`, else `email`. A `clerk_id` beside `id` is compared, so that an
export of another instance is noticed. An empty cell leaves a field as it is; `(none)` empties a
group or an internal role.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from django.core.exceptions import ValidationError

from users.changes import Change, Changes
from users.models import BuilderUser, OperationKind
from users.sync.bulk.plan import Plan, Planned
from users.sync.bulk.results import Result
from users.sync.bulk.spreadsheet import reading
from users.sync.bulk.spreadsheet.cells import NONE, ROLES, Cells, text_of
from users.sync.bulk.spreadsheet.header import PARTS, Header
from users.sync.bulk.spreadsheet.keys import KEYS, Keyed, key_of, lacks_key
from users.sync.bulk.spreadsheet.reading import Line, Options, Reading
from users.sync.bulk.spreadsheet.sheet import Fault
from users.sync.mirror import comparison
from users.validation import clean_roles, trimmed
from users.version import same, value_of

FIELDS = ("name", "email", "role", "internal_role", "builder_group")
NEW_ADDRESS = "new_address"
IN_ITS_COLUMN = f"in the column {NEW_ADDRESS}"
WAYS = {"replace": OperationKind.REPLACE_EMAIL, "invite": OperationKind.INVITE}
"""What happens to the sign-in of a linked user with a new address, as on *Change email*."""


def read(
    file: Path, *, options: Options, new_address: str = ""
) -> tuple[Plan, Mapping[int, Result]]:
    """Read the whole file, compare it with the rows, and return the plan.

    Also return a result for every line, which the run updates for lines with changes. `new_address`
    is the key of `WAYS` for lines that give none.

    Raises `FileRefused` with everything that is wrong with the file, and `BulkRefused` when the
    file cannot be read.
    """
    sheet = Reading(file)
    updates = _Updates(sheet, new_address)
    reading.read(sheet, options, updates)
    updates.check_addresses()
    sheet.check()
    plan = Plan(
        "update_users", tuple(updates.rows), tuple(sheet.notes), options={"file": file.name}
    )
    return plan, sheet.results


class _Updates:
    """Compares lines with the rows that they name, a chunk at a time."""

    known = frozenset({*KEYS, *FIELDS, *PARTS, NEW_ADDRESS})
    unread: frozenset[str] = frozenset()

    def __init__(self, sheet: Reading, new_address: str) -> None:
        self.rows: list[Planned] = []
        self._sheet = sheet
        self._new_address = new_address
        self._cells = Cells()
        self._keyed = Keyed()
        self._header: Header | None = None
        self._fields: list[str] = []

    def lacks(self, header: Header) -> Iterator[str]:
        """Yield a phrase if the file has no key, or no column to change."""
        yield from lacks_key(header)
        if (key := key_of(header)) and not header.fields & set(FIELDS) - {key}:
            named = f"; {header.export.title} has no new values" if header.export else ""
            yield f"nothing to change: none of the columns {', '.join(FIELDS)}{named}"

    def take(self, header: Header, lines: list[Line]) -> None:
        """Add the changes of some lines, and what is wrong with the lines."""
        self._header = header
        key = key_of(header)
        self._fields = [one for one in FIELDS if one in header.fields - {key}]
        for line, user, faults in self._keyed.find(header, lines):
            if user is None:
                faults += self._faults_of_cells(line, header)
            else:
                self.rows += self._compare(user, line, header, faults)
            self._sheet.results[line.number] = Result(line.cells[key])
            self._sheet.add(*faults)

    def _faults_of_cells(self, line: Line, header: Header) -> Iterator[Fault]:
        """Yield what is wrong with the cells of a line whose user is not found."""
        for field in self._fields:
            try:
                if text_of(field, line.cells):
                    self._cells.value(field, line.cells)
            except ValidationError as error:
                yield Fault(line.number, " ".join(error.messages), header.label(field))

    def _compare(
        self, user: BuilderUser, line: Line, header: Header, faults: list[Fault]
    ) -> Iterator[Planned]:
        """Yield the changes that the line makes to its user, and add what is wrong to `faults`."""

        def wrong(field: str, message: str) -> None:
            faults.append(Fault(line.number, message, header.label(field)))

        given = line.cells.get("clerk_id")
        if given and given != (user.clerk_id or ""):
            wrong("clerk_id", f"“{user}” has another clerk_id: is this an export of this instance?")
        changes: Changes = {}
        unread: set[str] = set()
        for field in self._fields:
            try:
                if change := self._change(user, field, line):
                    changes[field] = change
            except ValidationError as error:
                unread.add(field)
                wrong(field, " ".join(error.messages))
        if changes.keys() & ROLES and not unread & ROLES:
            try:
                role, internal_role = (
                    str((changes[name].after if name in changes else value_of(user, name)) or "")
                    for name in ("role", "internal_role")
                )
                clean_roles(role, internal_role)
            except ValidationError as error:
                wrong("internal_role", f"{' '.join(error.messages)} Give it as {NONE}.")
        way = line.cells.get(NEW_ADDRESS) or self._new_address
        if way and way not in WAYS:
            wrong(NEW_ADDRESS, f"it must be {' or '.join(WAYS)}, not “{way}”")
        if user.linked and "email" in changes:
            email = changes.pop("email")
            if not way:
                wrong(
                    "email",
                    f"“{user}” has a Clerk account, so a new email is a new sign-in: say "
                    f"{' or '.join(WAYS)} {IN_ITS_COLUMN}",
                )
            elif way in WAYS:
                yield Planned.on(user, WAYS[way], {"email": email}, line.number)
        if changes:
            yield Planned.on(user, OperationKind.UPDATE, changes, line.number)

    def _change(self, user: BuilderUser, field: str, line: Line) -> Change | None:
        """Return the value before and after, None if the cell changes nothing.

        Raises `ValidationError`.
        """
        cell = text_of(field, line.cells)
        before = value_of(user, field)
        # A stored value may stay as it is: today's rules do not apply to it.
        if not cell or cell == trimmed(str(before or "")):
            return None
        wanted = self._cells.value(field, line.cells)
        return None if same(field, before, wanted) else Change(before, wanted)

    def check_addresses(self) -> None:
        """Find new addresses that another user has, or that two lines give."""
        wanted = [row for row in self.rows if "email" in row.changes]
        if not wanted or self._header is None:
            return
        owners = _owners([str(row.changes["email"].after) for row in wanted])
        for row in wanted:
            email = str(row.changes["email"].after)
            if owners.get(comparison.normalized_email(email), row.user_id) != row.user_id:
                self._sheet.add(
                    Fault(row.line or 0, f"another builder user has {email}",
                          self._header.label("email"))
                )  # fmt: skip
        lines = [(row.line or 0, str(row.changes["email"].after)) for row in wanted]
        self._sheet.add(*reading.doubled(lines, self._header))


def _owners(emails: list[str]) -> dict[str, str]:
    """Return the ids of the users who have these addresses, by the normalized address."""
    owners: dict[str, str] = {}
    for start in range(0, len(emails), reading.CHUNK):
        chunk = emails[start : start + reading.CHUNK]
        taken = comparison.with_email(BuilderUser.objects.all(), *chunk)
        for email, pk in taken.values_list("email", "pk"):
            owners[comparison.normalized_email(email)] = str(pk)
    return owners
