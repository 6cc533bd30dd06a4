"""Define how a user is edited, and gets a new email or password."""

from __future__ import annotations

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from users.changes import Change
from users.clerk import Clerk, ClerkUser, Deadline, names
from users.errors import FieldConflict, Refused
from users.models import BuilderUser, ClerkAccount, OperationKind, Role
from users.sync.mirror.comparison import normalized_email, normalized_name, same_email, same_name
from users.sync.operations.base import Claims, Operation, Seen, Verdict, seen_after, write_fields


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
                why = _(
                    "The invitation to {email} is still open: whoever accepts it would be an "
                    "administrator. Revoke it first."
                ).format(email=invitation.email)
                raise Refused(
                    _("Nothing was saved, here or in Clerk."),
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
            why = _(
                "Clerk holds a third name, “{name}”: it was changed there as well. Use Clerk's "
                "version and discard this change."
            ).format(name=account.name)
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
