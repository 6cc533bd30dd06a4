"""The shape of a change: what it writes here, what it sends to Clerk, how Clerk shows it."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Self

from django.contrib.admin.models import CHANGE

from users import guard
from users.clerk import Clerk, ClerkUser, Deadline
from users.errors import ClerkError, ClerkNotFound
from users.models import BuilderUser, SyncAttempt
from users.models import Operation as Kind
from users.version import value_of

Changes = dict[str, list[Any]]
"""`{field: [before, after]}`, in values that JSON holds; secrets as "(set)"."""


class Verdict(Enum):
    """What Clerk, read back, says about a change."""

    HAS_IT = "has it"
    HAS_NOT = "has not"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Seen:
    """Clerk read back: the verdict, the account as it is now, and a sentence for a person."""

    verdict: Verdict
    account: ClerkUser | None = None
    why: str = ""


class Operation(ABC):
    """One intended change of one user.

    An instance is made from what a person wants, or from the attempt that recorded it; both
    must decide alike, so everything that is needed later is in `changes` and `details`.
    """

    kind: ClassVar[Kind]
    log_flag: ClassVar[int] = CHANGE
    changes_row: ClassVar[bool] = True
    """Whether `changes` are of columns of the row; if not, they tell what changes in Clerk."""
    kinds: ClassVar[dict[str, type[Operation]]] = {}

    user_id: uuid.UUID | None
    label: str
    clerk_id: str
    changes: Changes

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            Operation.kinds[cls.kind] = cls

    def __init__(
        self,
        *,
        user_id: uuid.UUID | None,
        label: str,
        clerk_id: str,
        changes: Changes,
        details: dict[str, Any] | None = None,
    ) -> None:
        self.user_id = user_id
        self.label = label
        self.clerk_id = clerk_id
        self.changes = changes
        self.details = details or {}

    @classmethod
    def on(cls, user: BuilderUser, changes: Changes, **details: Any) -> Self:
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id=user.account_id,
            changes=changes,
            details=details,
        )

    @classmethod
    def from_attempt(cls, attempt: SyncAttempt) -> Self:
        return cls(
            user_id=attempt.user_id or _user_id_of(attempt),
            label=attempt.label,
            clerk_id=attempt.clerk_id,
            changes=attempt.changes,
            details=attempt.details,
        )

    @property
    def asks_clerk(self) -> bool:
        """Whether Clerk has to be told. If not, the change is a matter of the database alone."""
        return bool(self.clerk_id)

    @property
    def creates_row(self) -> bool:
        return False

    def new_row(self) -> BuilderUser:
        """The row, not stored yet, of a change that creates one."""
        raise NotImplementedError

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        """Read from Clerk what `details` must hold before the attempt is recorded."""

    def stale_fields(self, row: BuilderUser) -> list[str]:
        """Shown fields whose stored value is not the one that this change starts from."""
        stale = [
            field
            for field, (before, _) in self.changes.items()
            if hasattr(row, field) and value_of(row, field) != before
        ]
        if row.account_id != self.clerk_id and "clerk_id" not in stale:
            stale.append("clerk_id")
        return stale

    def written(self, row: BuilderUser) -> bool:
        """Whether the row holds this change already (recovery after a webhook brought it)."""
        return bool(self.changes) and all(
            hasattr(row, field) and value_of(row, field) == after
            for field, (_, after) in self.changes.items()
        )

    @abstractmethod
    def write(self, row: BuilderUser) -> BuilderUser | None:
        """Write the row; constraints speak here. Gives the row, None when it is deleted."""

    @abstractmethod
    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser | None:
        """The one write at Clerk. Gives the account when the answer holds it."""

    @abstractmethod
    def judge(self, account: ClerkUser) -> Verdict:
        """Whether the account shows this change."""

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Read Clerk back. Raises `ClerkError` when Clerk cannot be read."""
        try:
            account = clerk.get_user(self.clerk_id, deadline=deadline)
        except ClerkNotFound:
            return Seen(Verdict.HAS_NOT, why="The user does not exist in Clerk any more.")
        return Seen(self.judge(account), account)

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        """What Clerk's answer adds to the row, in the same transaction."""


def read_after(clerk: Clerk, clerk_id: str, deadline: Deadline) -> ClerkUser | None:
    """The account after a write whose answer does not hold it; None if it cannot be read. The
    write is done, whatever this says."""
    try:
        return clerk.get_user(clerk_id, deadline=deadline)
    except ClerkError:
        return None


def _user_id_of(attempt: SyncAttempt) -> uuid.UUID | None:
    """The id of a user whose row does not exist yet or any more."""
    recorded = attempt.details.get("user_id")
    return uuid.UUID(recorded) if recorded else None


def write_fields(row: BuilderUser, changes: Changes) -> BuilderUser:
    """Set and save the changed columns of a row, `updated_at` with them."""
    columns = []
    for field, (_, after) in changes.items():
        column = "builder_group_id" if field == "builder_group" else field
        setattr(row, column, after)
        columns.append(field)
    with guard.synchronized():
        row.save(update_fields=[*columns, "updated_at"])
    return row
