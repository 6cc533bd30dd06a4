"""Copy the row's values to Clerk. The row itself does not change."""

from __future__ import annotations

from users.changes import Change
from users.clerk import ClerkUser
from users.errors import FieldConflict
from users.models import BuilderUser, OperationKind
from users.sync.mirror.comparison import same_name
from users.sync.operations.base import Operation
from users.sync.operations.edits import Edit, ReplaceEmail
from users.version import value_of


class _Push(Operation):
    """Base of the copies. `changes` is `{field: [Clerk's, the row's]}`, of one field."""

    changes_row = False

    def stale_fields(self, row: BuilderUser) -> list[str]:
        stale = [
            field for field, change in self.changes.items() if value_of(row, field) != change.after
        ]
        return stale if row.clerk_id == self.clerk_id else [*stale, "clerk_id"]

    def write(self, row: BuilderUser) -> BuilderUser:
        return row


class PushName(_Push, Edit):
    """Copy the row's name to Clerk, split into first and last name."""

    kind = OperationKind.PUSH_NAME

    def build_on(self, account: ClerkUser) -> None:
        """Record the name that Clerk has now as the value before."""
        super().build_on(account)
        self.changes = {"name": Change(account.name, self.new_name)}

    def moved_in_clerk(self, row: BuilderUser, account: ClerkUser) -> list[FieldConflict]:
        """Report a name in Clerk that is neither the known nor the wanted one."""
        known, wanted = (str(value or "") for value in self.changes["name"])
        if any(same_name(account.name, name) for name in (known, wanted)):
            return []
        return [FieldConflict("name", known, account.name, wanted)]


class PushEmail(_Push, ReplaceEmail):
    """Make the row's email the only one of the Clerk user, verified."""

    kind = OperationKind.PUSH_EMAIL

    def prepare(self, user: BuilderUser) -> None:
        """Remember the address that was shown to staff as Clerk's."""
        self._known_before = self.old

    def build_on(self, account: ClerkUser) -> None:
        """Record the address that Clerk has now as the value before."""
        super().build_on(account)
        self.changes = {"email": Change(account.email, self.new)}
