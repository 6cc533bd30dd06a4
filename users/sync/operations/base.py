"""The shape of a change: what it writes here, what it sends to Clerk, how Clerk shows it."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Self

from django.contrib.admin.models import CHANGE

from users import guard
from users.clerk import Clerk, ClerkUser, Deadline
from users.errors import ClerkError, ClerkNotFound, FieldConflict
from users.models import BuilderUser, OperationKind, SyncAttempt
from users.sync.mirror import instance
from users.version import SHOWN, value_of

Changes = dict[str, list[Any]]
"""`{field: [before, after]}`, in values that JSON holds; secrets as "(set)"."""


Claims = dict[str, Any]
"""`{thing: value}`: what a change writes in Clerk. Two changes with equal claims are the same
again; with different values for one thing they exclude one another while one may be late."""


class Verdict(Enum):
    """What an answer of Clerk, to the write or read back, says about a change."""

    HAS_IT = "has it"
    HAS_NOT = "has not"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Seen:
    """An answer of Clerk, judged: the verdict, the account if the answer holds it, and a
    sentence for a person."""

    verdict: Verdict
    account: ClerkUser | None = None
    why: str = ""


class Operation(ABC):
    """One intended change of one user.

    An instance is made from what a person wants, or from the attempt that recorded it; both
    must decide alike, so everything that is needed later is in `changes` and `details`.
    """

    kind: ClassVar[OperationKind]
    log_flag: ClassVar[int] = CHANGE
    changes_row: ClassVar[bool] = True
    """Whether `changes` are of columns of the row; if not, they tell what changes in Clerk."""
    has_secrets: ClassVar[bool] = False
    """Whether `changes` hide a value, so that two of them cannot be compared."""
    sent_again: ClassVar[bool] = False
    """Whether recovery sends it again unasked when Clerk does not have it."""
    reads_first: ClassVar[bool] = False
    """Whether a copy of Clerk's side that is not fresh is read again before the write."""
    needs_nothing_in_flight: ClassVar[bool] = False
    """Whether it must wait until no change of the user is pending or may still arrive, whatever it
    is about."""
    missing: ClassVar[Verdict] = Verdict.HAS_NOT
    """What it says about the change that Clerk does not have the account any more."""
    kinds: ClassVar[dict[str, type[Operation]]] = {}

    user_id: uuid.UUID | None
    label: str
    clerk_id: str
    changes: Changes
    decided_at: datetime | None = None
    """When a person decided it, if that is recorded: recovery may carry it out much later."""

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
        operation = cls(
            user_id=attempt.user_id or _user_id_of(attempt),
            label=attempt.label,
            clerk_id=attempt.clerk_id,
            changes=attempt.changes,
            details=attempt.details,
        )
        operation.decided_at = attempt.started_at
        return operation

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

    @property
    def claims(self) -> Claims:
        """What it writes in Clerk, in values that can be compared with another change's."""
        return {}

    @property
    def moves(self) -> bool:
        """Whether Clerk was known to hold something else before, so that the new value there
        proves that the request has arrived."""
        return True

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        """Read from Clerk what `details` must hold before anything is sent."""

    def build_on(self, account: ClerkUser) -> None:
        """Take from the account, as it was just read, what the write is made from."""

    def moved_in_clerk(self, row: BuilderUser, account: ClerkUser) -> list[FieldConflict]:
        """List what was changed in Clerk since the values that this change starts from."""
        return []

    def stale_fields(self, row: BuilderUser) -> list[str]:
        """Shown fields whose stored value is not the one that this change starts from."""
        stale = [
            field
            for field, (before, _) in self.changes.items()
            if field in SHOWN and value_of(row, field) != before
        ]
        if row.account_id != self.clerk_id and "clerk_id" not in stale:
            stale.append("clerk_id")
        return stale

    def written(self, row: BuilderUser) -> bool:
        """Whether the row holds this change already (recovery after a webhook brought it)."""
        return bool(self.changes) and all(
            field in SHOWN and value_of(row, field) == after
            for field, (_, after) in self.changes.items()
        )

    @abstractmethod
    def write(self, row: BuilderUser) -> BuilderUser | None:
        """Write the row; constraints speak here. Gives the row, None when it is deleted."""

    @abstractmethod
    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Make the one write at Clerk and judge its answer. Raises `ClerkError`."""

    @abstractmethod
    def judge(self, account: ClerkUser) -> Verdict:
        """Decide whether the account shows this change."""

    def seen_in(self, account: ClerkUser) -> Seen:
        """Judge an account that an answer holds."""
        return Seen(self.judge(account), account)

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Read Clerk back. Raises `ClerkError` when Clerk cannot be read."""
        try:
            account = clerk.get_user(self.clerk_id, deadline=deadline)
        except ClerkNotFound:
            return self.not_found(clerk, deadline)
        return self.seen_in(account)

    def not_found(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Judge a 404, which says something only of our own instance."""
        if not instance.is_ours(clerk, deadline):
            return Seen(Verdict.CANNOT_TELL, why=instance.DOUBT)
        return Seen(self.missing, why="The user does not exist in Clerk any more.")

    def not_listed(self, verdict: Verdict, clerk: Clerk, deadline: Deadline, why: str = "") -> Seen:
        """Judge a list of Clerk that lacks something: like a 404, it says something only of our
        own instance."""
        if instance.is_doubtful(clerk, deadline):
            return Seen(Verdict.CANNOT_TELL, why=instance.LIST_DOUBT)
        return Seen(verdict, why=why)

    unprovable: ClassVar[bool] = False
    """Whether Clerk may be unable to ever tell: then the attempt ends as *unproven*."""

    def proven(self, seen: Seen) -> Seen:
        """Judge anew, later than in the call itself, what Clerk shows."""
        return seen

    def partly_done(self, error: ClerkError) -> str:
        """Say what of several calls was done when one of them failed; "" for nothing."""
        return ""

    @property
    def concerns_others(self) -> bool:
        """Whether other rows, accounts or invitations may follow from it: it moves an address, a
        link or an invitation."""
        return not self.changes.keys().isdisjoint(("email", "clerk_id", "invitation"))

    @property
    def addresses(self) -> list[str]:
        """The addresses that it gives up or takes."""
        moved = [*self.changes.get("email", []), *self.changes.get("invitation", [])]
        return [str(email) for email in moved if email]

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        """What Clerk's answer adds to the row, in the same transaction."""


def seen_after(operation: Operation, clerk: Clerk, deadline: Deadline) -> Seen:
    """Judge a write that is done by an answer without the account: read the account, if it can
    be read. An account that does not show the change yet is no success."""
    try:
        return operation.seen_in(clerk.get_user(operation.clerk_id, deadline=deadline))
    except ClerkError:
        return Seen(Verdict.HAS_IT)


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
