"""Define which Clerk account belongs to a row. Nothing is sent to Clerk."""

from __future__ import annotations

from django.utils import timezone

from users.changes import Change
from users.clerk import Clerk, ClerkUser, Deadline
from users.models import BuilderUser, ClerkAccount, OperationKind
from users.sync.mirror import agreements, store
from users.sync.operations.base import Operation, Seen, Verdict, write_fields


class _Linking(Operation):
    """Base of linking and unlinking.

    Both wait for all changes in flight. Otherwise a late request would reach an account whose next
    row knows nothing of it.
    """

    needs_nothing_in_flight = True

    @property
    def asks_clerk(self) -> bool:
        return False

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        raise AssertionError("linking sends nothing")

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_IT


class Link(_Linking):
    """Link the row to an account."""

    kind = OperationKind.LINK

    @classmethod
    def to(cls, user: BuilderUser, clerk_id: str) -> Link:
        """Build the link of a user to the account with this Clerk id."""
        return cls.on(user, {"clerk_id": Change(user.clerk_id, clerk_id)})

    @property
    def account_id(self) -> str:
        """Return the id of the account that the row gets."""
        return str(self.changes["clerk_id"].after)

    def write(self, row: BuilderUser) -> BuilderUser:
        """Store the link, and clear what an earlier release or replacement left on the account."""
        after = str(self.changes["clerk_id"].after)
        store.lock()
        write_fields(row, self.changes)
        ClerkAccount.objects.filter(pk=after).update(
            released_at=None, replaced_for=None, ban_due=False, note=""
        )
        agreements.decide(row, after)
        return row


class Unlink(_Linking):
    """Unlink the row from its account.

    The account stays in Clerk, and is never linked automatically again.
    """

    kind = OperationKind.UNLINK

    @classmethod
    def of(cls, user: BuilderUser) -> Unlink:
        """Build the unlinking of a user from its account."""
        return cls.on(user, {"clerk_id": Change(user.clerk_id, None)})

    def write(self, row: BuilderUser) -> BuilderUser:
        """Remove the link, and mark the account as released."""
        before = self.changes["clerk_id"].before
        store.lock()
        write_fields(row, self.changes)
        ClerkAccount.objects.filter(pk=before).update(released_at=timezone.now(), note="")
        agreements.decide(row, None)
        return row
