"""A plan: who would change, which field, from what to what."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.utils import timezone

from users.models import BuilderUser
from users.models import Operation as Kind
from users.sync.operations.base import Changes
from users.sync.showing import group_names


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
        cls, user: BuilderUser, kind: Kind, changes: Changes, line: int | None = None
    ) -> Planned:
        return cls(str(user.pk), str(user), user.account_id, kind.value, changes, line)

    @property
    def user_uuid(self) -> uuid.UUID:
        return uuid.UUID(self.user_id)


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

    def counts(self) -> dict[str, int]:
        """How many changes of each kind, by the kind's name for people."""
        counted = Counter(Kind(row.operation).label for row in self.rows)
        return {str(kind): count for kind, count in counted.most_common()}


def counted(number: int, thing: str) -> str:
    """Say how many: "1 line", "2 lines"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
