"""Taking over what changed in Clerk. Nothing is sent."""

from __future__ import annotations

from users.clerk import Clerk, ClerkUser, Deadline
from users.models import BuilderUser, OperationKind
from users.sync.inbound.facts import unfit_name
from users.sync.mirror import comparison
from users.sync.operations.base import Changes, Operation, Seen, Verdict, write_fields


class Follow(Operation):
    """The row takes over name and email from its Clerk account."""

    kind = OperationKind.FOLLOW

    @property
    def asks_clerk(self) -> bool:
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        raise AssertionError("following Clerk sends nothing")

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_IT


class AccountChanged(Follow):
    """Something about the account itself changed in Clerk: a ban, a lock, its deletion. The row
    stays as it is."""

    changes_row = False

    def write(self, row: BuilderUser) -> BuilderUser:
        return row


def changes_from(row: BuilderUser, account: ClerkUser) -> Changes:
    """What differs between the row and its account, `{field: [row's, Clerk's]}`.

    An email that another row has is left out, and a name that a row cannot or must not hold: it is
    drift, shown, not an error.
    """
    changes: Changes = {}
    if comparison.name_differs(row.name, account.name) and not unfit_name(account.name):
        changes["name"] = [row.name, account.name]
    moved = comparison.email_differs(row.email, account.email)
    if moved and not comparison.taken_by_another(row, account.email):
        changes["email"] = [row.email, account.email]
    return changes
