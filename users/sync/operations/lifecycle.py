"""Define how a user is created, gets a Clerk account, and is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from django.contrib.admin.models import ADDITION, CHANGE, DELETION
from django.utils.translation import gettext as _

from users import guard
from users.changes import Change, Changes
from users.clerk import Clerk, ClerkUser, Deadline, names
from users.clerk.metadata import OUR_ID
from users.errors import ClerkEmailTaken, ClerkNotFound, Conflict, FieldConflict, Refused
from users.models import BuilderUser, ClerkAccount, Invitation, OperationKind, SignIn
from users.sync.mirror import agreements, store
from users.sync.mirror.comparison import normalized_email, normalized_name, same_email
from users.sync.operations import references
from users.sync.operations.base import Claims, Operation, Seen, Verdict
from users.version import SHOWN, value_of


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
                _("The invitation to {email} is still open. Revoke it first.").format(
                    email=invitation.email
                ),
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
            moved.append(FieldConflict("account", None, _("connected or deleted"), self.clerk_id))
        elif not same_email(known.email, self.email):
            moved.append(FieldConflict("email", self.email, known.email, self.email))
        if moved:
            raise Conflict(_("The account changed since the plan."), conflicts=tuple(moved))
        super().write(row)
        agreements.decide(row, self.clerk_id)
        return row


class Delete(Operation):
    """Delete the user in Clerk, then the row. A 404 of our own instance counts as done."""

    kind = OperationKind.DELETE
    typed = False
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
                _(
                    "The other application still has {referring} of this user. Nothing was "
                    "deleted, here or in Clerk. Give this to somebody else first."
                ).format(referring=referring),
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
