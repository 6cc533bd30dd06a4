"""Bringing Clerk's side to what the row holds. The row itself stays as it is."""

from __future__ import annotations

from users.clerk import Clerk, ClerkUser, Deadline
from users.errors import FieldConflict
from users.models import BuilderUser, OperationKind
from users.sync.mirror.comparison import same_name
from users.sync.operations.base import Operation
from users.sync.operations.edits import Edit, ReplaceEmail
from users.version import value_of


class _Push(Operation):
    """`changes` is `{field: [Clerk's, the row's]}`, of one field."""

    changes_row = False

    def stale_fields(self, row: BuilderUser) -> list[str]:
        stale = [
            field for field, (_, wanted) in self.changes.items() if value_of(row, field) != wanted
        ]
        return stale if row.clerk_id == self.clerk_id else [*stale, "clerk_id"]

    def write(self, row: BuilderUser) -> BuilderUser:
        return row


class PushName(_Push, Edit):
    """The row's name, split as Clerk's two."""

    kind = OperationKind.PUSH_NAME

    def build_on(self, account: ClerkUser) -> None:
        super().build_on(account)
        self.changes = {"name": [account.name, self.new_name]}

    def moved_in_clerk(self, row: BuilderUser, account: ClerkUser) -> list[FieldConflict]:
        known, wanted = (str(value or "") for value in self.changes["name"])
        if any(same_name(account.name, name) for name in (known, wanted)):
            return []
        return [FieldConflict("name", known, account.name, wanted)]


class PushEmail(_Push, ReplaceEmail):
    """The row's email becomes the only one of the Clerk user, verified."""

    kind = OperationKind.PUSH_EMAIL

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        self._known_before = self.old

    def build_on(self, account: ClerkUser) -> None:
        super().build_on(account)
        self.changes = {"email": [account.email, self.new]}
