"""Creating, editing and deleting a user; a new email; a new password."""

from __future__ import annotations

from typing import Any, Self

from django.contrib.admin.models import ADDITION, DELETION
from django.utils.dateparse import parse_datetime

from users import guard
from users.clerk import Clerk, ClerkUser, Deadline, names
from users.errors import ClerkNotFound
from users.models import BuilderUser
from users.models import Operation as Kind
from users.sync.copies import OUR_ID
from users.sync.operations.base import (
    Changes,
    Operation,
    Seen,
    Verdict,
    read_after,
    write_fields,
)
from users.version import SHOWN, value_of


class Edit(Operation):
    """Name, role, internal role and group; the email too while there is no Clerk account.

    Clerk holds the name alone. `details["clerk_name"]` is Clerk's name as it was known before,
    `details["split"]` the two names that are sent.
    """

    kind = Kind.UPDATE

    @property
    def asks_clerk(self) -> bool:
        return bool(self.clerk_id) and "name" in self.changes

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        """Split the new name by the names that Clerk has: from our copy, else asked for."""
        account = getattr(user, "account", None)
        if account is not None and account.clerk_id == self.clerk_id:
            first, last = account.first_name, account.last_name
        else:
            known = clerk.get_user(self.clerk_id, deadline=deadline)
            first, last = known.first_name, known.last_name
        self.details["clerk_name"] = names.join(first, last)
        self.details["split"] = list(names.split(self.new_name, first=first, last=last))

    @property
    def new_name(self) -> str:
        return str(self.changes["name"][1])

    def write(self, row: BuilderUser) -> BuilderUser:
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser:
        first, last = self.details["split"]
        return clerk.update_user(self.clerk_id, first_name=first, last_name=last, deadline=deadline)

    def judge(self, account: ClerkUser) -> Verdict:
        if account.name == names.squash(self.new_name):
            return Verdict.HAS_IT
        known_before = {
            names.squash(str(self.changes["name"][0])),
            names.squash(self.details.get("clerk_name", "")),
        }
        return Verdict.HAS_NOT if account.name in known_before else Verdict.CANNOT_TELL

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        seen = super().look(clerk, deadline)
        if seen.verdict is Verdict.CANNOT_TELL and seen.account is not None:
            why = (
                f"Clerk holds a third name, “{seen.account.name}”: "
                "it was changed there as well. Take over what Clerk has, or edit the user again."
            )
            return Seen(seen.verdict, seen.account, why)
        return seen


class ReplaceEmail(Operation):
    """*Replace now*: the new address becomes the only one of the same Clerk user, verified."""

    kind = Kind.REPLACE_EMAIL

    @property
    def old(self) -> str:
        return str(self.changes["email"][0])

    @property
    def new(self) -> str:
        return str(self.changes["email"][1])

    def write(self, row: BuilderUser) -> BuilderUser:
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser | None:
        clerk.replace_email(self.clerk_id, email=self.new, deadline=deadline)
        return read_after(clerk, self.clerk_id, deadline)  # the answer is the address alone

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_IT if account.email == self.new else Verdict.HAS_NOT


class SetPassword(Operation):
    """A new password goes to Clerk alone. The attempt says "(set)" and when Clerk's was last
    changed before: a later time there shows that ours arrived."""

    kind = Kind.SET_PASSWORD
    changes_row = False

    def __init__(self, *, password: str = "", sign_out: bool = False, **fields: Any) -> None:
        super().__init__(**fields)
        self._password = password
        self._sign_out = sign_out

    @classmethod
    def to(cls, user: BuilderUser, *, password: str, sign_out: bool) -> SetPassword:
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id=user.account_id,
            changes={"password": ["", "(set)"]},
            password=password,
            sign_out=sign_out,
        )

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        account = clerk.get_user(self.clerk_id, deadline=deadline)
        changed = account.password_last_updated_at
        self.details["password_last_updated_at"] = changed.isoformat() if changed else None

    def written(self, row: BuilderUser) -> bool:
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        return row

    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser:
        return clerk.set_password(
            self.clerk_id, password=self._password, sign_out=self._sign_out, deadline=deadline
        )

    def judge(self, account: ClerkUser) -> Verdict:
        changed = account.password_last_updated_at
        before = parse_datetime(self.details.get("password_last_updated_at") or "")
        if changed is not None and (before is None or changed > before):
            return Verdict.HAS_IT
        return Verdict.HAS_NOT


class Create(Operation):
    """A new user, with a Clerk account made at once (`details["account"]` = "create") or none.

    The account carries our id in its public metadata: so it is known again if the answer is
    lost, and an account of somebody else is never taken for it.
    """

    kind = Kind.CREATE
    log_flag = ADDITION

    @classmethod
    def of(cls, user: BuilderUser, *, account: str) -> Self:
        changes: Changes = {
            field: [None, value_of(user, field)]
            for field in SHOWN
            if field != "clerk_id" and value_of(user, field) is not None
        }
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id="",
            changes=changes,
            details={"user_id": str(user.pk), "account": account},
        )

    @property
    def asks_clerk(self) -> bool:
        return self.details.get("account") == "create"

    @property
    def creates_row(self) -> bool:
        return True

    @property
    def email(self) -> str:
        return str(self.changes["email"][1])

    def new_row(self) -> BuilderUser:
        values = {field: after for field, (_, after) in self.changes.items()}
        values["builder_group_id"] = values.pop("builder_group", None)
        return BuilderUser(pk=self.user_id, **values)

    def stale_fields(self, row: BuilderUser) -> list[str]:
        return []

    def written(self, row: BuilderUser) -> bool:
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        row.save(force_insert=True)
        return row

    def send(self, clerk: Clerk, deadline: Deadline) -> ClerkUser | None:
        first, last = names.split(str(self.changes["name"][1]))
        return clerk.create_user(
            email=self.email,
            first_name=first,
            last_name=last,
            public_metadata={OUR_ID: str(self.user_id)},
            deadline=deadline,
        )

    def judge(self, account: ClerkUser) -> Verdict:
        ours = account.public_metadata.get(OUR_ID) == str(self.user_id)
        return Verdict.HAS_IT if ours else Verdict.HAS_NOT

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        for account in clerk.find_by_email(self.email, deadline=deadline):
            if self.judge(account) is Verdict.HAS_IT:
                return Seen(Verdict.HAS_IT, account)
        return Seen(Verdict.HAS_NOT)

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        if account is not None:
            row.clerk_id = account.id
            with guard.synchronized():
                row.save(update_fields=["clerk_id", "updated_at"])


class Delete(Operation):
    """The user leaves Clerk, then the table. Clerk's 404 counts as done."""

    kind = Kind.DELETE
    log_flag = DELETION

    @classmethod
    def of(cls, user: BuilderUser) -> Delete:
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id=user.account_id,
            changes={"email": [user.email, None]},
            details={"user_id": str(user.pk)},
        )

    def written(self, row: BuilderUser) -> bool:
        return False

    def write(self, row: BuilderUser) -> None:
        with guard.synchronized():
            row.delete()

    def send(self, clerk: Clerk, deadline: Deadline) -> None:
        try:
            clerk.delete_user(self.clerk_id, deadline=deadline)
        except ClerkNotFound:
            return  # it is what was wanted

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_NOT

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        try:
            account = clerk.get_user(self.clerk_id, deadline=deadline)
        except ClerkNotFound:
            return Seen(Verdict.HAS_IT)
        return Seen(Verdict.HAS_NOT, account)
