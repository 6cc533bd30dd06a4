"""A plan: who would change, which field, from what to what."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.utils import timezone

from users.models import BuilderUser, OperationKind
from users.sync.display import group_names
from users.sync.operations.base import Changes


@dataclass(frozen=True)
class Planned:
    """One change of one user. The befores of `changes` (`{field: [before, after]}`) and the
    `clerk_id` are its preconditions: what must still be so when its turn comes. `line` is that
    of the spreadsheet it came from."""

    user_id: str
    label: str
    clerk_id: str
    operation: str
    changes: Changes
    line: int | None = None
    shown: dict[str, list[str]] = field(default_factory=dict)
    """What people read in place of the values of a field: the names of groups."""

    @classmethod
    def on(
        cls, user: BuilderUser, kind: OperationKind, changes: Changes, line: int | None = None
    ) -> Planned:
        return cls(str(user.pk), str(user), user.account_id, kind.value, changes, line)

    @property
    def user_uuid(self) -> uuid.UUID:
        return uuid.UUID(self.user_id)


ORDERS: Mapping[str, Callable[[Planned], Any]] = {
    "kind": lambda row: (row.operation, row.label.casefold()),
    "line": lambda row: row.line or 0,
    "user": lambda row: (row.label.casefold(), row.user_id),
}
"""What a plan can be sorted by."""

SIGN_IN = "sign_in"
"""Stands among the changes of a planned user, so that the plan shows it."""

_CALLS = {
    OperationKind.REPLACE_EMAIL: 3,
    OperationKind.PUSH_EMAIL: 3,
    OperationKind.SIGN_OUT: 3,
    OperationKind.LINK: 0,
    OperationKind.UNLINK: 0,
    OperationKind.FOLLOW: 0,
}
"""Calls of Clerk that a change takes: an email is read back, and the old one looked for; sessions
are listed, and one or two are ended."""


def _calls(row: Planned) -> int:
    if row.operation == OperationKind.UPDATE:
        return int(bool(row.clerk_id) and "name" in row.changes)
    if row.operation == OperationKind.DELETE:
        return int(bool(row.clerk_id)) + int("invitation" in row.changes)
    if row.operation == OperationKind.CREATE:
        return int(row.changes.get(SIGN_IN, [None, "none"])[1] != "none")
    return _CALLS.get(OperationKind(row.operation), 1)


def _duration(seconds: float) -> str:
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}s"
    count = max(1, round(seconds))
    return f"{count} second{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Plan:
    """What a command would do, in order. `notes` are sentences about what it would not do."""

    command: str
    rows: tuple[Planned, ...]
    notes: tuple[str, ...] = ()
    undo_of: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    made_at: datetime = field(default_factory=timezone.now)

    def only(self, user_ids: Collection[uuid.UUID]) -> Plan:
        """Return the plan without the changes of other users."""
        return replace(self, rows=tuple(row for row in self.rows if row.user_uuid in user_ids))

    def with_names(self) -> Plan:
        """Return the plan with the names of the builder groups in it, for those who approve it."""
        field = "builder_group"
        ids = {group for row in self.rows for group in row.changes.get(field, []) if group}
        names = group_names(ids)
        return replace(
            self,
            rows=tuple(
                replace(row, shown={field: [names.get(one, "") for one in row.changes[field]]})
                if field in row.changes
                else row
                for row in self.rows
            ),
        )

    def sorted_by(self, order: str) -> Plan:
        """Return the plan in one of `ORDERS`."""
        return replace(self, rows=tuple(sorted(self.rows, key=ORDERS[order])))

    def summary(self, rate: float) -> str:
        """Say in one line how much it is, and how long it takes at `rate` calls a second."""
        deleted = self.deletions
        made = sum(
            row.operation in (OperationKind.CREATE, OperationKind.CREATE_INVITED)
            for row in self.rows
        )
        seconds = sum(map(_calls, self.rows)) / rate
        changed = len(self.rows) - deleted - made
        return (
            f"{f'{made} to make, ' if made else ''}{changed} to change, {deleted} to delete, "
            f"about {_duration(seconds)} at {rate:g} a second."
        )

    @property
    def deletions(self) -> int:
        """How many users it deletes."""
        return sum(row.operation == OperationKind.DELETE for row in self.rows)

    def counts(self) -> dict[str, int]:
        """How many changes of each kind, by the kind's name for people."""
        counted = Counter(OperationKind(row.operation).label for row in self.rows)
        return {str(kind): count for kind, count in counted.most_common()}


def counted(number: int, thing: str) -> str:
    """Say how many: "1 line", "2 lines"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
