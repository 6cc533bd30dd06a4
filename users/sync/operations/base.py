"""Define the base of all changes: what they write here, send to Clerk, and see in Clerk."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Self

from django.contrib.admin.models import CHANGE
from django.utils.translation import gettext as _

from users import guard
from users.changes import Changes, changes_of
from users.clerk import Clerk, ClerkUser, Deadline
from users.errors import ClerkError, ClerkNotFound, FieldConflict
from users.models import BuilderUser, OperationKind, SyncAttempt
from users.sync.mirror import instance
from users.version import SHOWN, value_of

Claims = dict[str, object]
"""`{thing: value}`: what a change writes in Clerk.

Two changes with equal claims are repeats. Two changes with different values for one thing exclude
each other while the request of one may still arrive.
"""


class Verdict(Enum):
    """What an answer of Clerk, to the write or to a later read, says about a change."""

    HAS_IT = "has it"
    HAS_NOT = "has not"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Seen:
    """A judged answer of Clerk.

    `account` is set if the answer holds the account. `why` is a sentence for people.
    """

    verdict: Verdict
    account: ClerkUser | None = None
    why: str = ""


class Operation(ABC):
    """One intended change of one user.

    An instance is made from what a person wants, or from the attempt that recorded it. Both must
    decide alike, so everything that is needed later is in `changes` and `details`.
    """

    kind: ClassVar[OperationKind]
    log_flag: ClassVar[int] = CHANGE
    changes_row: ClassVar[bool] = True
    """Whether `changes` name columns of the row. If not, they say what changes in Clerk."""
    typed: ClassVar[bool] = True
    """Whether it brings values that somebody typed, so that a refusal may ask to correct them."""
    has_secrets: ClassVar[bool] = False
    """Whether `changes` hide a value, so that two changes cannot be compared."""
    sent_again: ClassVar[bool] = False
    """Whether recovery may send it again by itself if Clerk does not have it."""
    reads_first: ClassVar[bool] = False
    """Whether Clerk is read before the write if our mirror of the account is not fresh."""
    mirror_lacks_it: ClassVar[bool] = False
    """Whether Clerk is read in any case, as our mirror does not hold what the write starts from."""
    needs_nothing_in_flight: ClassVar[bool] = False
    """Whether it must wait for every change of the user that is pending or may still arrive."""
    missing: ClassVar[Verdict] = Verdict.HAS_NOT
    """The verdict on the change if Clerk no longer has the account."""
    kinds: ClassVar[dict[str, type[Operation]]] = {}

    user_id: uuid.UUID | None
    label: str
    clerk_id: str
    changes: Changes
    decided_at: datetime | None = None
    """When a person decided it, if that is recorded. Recovery may finish it much later."""

    def __init_subclass__(cls, **kwargs: object) -> None:
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
    def on(cls, user: BuilderUser, changes: Changes, **details: object) -> Self:
        """Build the change of a user, with the id, label and account that the user has now."""
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id=user.account_id,
            changes=changes,
            details=details,
        )

    @classmethod
    def from_attempt(cls, attempt: SyncAttempt) -> Self:
        """Rebuild the change that an attempt recorded."""
        operation = cls(
            user_id=attempt.user_id or _user_id_of(attempt),
            label=attempt.label,
            clerk_id=attempt.clerk_id,
            changes=changes_of(attempt.changes),
            details=attempt.details,
        )
        operation.decided_at = attempt.started_at
        return operation

    @property
    def asks_clerk(self) -> bool:
        """Tell whether Clerk must be told. If not, the change is database-only."""
        return bool(self.clerk_id)

    @property
    def creates_row(self) -> bool:
        """Tell whether the change creates the row of its user."""
        return False

    def new_row(self) -> BuilderUser:
        """Build the row, not stored yet, of a change that creates one."""
        raise NotImplementedError

    @property
    def claims(self) -> Claims:
        """Return what it writes in Clerk, in values that are comparable with other changes."""
        return {}

    @property
    def wanted_email(self) -> str:
        """Return the address that it asks for, "" for none."""
        change = self.changes.get("email") or self.changes.get("invitation")
        return str(change.after) if change else ""

    @property
    def moves(self) -> bool:
        """Tell whether Clerk was known to hold something else before.

        Then the new value in Clerk proves that the request has arrived. For what `reads_first`,
        this counts only if `held_is_read`.
        """
        return True

    @property
    def held_is_read(self) -> bool:
        """Tell whether Clerk was read under the lock before the only request was sent.

        Our mirror does not count: however fresh it is, it may be older than a change in Clerk.
        """
        return bool(self.details.get("held_is_read"))

    def prepare(self, user: BuilderUser) -> None:
        """Put into `details` what our mirror shows before the attempt is recorded."""

    def build_on(self, account: ClerkUser) -> None:
        """Take from the account, which was just read, what the write is based on."""

    def moved_in_clerk(self, row: BuilderUser, account: ClerkUser) -> list[FieldConflict]:
        """List what changed in Clerk since the values that this change starts from."""
        return []

    def stale_fields(self, row: BuilderUser) -> list[str]:
        """List the shown fields whose stored value is not the one that this change starts from.

        "clerk_id" is listed too if the row has another account now.
        """
        stale = [
            field
            for field, change in self.changes.items()
            if field in SHOWN and value_of(row, field) != change.before
        ]
        if row.account_id != self.clerk_id and "clerk_id" not in stale:
            stale.append("clerk_id")
        return stale

    def moved_fields(self, row: BuilderUser) -> list[str]:
        """List the stale fields that keep a change, which Clerk has, from being finished."""
        return self.stale_fields(row)

    def check(self, row: BuilderUser) -> None:
        """Check under the row's lock what else must be so before Clerk is asked.

        Raises `ChangeFailed` if it is not.
        """

    def written(self, row: BuilderUser) -> bool:
        """Tell whether the row holds this change already.

        An event may have brought it before recovery does.
        """
        return bool(self.changes) and all(
            field in SHOWN and value_of(row, field) == change.after
            for field, change in self.changes.items()
        )

    @abstractmethod
    def write(self, row: BuilderUser) -> BuilderUser | None:
        """Write the row and return it; return None if it is deleted.

        The database checks its constraints here, before Clerk is called.
        """

    @abstractmethod
    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Make the write in Clerk and judge the answer.

        Raises `ClerkError`.
        """

    @abstractmethod
    def judge(self, account: ClerkUser) -> Verdict:
        """Decide whether the account shows this change."""

    def seen_in(self, account: ClerkUser) -> Seen:
        """Judge an account that an answer of Clerk holds."""
        return Seen(self.judge(account), account)

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Read Clerk back, and judge what it shows.

        Raises `ClerkError` if Clerk cannot be read.
        """
        try:
            account = clerk.get_user(self.clerk_id, deadline=deadline)
        except ClerkNotFound:
            return self.not_found(clerk, deadline)
        return self.seen_in(account)

    def not_found(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Judge a 404. It proves something only if our own Clerk instance sends it."""
        if not instance.is_ours(clerk, deadline):
            return Seen(Verdict.CANNOT_TELL, why=str(instance.DOUBT))
        return Seen(self.missing, why=_("The user does not exist in Clerk any more."))

    def not_listed(self, verdict: Verdict, clerk: Clerk, deadline: Deadline, why: str = "") -> Seen:
        """Judge a list of Clerk that lacks something.

        Like a 404, it proves something only if our own Clerk instance sends it: then the result is
        `verdict`, with the sentence `why`.
        """
        if instance.is_doubtful(clerk, deadline):
            return Seen(Verdict.CANNOT_TELL, why=str(instance.LIST_DOUBT))
        return Seen(verdict, why=why)

    def ownerless(self, row: BuilderUser | None) -> Mapping[str, str]:
        """Return the open invitations that no user would own after this change.

        They map Clerk's id of the invitation to its email. `row` is None if the row is gone.
        """
        return {}

    unprovable: ClassVar[bool] = False
    """Whether Clerk may never be able to tell. Then the attempt ends as *unproven*."""

    def proven(self, seen: Seen) -> Seen:
        """Judge again what Clerk shows, if it was read later than in the call itself."""
        return seen

    def partly_done(self, error: ClerkError) -> str:
        """Say which of several calls were done when one failed; "" for none."""
        return ""

    @property
    def concerns_others(self) -> bool:
        """Tell whether the change may affect other rows, accounts or invitations.

        It may if it moves an address, a link or an invitation.
        """
        return not self.changes.keys().isdisjoint(("email", "clerk_id", "invitation"))

    @property
    def addresses(self) -> list[str]:
        """Return the email addresses that the change gives up or takes."""
        moved = [*self.changes.get("email", ()), *self.changes.get("invitation", ())]
        return [str(email) for email in moved if email]

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        """Add to the row what Clerk's answer says, in the same transaction."""


def seen_after(operation: Operation, clerk: Clerk, deadline: Deadline) -> Seen:
    """Judge a successful write whose answer does not hold the account.

    The account is read. If that fails, the write counts as done. If the account does not show the
    change yet, the write does not count as done.
    """
    try:
        return operation.seen_in(clerk.get_user(operation.clerk_id, deadline=deadline))
    except ClerkError:
        return Seen(Verdict.HAS_IT)


def _user_id_of(attempt: SyncAttempt) -> uuid.UUID | None:
    """Return the recorded id of a user whose row does not exist yet, or no longer exists."""
    recorded = attempt.details.get("user_id")
    return uuid.UUID(recorded) if recorded else None


def write_fields(row: BuilderUser, changes: Changes) -> BuilderUser:
    """Set and save the changed columns of a row, and `updated_at` with them."""
    columns = []
    for field, change in changes.items():
        column = "builder_group_id" if field == "builder_group" else field
        setattr(row, column, change.after)
        columns.append(field)
    with guard.synchronized():
        row.save(update_fields=[*columns, "updated_at"])
    return row
