"""Read a spreadsheet of new people, for `import_users`.

The email shows whether a person already exists here. An `id` or a `clerk_id`, as exports contain
them, shows it as well; a new person gets a new id.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db.models import Q

from users.models import BuilderUser, ClerkAccount, SignIn
from users.sync.bulk.creating import Defaults, left_out, plan_new
from users.sync.bulk.plan import Plan, Planned
from users.sync.bulk.results import Result
from users.sync.bulk.spreadsheet import reading
from users.sync.bulk.spreadsheet.cells import ROLES, Cells, text_of
from users.sync.bulk.spreadsheet.header import PARTS, Header
from users.sync.bulk.spreadsheet.reading import Line, Options, Reading
from users.sync.bulk.spreadsheet.sheet import Fault
from users.sync.mirror import comparison
from users.sync.services.invitation_limit import queue_note
from users.validation import clean_roles

KEYS = ("id", "clerk_id")
FIELDS = ("name", "email", "role", "internal_role", "builder_group")
NEEDED = ("name", "email")


@dataclass
class Newcomers:
    """The people of a file without faults; existing users were not looked up yet."""

    sheet: Reading
    people: list[Newcomer] = field(default_factory=list)

    def plan(self, *, sign_in: SignIn) -> tuple[Plan, Mapping[int, Result]]:
        """Plan the people who do not exist yet, and give every line its result.

        A person with a row is left to `update_users`; a person with only a Clerk account is left to
        `clerk_import`. Neither may get a second one.
        """
        rows: list[Planned] = []
        others: dict[str, list[str]] = defaultdict(list)
        for start in range(0, len(self.people), reading.CHUNK):
            chunk = self.people[start : start + reading.CHUNK]
            found = _Found(chunk)
            for person in chunk:
                outcome = Result(person.email)
                if user := found.row_of(person):
                    others["update_users"].append(f"line {person.line} ({user}, {user.email})")
                    outcome = Result(person.email, reason=f"{user} is here already.")
                elif account := found.account_of(person):
                    others["clerk_import"].append(f"line {person.line} ({account})")
                    outcome = Result(person.email, reason=f"Clerk has {account.pk} already.")
                else:
                    rows.append(plan_new(person.user, sign_in, person.line))
                self.sheet.results[person.line] = outcome
        notes = [
            *self.sheet.notes,
            *(left_out(people, "line", f"left to {command}") for command, people in others.items()),
            *filter(None, [queue_note(len(rows) if sign_in == SignIn.INVITE else 0)]),
        ]
        options = {"file": self.sheet.file.name, "sign_in": sign_in}
        return Plan("import_users", tuple(rows), tuple(notes), options=options), self.sheet.results


@dataclass(frozen=True)
class Newcomer:
    """One line; `user` is not stored, and `keys` are the ids that the line gives."""

    line: int
    user: BuilderUser
    keys: tuple[str, ...]

    @property
    def email(self) -> str:
        """Return the email of the new user."""
        return self.user.email


def read(file: Path, *, options: Options, defaults: Defaults) -> Newcomers:
    """Read the whole file.

    Raises `FileRefused` with everything that is wrong with the file, and `BulkRefused` when the
    file cannot be read.
    """
    newcomers = Newcomers(Reading(file))
    _Reader(newcomers, defaults).read(options)
    newcomers.sheet.check()
    return newcomers


class _Reader:
    """Makes people of lines, a chunk at a time."""

    known = frozenset({*KEYS, *FIELDS, *PARTS})
    unread: frozenset[str] = frozenset()

    def __init__(self, newcomers: Newcomers, defaults: Defaults) -> None:
        self._newcomers = newcomers
        self._defaults = defaults
        self._cells = Cells()
        self._header: Header | None = None
        self._emails: list[tuple[int, str]] = []

    def read(self, options: Options) -> None:
        """Read all lines, and find emails that two lines give."""
        sheet = self._newcomers.sheet
        reading.read(sheet, options, self)
        if self._header is not None:
            sheet.add(*reading.doubled(self._emails, self._header))

    def lacks(self, header: Header) -> Iterator[str]:
        """Yield a phrase for each needed column that is missing."""
        for needed in NEEDED:
            if needed not in header.fields:
                yield f"no column {needed}"

    def take(self, header: Header, lines: list[Line]) -> None:
        """Add the people of lines without faults."""
        self._header = header
        for line in lines:
            faults: list[Fault] = []
            values = dict(self._values(header, line, faults))
            if (email := values.get("email")) is not None:
                self._emails.append((line.number, email))
            if faults:
                self._newcomers.sheet.add(*faults)
                continue
            values["builder_group_id"] = values.pop("builder_group")
            keys = tuple(filter(None, (line.cells.get(key, "") for key in KEYS)))
            user = BuilderUser(pk=uuid.uuid4(), **values)
            self._newcomers.people.append(Newcomer(line.number, user, keys))

    def _values(
        self, header: Header, line: Line, faults: list[Fault]
    ) -> Iterator[tuple[str, str | None]]:
        values: dict[str, str | None] = {
            "internal_role": None,
            "role": self._defaults.role,
            "builder_group": str(self._defaults.group.pk) if self._defaults.group else None,
        }
        unread: set[str] = set()
        for column in (one for one in FIELDS if one in header.fields):
            try:
                if text_of(column, line.cells):
                    values[column] = self._cells.value(column, line.cells)
                elif column in NEEDED:
                    raise ValidationError(f"no {column}")
            except ValidationError as error:
                unread.add(column)
                faults.append(Fault(line.number, " ".join(error.messages), header.label(column)))
        try:
            if not unread & ROLES:
                clean_roles(values["role"], values["internal_role"])
        except ValidationError as error:
            message = " ".join(error.messages)
            faults.append(Fault(line.number, message, header.label("internal_role")))
        yield from values.items()


class _Found:
    """Finds the existing row or Clerk account of people, the latter in the mirror."""

    def __init__(self, people: Sequence[Newcomer]) -> None:
        emails = [person.email for person in people]
        texts = [key for person in people for key in person.keys if "\0" not in key]
        ids = Q(pk__in=[key for key in texts if _is_uuid(key)]) | Q(clerk_id__in=texts)
        rows = BuilderUser.objects.all()
        self._rows: dict[str, BuilderUser] = {}
        for user in rows.filter(ids):
            self._rows[str(user.pk)] = user
            if user.clerk_id:
                self._rows[user.clerk_id] = user
        self._by_email = {
            comparison.normalized_email(user.email): user
            for user in comparison.with_email(rows, *emails)
        }
        living = ClerkAccount.objects.filter(deleted_at=None)
        self._accounts = {
            comparison.normalized_email(account.email): account
            for account in comparison.with_email(living, *emails)
        }

    def row_of(self, person: Newcomer) -> BuilderUser | None:
        """Return the row of a person, by a key or by the email; None if there is none."""
        by_key = (self._rows.get(key.lower()) or self._rows.get(key) for key in person.keys)
        by_email = self._by_email.get(comparison.normalized_email(person.email))
        return next(filter(None, (*by_key, by_email)), None)

    def account_of(self, person: Newcomer) -> ClerkAccount | None:
        """Return the Clerk account with the person's email, None if there is none."""
        return self._accounts.get(comparison.normalized_email(person.email))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
