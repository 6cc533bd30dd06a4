"""Describe a plan: which users would change, in which fields, from what to what."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.utils import timezone

from users.changes import Change, Changes
from users.models import CREATES, BuilderUser, OperationKind, SignIn
from users.sync.display import group_names


@dataclass(frozen=True)
class Planned:
    """One change of one user.

    The old values of `changes` (`{field: [before, after]}`) and the `clerk_id` are preconditions:
    they must still hold when the row is carried out. `line` is the line of the spreadsheet from
    which it came.
    """

    user_id: str
    label: str
    clerk_id: str
    operation: str
    changes: Changes
    line: int | None = None
    shown: dict[str, list[str]] = field(default_factory=dict)
    """Texts that people read in place of the values of a field: names of groups."""

    @classmethod
    def on(
        cls, user: BuilderUser, kind: OperationKind, changes: Changes, line: int | None = None
    ) -> Planned:
        """Plan a change of this user."""
        return cls(str(user.pk), str(user), user.account_id, kind.value, changes, line)

    @property
    def user_uuid(self) -> uuid.UUID:
        """Return the id of the user as a UUID."""
        return uuid.UUID(self.user_id)


NOT_SEEN_YET = "whose account was not seen yet"
"""Why users are left out of a plan: the last scan has not reached their account."""

ORDERS: Mapping[str, Callable[[Planned], tuple[str, str] | int]] = {
    "kind": lambda row: (row.operation, row.label.casefold()),
    "line": lambda row: row.line or 0,
    "user": lambda row: (row.label.casefold(), row.user_id),
}
"""The orders in which a plan can be sorted."""

SIGN_IN = "sign_in"
"""Key among the changes of a new user, so that the plan shows the sign-in."""

_CALLS = {
    OperationKind.REPLACE_EMAIL: 3,
    OperationKind.PUSH_EMAIL: 3,
    OperationKind.SIGN_OUT: 3,
    OperationKind.LINK: 0,
    OperationKind.UNLINK: 0,
    OperationKind.FOLLOW: 0,
}
"""Number of Clerk calls for each kind of change.

After an email change, the email is read back and the old one is looked up. To sign a user out,
sessions are listed, and one or two are ended.
"""


def _calls(row: Planned) -> int:
    if row.operation == OperationKind.UPDATE:
        return int(bool(row.clerk_id) and "name" in row.changes)
    if row.operation == OperationKind.DELETE:
        return int(bool(row.clerk_id)) + int("invitation" in row.changes)
    if row.operation == OperationKind.CREATE:
        return int(row.changes.get(SIGN_IN, Change(None, SignIn.NONE)).after != SignIn.NONE)
    return _CALLS.get(OperationKind(row.operation), 1)


def _duration(seconds: float) -> str:
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}s"
    count = max(1, round(seconds))
    return f"{count} second{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Plan:
    """Everything that a command would do, in order.

    `notes` are sentences about what it would not do.
    """

    command: str
    rows: tuple[Planned, ...]
    notes: tuple[str, ...] = ()
    undo_of: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    made_at: datetime = field(default_factory=timezone.now)

    def only(self, user_ids: Collection[uuid.UUID]) -> Plan:
        """Return the plan with the changes of these users only."""
        return replace(self, rows=tuple(row for row in self.rows if row.user_uuid in user_ids))

    def with_names(self) -> Plan:
        """Return the plan with the names of its builder groups, for the people who approve it."""
        field = "builder_group"
        ids = {str(group) for row in self.rows for group in row.changes.get(field, ()) if group}
        names = group_names(ids)
        return replace(
            self,
            rows=tuple(
                replace(row, shown={field: [names.get(str(one), "") for one in row.changes[field]]})
                if field in row.changes
                else row
                for row in self.rows
            ),
        )

    def sorted_by(self, order: str) -> Plan:
        """Return the plan in one of `ORDERS`."""
        return replace(self, rows=tuple(sorted(self.rows, key=ORDERS[order])))

    def in_turns(self) -> Plan:
        """Return the plan with each user's second change after everybody's first.

        Two changes of one user must not run at once, and waiting for the first one would delay
        other rows.
        """
        seen: Counter[str] = Counter()
        turns: list[tuple[int, Planned]] = []
        for row in self.rows:
            turns.append((seen[row.user_id], row))
            seen[row.user_id] += 1
        in_turns = sorted(turns, key=lambda turn: turn[0])
        return replace(self, rows=tuple(row for _, row in in_turns))

    def summary(self, rate: float) -> str:
        """Return one line with the number of changes and the duration at `rate` calls a second."""
        deleted = self.deletions
        made = sum(row.operation in CREATES for row in self.rows)
        seconds = sum(map(_calls, self.rows)) / rate
        read = sum(row.operation == OperationKind.REFRESH for row in self.rows)
        changed = len(self.rows) - deleted - made - read
        return (
            f"{f'{made} to make, ' if made else ''}{f'{read} to read, ' if read else ''}"
            f"{changed} to change, {deleted} to delete, "
            f"about {_duration(seconds)} at {rate:g} a second."
        )

    @property
    def deletions(self) -> int:
        """Return how many users the plan deletes."""
        return sum(row.operation == OperationKind.DELETE for row in self.rows)

    def counts(self) -> dict[str, int]:
        """Return the number of changes of each kind, by the kind's label."""
        counted = Counter(OperationKind(row.operation).label for row in self.rows)
        return {str(kind): count for kind, count in counted.most_common()}


def counted(number: int, thing: str) -> str:
    """Return a number with its noun: "1 line", "2 lines"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
