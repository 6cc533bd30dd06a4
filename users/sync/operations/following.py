"""Apply Clerk's changes to the row. Nothing is sent to Clerk."""

from __future__ import annotations

from users.changes import Change, Changes
from users.clerk import Clerk, ClerkUser, Deadline
from users.models import BuilderUser, OperationKind
from users.sync.inbound.facts import unfit_name
from users.sync.mirror import comparison
from users.sync.operations.base import Operation, Seen, Verdict, write_fields


class Follow(Operation):
    """Apply the name and email of the Clerk account to the row."""

    kind = OperationKind.FOLLOW

    @property
    def asks_clerk(self) -> bool:
        """Return False: Clerk has the values already."""
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        """Save the changed columns of the row."""
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Raise `AssertionError`: nothing is ever sent."""
        raise AssertionError("following Clerk sends nothing")

    def judge(self, account: ClerkUser) -> Verdict:
        """Return `HAS_IT`: the values come from Clerk."""
        return Verdict.HAS_IT


class AccountChanged(Follow):
    """Record a change of the account itself in Clerk: a ban, a lock, its deletion.

    The row does not change.
    """

    changes_row = False

    def write(self, row: BuilderUser) -> BuilderUser:
        """Return the row as it is."""
        return row


def changes_from(row: BuilderUser, account: ClerkUser) -> Changes:
    """Return the differences between a row and its account, `{field: [row's, Clerk's]}`.

    An email that another row has is left out, and so is a name that a row cannot or must not hold.
    Such a user is shown as out of sync; that is not an error.
    """
    changes: Changes = {}
    if comparison.name_differs(row.name, account.name) and not unfit_name(account.name):
        changes["name"] = Change(row.name, account.name)
    moved = comparison.email_differs(row.email, account.email)
    if moved and not comparison.taken_by_another(row, account.email):
        changes["email"] = Change(row.email, account.email)
    return changes
