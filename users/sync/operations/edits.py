"""Creating, editing and deleting a user; a new email; a new password."""

from __future__ import annotations

from typing import Any, Self

from django.contrib.admin.models import ADDITION, DELETION
from django.utils.dateparse import parse_datetime

from users import guard
from users.clerk import Clerk, ClerkUser, Deadline, names
from users.clerk.metadata import OUR_ID
from users.errors import ClerkNotFound, ClerkRefused, Conflict, FieldConflict
from users.models import BuilderUser, ClerkAccount, OperationKind
from users.sync.mirror import agreements, store
from users.sync.mirror.comparison import normalized_email, normalized_name, same_email, same_name
from users.sync.operations.base import (
    Changes,
    Claims,
    Operation,
    Seen,
    Verdict,
    seen_after,
    write_fields,
)
from users.version import SHOWN, value_of


class Edit(Operation):
    """Name, role, internal role and group; the email too while there is no Clerk account.

    Clerk holds the name alone. `details["clerk_name"]` is Clerk's name as it was known before;
    the new one is split by the two names that Clerk has, unless `details["split"]` says how.
    """

    kind = OperationKind.UPDATE
    _clerk_names = ("", "")
    sent_again = True
    reads_first = True

    @property
    def asks_clerk(self) -> bool:
        return bool(self.clerk_id) and "name" in self.changes

    @property
    def claims(self) -> Claims:
        return {"name": normalized_name(self.new_name)} if self.asks_clerk else {}

    @property
    def moves(self) -> bool:
        return not same_name(self.new_name, self.details.get("clerk_name", ""))

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        """Keep the name that Clerk was known to have: of a plan, else our copy, else the row."""
        account = getattr(user, "account", None)
        if account is None or account.clerk_id != self.clerk_id:
            account = ClerkAccount.objects.filter(pk=self.clerk_id).first()
        if account is not None:
            self._clerk_names = account.first_name, account.last_name
            known = names.join(*self._clerk_names)
        else:
            known = str(self.changes["name"][0] or "")
        self.details.setdefault("clerk_name", known)

    def build_on(self, account: ClerkUser) -> None:
        self._clerk_names = account.first_name, account.last_name
        self.details = self.details | {"clerk_name": names.join(*self._clerk_names)}

    @property
    def new_name(self) -> str:
        return str(self.changes["name"][1])

    def write(self, row: BuilderUser) -> BuilderUser:
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        known_first, known_last = self._clerk_names
        split = names.split(self.new_name, first=known_first, last=known_last)
        first, last = self.details.get("split", split)
        return self.seen_in(
            clerk.update_user(self.clerk_id, first_name=first, last_name=last, deadline=deadline)
        )

    def moved_in_clerk(self, row: BuilderUser, account: ClerkUser) -> list[FieldConflict]:
        known = {self.details["clerk_name"], self.new_name}
        if any(same_name(account.name, name) for name in known):
            return []
        return [FieldConflict("name", self.changes["name"][0], account.name, self.new_name)]

    def judge(self, account: ClerkUser) -> Verdict:
        if same_name(account.name, self.new_name):
            return Verdict.HAS_IT
        known_before = (str(self.changes["name"][0] or ""), self.details.get("clerk_name", ""))
        if any(same_name(account.name, name) for name in known_before):
            return Verdict.HAS_NOT
        return Verdict.CANNOT_TELL

    def seen_in(self, account: ClerkUser) -> Seen:
        seen = super().seen_in(account)
        if seen.verdict is Verdict.CANNOT_TELL:
            why = (
                f"Clerk holds a third name, “{account.name}”: it was changed there as well. "
                "Use Clerk's version and discard this change."
            )
            return Seen(seen.verdict, account, why)
        return seen


class ReplaceEmail(Operation):
    """*Replace now*: the new address becomes the only one of the same Clerk user, verified."""

    kind = OperationKind.REPLACE_EMAIL
    reads_first = True
    _known_before: str | None = None

    @property
    def old(self) -> str:
        return str(self.changes["email"][0])

    @property
    def new(self) -> str:
        return str(self.changes["email"][1])

    @property
    def claims(self) -> Claims:
        return {"email": normalized_email(self.new)}

    @property
    def moves(self) -> bool:
        return not same_email(self.details.get("clerk_email", self.old), self.new)

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        """Keep the address that a plan or our copy showed to staff, whether or not the row has
        it."""
        account = getattr(user, "account", None)
        shown = account.email if account is not None else None
        self._known_before = self.details.get("clerk_email", shown)

    def build_on(self, account: ClerkUser) -> None:
        self.details = self.details | {"clerk_email": account.email}

    def write(self, row: BuilderUser) -> BuilderUser:
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        address = clerk.replace_email(self.clerk_id, email=self.new, deadline=deadline)
        if not same_email(address.address, self.new):
            return Seen(Verdict.CANNOT_TELL)
        return seen_after(self, clerk, deadline)

    def moved_in_clerk(self, row: BuilderUser, account: ClerkUser) -> list[FieldConflict]:
        known = self.old if self._known_before is None else self._known_before
        if not account.email or any(same_email(account.email, one) for one in (known, self.new)):
            return []
        return [FieldConflict("email", self.old, account.email, self.new)]

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_IT if same_email(account.email, self.new) else Verdict.HAS_NOT


class SetPassword(Operation):
    """A new password goes to Clerk alone. The attempt says "(set)" and when Clerk's was last
    changed before: a later time there shows that ours arrived."""

    kind = OperationKind.SET_PASSWORD
    changes_row = False
    has_secrets = True
    unprovable = True

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

    @property
    def claims(self) -> Claims:
        # Two passwords cannot be compared: each counts as another one.
        return {"password": object()}

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        account = clerk.get_user(self.clerk_id, deadline=deadline)
        changed = account.password_last_updated_at
        self.details["password_last_updated_at"] = changed.isoformat() if changed else None

    def written(self, row: BuilderUser) -> bool:
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        return row

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        return self.seen_in(
            clerk.set_password(
                self.clerk_id, password=self._password, sign_out=self._sign_out, deadline=deadline
            )
        )

    def judge(self, account: ClerkUser) -> Verdict:
        """Judge by the time of the last change. It proves that the password was changed, and not
        by whom: so it is proof within the call alone, and recovery cannot tell."""
        changed = account.password_last_updated_at
        before = parse_datetime(self.details.get("password_last_updated_at") or "")
        if changed is None and (before is not None or account.password_enabled):
            return Verdict.CANNOT_TELL
        if changed is not None and (before is None or changed > before):
            return Verdict.HAS_IT
        return Verdict.HAS_NOT

    def proven(self, seen: Seen) -> Seen:
        """A password that was changed since may be the person's own."""
        return Seen(Verdict.CANNOT_TELL) if seen.verdict is Verdict.HAS_IT else seen


class Create(Operation):
    """A new user, with a Clerk account made at once (`details["account"]` = "create") or none.

    The account carries our id in its public metadata: so it is known again if the answer is
    lost, and an account of somebody else is never taken for it.
    """

    kind = OperationKind.CREATE
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
    def claims(self) -> Claims:
        name = normalized_name(str(self.changes["name"][1]))
        return {"account": ("create", normalized_email(self.email), name)}

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

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        first, last = names.split(str(self.changes["name"][1]))
        try:
            return self.seen_in(
                clerk.create_user(
                    email=self.email,
                    first_name=first,
                    last_name=last,
                    public_metadata={OUR_ID: str(self.user_id)},
                    deadline=deadline,
                )
            )
        except ClerkRefused as refused:
            # An earlier request of the same create may have arrived late.
            if refused.code == "form_identifier_exists":
                seen = self.look(clerk, deadline)
                if seen.verdict is Verdict.HAS_IT:
                    return seen
            raise

    def judge(self, account: ClerkUser) -> Verdict:
        ours = account.public_metadata.get(OUR_ID) == str(self.user_id)
        return Verdict.HAS_IT if ours and same_email(account.email, self.email) else Verdict.HAS_NOT

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        for account in clerk.find_by_email(self.email, deadline=deadline):
            if self.judge(account) is Verdict.HAS_IT:
                return Seen(Verdict.HAS_IT, account)
        return self.not_listed(Verdict.HAS_NOT, clerk, deadline)

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        if account is not None:
            row.clerk_id = account.id
            with guard.synchronized():
                row.save(update_fields=["clerk_id", "updated_at"])
            agreements.decide(row, account.id, at=self.decided_at)


class CreateFromClerk(Create):
    """A new user for an account that Clerk has. Nothing is sent."""

    @classmethod
    def of_account(cls, user: BuilderUser) -> Self:
        operation = cls.of(user, account="none")
        operation.clerk_id = user.account_id
        operation.changes["clerk_id"] = [None, user.clerk_id]
        return operation

    def write(self, row: BuilderUser) -> BuilderUser:
        """Raises `Conflict` when the account is not as the plan found it."""
        store.lock()  # an event would link it to another row meanwhile
        known = ClerkAccount.objects.filter(pk=self.clerk_id).first()
        moved: list[FieldConflict] = []
        if known is None or known.deleted_at or known.user_id:
            moved.append(FieldConflict("account", None, "connected or deleted", self.clerk_id))
        elif not same_email(known.email, self.email):
            moved.append(FieldConflict("email", self.email, known.email, self.email))
        if moved:
            raise Conflict("The account changed since the plan.", conflicts=tuple(moved))
        super().write(row)
        agreements.decide(row, self.clerk_id)
        return row


class Delete(Operation):
    """The user leaves Clerk, then the table. A 404 of our own instance counts as done."""

    kind = OperationKind.DELETE
    log_flag = DELETION
    missing = Verdict.HAS_IT

    @classmethod
    def of(cls, user: BuilderUser) -> Delete:
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id=user.account_id,
            changes={"email": [user.email, None]},
            details={"user_id": str(user.pk)},
        )

    @property
    def claims(self) -> Claims:
        # A late invitation would make an account of nobody.
        return {"account": "deleted", "invitation": None}

    def written(self, row: BuilderUser) -> bool:
        return False

    def write(self, row: BuilderUser) -> None:
        with guard.synchronized():
            row.delete()

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        try:
            clerk.delete_user(self.clerk_id, deadline=deadline)
        except ClerkNotFound:
            seen = self.not_found(clerk, deadline)
            if seen.verdict is not Verdict.HAS_IT:
                raise
            return seen
        return Seen(Verdict.HAS_IT)

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_NOT
