"""Define how a user is created, edited and deleted, and gets a new email or password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.utils.dateparse import parse_datetime

from users import guard
from users.changes import Change, Changes
from users.clerk import Clerk, ClerkUser, Deadline, names
from users.clerk.metadata import OUR_ID
from users.errors import ClerkEmailTaken, ClerkNotFound, Conflict, FieldConflict, Refused
from users.models import (
    BuilderUser,
    ClerkAccount,
    Invitation,
    OperationKind,
    Role,
    SignIn,
)
from users.sync.mirror import agreements, store
from users.sync.mirror.comparison import normalized_email, normalized_name, same_email, same_name
from users.sync.operations import references
from users.sync.operations.base import (
    Claims,
    Operation,
    Seen,
    Verdict,
    seen_after,
    write_fields,
)
from users.version import SHOWN, value_of


class Edit(Operation):
    """Edit name, role, internal role and group; also the email while there is no Clerk account.

    Clerk holds only the name. `details["clerk_name"]` is Clerk's name as it was known before. The
    new name is split by the two names that Clerk has, unless `details["split"]` holds the split.
    """

    kind = OperationKind.UPDATE
    _clerk_names = ("", "")
    sent_again = True
    reads_first = True

    @property
    def asks_clerk(self) -> bool:
        """Tell whether the name of a linked user changes: Clerk holds nothing else of it."""
        return bool(self.clerk_id) and "name" in self.changes

    @property
    def claims(self) -> Claims:
        """Return the new name, normalized, if Clerk must be told.

        To make an administrator excludes invitations: a late one could give the row to another
        sign-in.
        """
        claims: Claims = {"name": normalized_name(self.new_name)} if self.asks_clerk else {}
        return claims | {"invitation": None} if self._makes_administrator else claims

    @property
    def _makes_administrator(self) -> bool:
        role = self.changes.get("role")
        return role is not None and role.after == Role.ADMIN

    def check(self, row: BuilderUser) -> None:
        """Check that nobody can become an administrator by an invitation to another address.

        It may have been sent by somebody who may not invite administrators. Raises `Refused`.
        """
        if not self._makes_administrator:
            return
        email = self.changes["email"].after if "email" in self.changes else row.email
        for invitation in row.invitations.open():
            if not same_email(invitation.email, str(email)):
                why = (
                    f"The invitation to {invitation.email} is still open: whoever accepts it would "
                    "be an administrator. Revoke it first."
                )
                raise Refused(
                    "Nothing was saved, here or in Clerk.",
                    code="still_invited",
                    fields={"role": [why]},
                )

    @property
    def moves(self) -> bool:
        """Tell whether Clerk had another name before."""
        return not same_name(self.new_name, self.details.get("clerk_name", ""))

    def prepare(self, user: BuilderUser) -> None:
        """Record the name that Clerk was known to have: of a plan, our mirror, or the row."""
        account = getattr(user, "account", None)
        if account is None or account.clerk_id != self.clerk_id:
            account = ClerkAccount.objects.filter(pk=self.clerk_id).first()
        if account is not None:
            self._clerk_names = account.first_name, account.last_name
            known = names.join(*self._clerk_names)
        else:
            known = str(self.changes["name"].before or "")
        self.details.setdefault("clerk_name", known)

    def build_on(self, account: ClerkUser) -> None:
        """Record the names that Clerk has now. The new name is split by them."""
        self._clerk_names = account.first_name, account.last_name
        self.details = self.details | {"clerk_name": names.join(*self._clerk_names)}

    @property
    def new_name(self) -> str:
        """Return the wanted full name."""
        return str(self.changes["name"].after)

    def write(self, row: BuilderUser) -> BuilderUser:
        """Save the changed columns of the row.

        Whoever makes the user an administrator gives the row to whoever accepts the open invitation
        to the row's own address: see `check`.
        """
        if self._makes_administrator:
            row.invitations.open().update(for_admins=True)
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Split the new name, and send both parts to Clerk."""
        known_first, known_last = self._clerk_names
        split = names.split(self.new_name, first=known_first, last=known_last)
        first, last = self.details.get("split", split)
        return self.seen_in(
            clerk.update_user(self.clerk_id, first_name=first, last_name=last, deadline=deadline)
        )

    def moved_in_clerk(self, row: BuilderUser, account: ClerkUser) -> list[FieldConflict]:
        """Report a name in Clerk that nobody who made this edit has seen or wants."""
        before = self.changes["name"].before
        seen = (self.details["clerk_name"], str(before or ""), self.new_name)
        if any(same_name(account.name, name) for name in seen):
            return []
        return [FieldConflict("name", before, account.name, self.new_name)]

    def judge(self, account: ClerkUser) -> Verdict:
        """Compare Clerk's name with the wanted one, and with those known before.

        The verdict on any other name is `CANNOT_TELL`.
        """
        if same_name(account.name, self.new_name):
            return Verdict.HAS_IT
        known_before = (str(self.changes["name"].before or ""), self.details.get("clerk_name", ""))
        if any(same_name(account.name, name) for name in known_before):
            return Verdict.HAS_NOT
        return Verdict.CANNOT_TELL

    def seen_in(self, account: ClerkUser) -> Seen:
        """Judge the account, and explain a third name in Clerk."""
        seen = super().seen_in(account)
        if seen.verdict is Verdict.CANNOT_TELL:
            why = (
                f"Clerk holds a third name, “{account.name}”: it was changed there as well. "
                "Use Clerk's version and discard this change."
            )
            return Seen(seen.verdict, account, why)
        return seen


class ReplaceEmail(Operation):
    """Make a new address the only one of the same Clerk user, verified (*Replace now*)."""

    kind = OperationKind.REPLACE_EMAIL
    reads_first = True
    _known_before: str | None = None

    @property
    def old(self) -> str:
        """Return the address that the change starts from."""
        return str(self.changes["email"].before)

    @property
    def new(self) -> str:
        """Return the wanted address."""
        return str(self.changes["email"].after)

    @property
    def claims(self) -> Claims:
        """Return the wanted address, normalized."""
        return {"email": normalized_email(self.new)}

    @property
    def moves(self) -> bool:
        """Tell whether Clerk had another address before."""
        return not same_email(self.details.get("clerk_email", self.old), self.new)

    def prepare(self, user: BuilderUser) -> None:
        """Remember the address that a plan or our mirror showed to staff as Clerk's.

        The row may hold another one.
        """
        account = getattr(user, "account", None)
        shown = account.email if account is not None else None
        self._known_before = self.details.get("clerk_email", shown)

    def build_on(self, account: ClerkUser) -> None:
        """Record the address that Clerk has now."""
        self.details = self.details | {"clerk_email": account.email}

    def write(self, row: BuilderUser) -> BuilderUser:
        """Save the changed columns of the row."""
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Replace the address, then read the account, which the answer does not hold."""
        address = clerk.replace_email(self.clerk_id, email=self.new, deadline=deadline)
        if not same_email(address.address, self.new):
            return Seen(Verdict.CANNOT_TELL)
        return seen_after(self, clerk, deadline)

    def moved_in_clerk(self, row: BuilderUser, account: ClerkUser) -> list[FieldConflict]:
        """Report an address in Clerk that nobody who made this change has seen or wants."""
        seen = (self.old, self._known_before or self.old, self.new)
        if not account.email or any(same_email(account.email, one) for one in seen):
            return []
        return [FieldConflict("email", self.old, account.email, self.new)]

    def judge(self, account: ClerkUser) -> Verdict:
        """Compare the account's address with the wanted one."""
        return Verdict.HAS_IT if same_email(account.email, self.new) else Verdict.HAS_NOT


class SetPassword(Operation):
    """Set a new password in Clerk; it is stored nowhere else.

    The attempt records "(set)", and when Clerk's password was last changed before. A later time in
    Clerk shows that ours has arrived.
    """

    kind = OperationKind.SET_PASSWORD
    changes_row = False
    has_secrets = True
    reads_first = True
    mirror_lacks_it = True
    unprovable = True

    _password = ""
    _sign_out = False

    @classmethod
    def to(cls, user: BuilderUser, *, password: str, sign_out: bool) -> SetPassword:
        """Build the change. `sign_out` ends the person's other sessions."""
        change = cls.on(user, {"password": Change("", "(set)")})
        change._password, change._sign_out = password, sign_out
        return change

    @property
    def claims(self) -> Claims:
        """Return a claim that no other change has."""
        # Two passwords cannot be compared, so each one counts as different.
        return {"password": object()}

    def build_on(self, account: ClerkUser) -> None:
        """Record when the password was last changed in Clerk."""
        changed = account.password_last_updated_at
        self.details = self.details | {
            "password_last_updated_at": changed.isoformat() if changed else None
        }

    def written(self, row: BuilderUser) -> bool:
        """Return False: the row holds nothing of it."""
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        """Return the row as it is."""
        return row

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Send the password to Clerk."""
        return self.seen_in(
            clerk.set_password(
                self.clerk_id, password=self._password, sign_out=self._sign_out, deadline=deadline
            )
        )

    def judge(self, account: ClerkUser) -> Verdict:
        """Judge by the time of the last change of the password.

        It proves that the password was changed, but not by whom. So it is proof only within the
        call itself, and recovery cannot tell.
        """
        changed = account.password_last_updated_at
        before = parse_datetime(self.details.get("password_last_updated_at") or "")
        if changed is None and (before is not None or account.password_enabled):
            return Verdict.CANNOT_TELL
        if changed is not None and (before is None or changed > before):
            return Verdict.HAS_IT
        return Verdict.HAS_NOT

    def proven(self, seen: Seen) -> Seen:
        """Return `CANNOT_TELL` if the password was changed.

        Later than in the call itself, it may be the person's own.
        """
        return Seen(Verdict.CANNOT_TELL) if seen.verdict is Verdict.HAS_IT else seen


class Create(Operation):
    """Create a user, with a Clerk account (`details["account"]` is `CREATE`) or without one.

    The account carries our id in its public metadata. So it is recognized if the answer is lost,
    and another person's account is never mistaken for it.
    """

    kind = OperationKind.CREATE
    log_flag = ADDITION

    @classmethod
    def of(cls, user: BuilderUser, *, account: SignIn) -> Self:
        """Build the change from a user who is not stored yet."""
        changes: Changes = {
            field: Change(None, value_of(user, field))
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
        """Tell whether a Clerk account is created too."""
        return self.details.get("account") == SignIn.CREATE

    @property
    def claims(self) -> Claims:
        """Return the email and name of the new account, normalized."""
        return {"account": ("create", normalized_email(self.email), normalized_name(self.name))}

    @property
    def creates_row(self) -> bool:
        """Return True."""
        return True

    @property
    def email(self) -> str:
        """Return the email of the new user."""
        return str(self.changes["email"].after)

    @property
    def name(self) -> str:
        """Return the name of the new user."""
        return str(self.changes["name"].after)

    def new_row(self) -> BuilderUser:
        """Build the row from the recorded values, with the recorded id."""
        values = {field: change.after for field, change in self.changes.items()}
        values["builder_group_id"] = values.pop("builder_group", None)
        return BuilderUser(pk=self.user_id, **values)

    def stale_fields(self, row: BuilderUser) -> list[str]:
        """Return nothing: there is no earlier row to compare with."""
        return []

    def written(self, row: BuilderUser) -> bool:
        """Return False: there is no row before."""
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        """Insert the row."""
        row.save(force_insert=True)
        return row

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Create the account, or find the one that an earlier request has created."""
        first, last = names.split(self.name)
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
        except ClerkEmailTaken:
            # An earlier request of the same create may have arrived late.
            seen = self.look(clerk, deadline)
            if seen.verdict is Verdict.HAS_IT:
                return seen
            raise

    def judge(self, account: ClerkUser) -> Verdict:
        """Recognize our account by our id in its metadata and by its email."""
        ours = account.public_metadata.get(OUR_ID) == str(self.user_id)
        return Verdict.HAS_IT if ours and same_email(account.email, self.email) else Verdict.HAS_NOT

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Search our account by its email, as its Clerk id is not known."""
        for account in clerk.find_by_email(self.email, deadline=deadline):
            if self.judge(account) is Verdict.HAS_IT:
                return Seen(Verdict.HAS_IT, account)
        return self.not_listed(Verdict.HAS_NOT, clerk, deadline)

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        """Link the row to the new account."""
        if account is not None:
            row.clerk_id = account.id
            with guard.synchronized():
                row.save(update_fields=["clerk_id", "updated_at"])
            agreements.decide(row, account.id, at=self.decided_at)


class CreateAccount(Create):
    """Create the Clerk account of a user whose row exists, with the name and email of the row."""

    kind = OperationKind.CREATE_ACCOUNT
    log_flag = CHANGE
    changes_row = False

    @classmethod
    def of_row(cls, user: BuilderUser) -> Self:
        """Build the creation of the account of a user."""
        changes: Changes = {"account": Change(None, user.email)}
        return cls.on(user, changes, account=SignIn.CREATE, email=user.email, name=user.name)

    @property
    def claims(self) -> Claims:
        """Also exclude invitations: a late one would be to an address that has an account."""
        return super().claims | {"invitation": None}

    @property
    def concerns_others(self) -> bool:
        """Return True: another row or account may have claimed the address."""
        return True

    @property
    def addresses(self) -> list[str]:
        """Return the email of the new account."""
        return [self.email]

    @property
    def creates_row(self) -> bool:
        """Return False: the row exists."""
        return False

    @property
    def email(self) -> str:
        """Return the email of the row when this was decided."""
        return str(self.details["email"])

    @property
    def wanted_email(self) -> str:
        """Return the email of the new account."""
        return self.email

    @property
    def name(self) -> str:
        """Return the name of the row when this was decided."""
        return str(self.details["name"])

    def stale_fields(self, row: BuilderUser) -> list[str]:
        """List what the row has no more as it was sent. An account of its own counts too."""
        sent = {"name": self.name, "email": self.email}
        stale = [field for field, value in sent.items() if value_of(row, field) != value]
        return [*stale, "clerk_id"] if row.linked else stale

    def moved_fields(self, row: BuilderUser) -> list[str]:
        """Leave out the name: the account is that of the row, whatever the row's name is now."""
        return [field for field in self.stale_fields(row) if field != "name"]

    def check(self, row: BuilderUser) -> None:
        """Check that no invitation is open: nobody could accept it once the account exists.

        Raises `Refused`.
        """
        if invitation := row.invitations.open().first():
            raise Refused(
                f"The invitation to {invitation.email} is still open. Revoke it first.",
                code="still_invited",
            )

    def written(self, row: BuilderUser) -> bool:
        """Tell whether the row has an account: an event may have linked it."""
        return row.linked

    def write(self, row: BuilderUser) -> BuilderUser:
        """Return the row as it is: `finish` links it to the account."""
        return row

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        """Link the row to the new account, unless it has another one by now."""
        if account is not None and row.account_id in ("", account.id):
            super().finish(row, account)


class CreateFromClerk(Create):
    """Create a user for an account that Clerk already has. Nothing is sent."""

    @classmethod
    def of_account(cls, user: BuilderUser) -> Self:
        """Build the change from a user who holds the Clerk id and is not stored yet."""
        operation = cls.of(user, account=SignIn.NONE)
        operation.clerk_id = user.account_id
        operation.changes["clerk_id"] = Change(None, user.clerk_id)
        return operation

    def write(self, row: BuilderUser) -> BuilderUser:
        """Insert the row, linked to its account.

        Raises `Conflict` if the account is no longer as the plan found it.
        """
        store.lock()  # otherwise an event could link it to another row meanwhile
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
    """Delete the user in Clerk, then the row. A 404 of our own instance counts as done."""

    kind = OperationKind.DELETE
    log_flag = DELETION
    missing = Verdict.HAS_IT

    @classmethod
    def of(cls, user: BuilderUser) -> Delete:
        """Build the deletion of a user."""
        return cls(
            user_id=user.pk,
            label=str(user),
            clerk_id=user.account_id,
            changes={"email": Change(user.email, None)},
            details={"user_id": str(user.pk)},
        )

    @property
    def claims(self) -> Claims:
        """Return claims that exclude other changes of the account, and invitations."""
        # A late invitation would create an account without a user.
        return {"account": "deleted", "invitation": None}

    def written(self, row: BuilderUser) -> bool:
        """Return False: the row is still there."""
        return False

    def ownerless(self, row: BuilderUser | None) -> Mapping[str, str]:
        """Return the invitations of the row that can still be accepted."""
        open_ones = Invitation.objects.acceptable().filter(user=self.user_id)
        return {one.clerk_invitation_id or "": one.email for one in open_ones}

    def write(self, row: BuilderUser) -> None:
        """Delete the row.

        Raises `Refused` if rows of other applications refer to it.
        """
        if referring := references.to_user(row.pk):
            raise Refused(
                f"The other application still has {referring} of this user. Nothing was deleted, "
                "here or in Clerk. Give this to somebody else first.",
                code="referenced",
            )
        with guard.synchronized():
            row.delete()

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Delete the user in Clerk, and judge a 404."""
        try:
            clerk.delete_user(self.clerk_id, deadline=deadline)
        except ClerkNotFound:
            seen = self.not_found(clerk, deadline)
            if seen.verdict is not Verdict.HAS_IT:
                raise
            return seen
        return Seen(Verdict.HAS_IT)

    def judge(self, account: ClerkUser) -> Verdict:
        """Return `HAS_NOT`: the account is still there."""
        return Verdict.HAS_NOT
