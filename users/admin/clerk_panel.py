"""The row of a user beside the mirror of its account. Clerk is not asked."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from users.admin.offers import why_not_copied, why_not_sent
from users.clerk import names
from users.models import Agreement, BuilderUser, ClerkAccount
from users.sync.mirror import comparison
from users.sync.mirror.health import is_stale
from users.sync.mirror.report import moved
from users.sync.mirror.status import UserStatus
from users.version import same


@dataclass(frozen=True)
class Row:
    """One field of both sides.

    `differs` follows the list of users: a value that Clerk lacks is no difference there, but staff
    can copy it to Clerk. `cause` says on which side the field was changed. `not_copied` says why
    Clerk's value cannot be copied here, and `not_sent` why ours cannot be copied to Clerk, "" if it
    can.
    """

    field: str
    label: str
    ours: str
    clerks: str
    differs: bool
    cause: str
    not_copied: str
    not_sent: str = ""

    @property
    def can_push(self) -> bool:
        """Return whether a copy in either direction would change anything."""
        return not same(self.field, self.ours, self.clerks)


@dataclass(frozen=True)
class Panel:
    """The comparison of a user with its account.

    `replaced` are the accounts that the person had before an accepted change of email.
    """

    account: ClerkAccount
    rows: tuple[Row, ...]
    sign_in: tuple[str, ...]
    replaced: tuple[ClerkAccount, ...]

    @property
    def apart(self) -> bool:
        """Return whether any field can be copied in one direction."""
        return any(row.can_push for row in self.rows)

    @property
    def stale(self) -> bool:
        """Return whether the account was not checked lately."""
        return is_stale(self.account)


def account_of(user: BuilderUser) -> ClerkAccount | None:
    """Return the mirror of the account that is linked to a user, or None."""
    try:
        return user.account
    except ClerkAccount.DoesNotExist:
        return None


def not_compared(user: BuilderUser, state: UserStatus) -> list[str]:
    """Say of a user who matches Clerk which values Clerk does not have."""
    account = account_of(user)
    if account is None or state is not UserStatus.IN_STEP:
        return []
    words = {"name": _("No name in Clerk"), "email": _("No email in Clerk")}
    return [words[field] for field in comparison.lacked_by_clerk(user, account)]


def panel(user: BuilderUser) -> Panel | None:
    """Compare a user with its account. Return None without an account, or if it was never seen."""
    account = account_of(user)
    if account is None or account.clerk_id != user.clerk_id:
        return None
    clerk_name = names.join(account.first_name, account.last_name)
    agreement = Agreement.objects.filter(pk=user.pk).first()
    name_differs = comparison.name_differs(user.name, clerk_name)
    email_differs = comparison.email_differs(user.email, account.email)
    not_copied = why_not_copied(user, account)
    rows = (
        Row(
            "name", _("Name"), names.squash(user.name), clerk_name, name_differs,
            moved("name", user.name, clerk_name, agreement.name if agreement else None),
            not_copied.get("name", ""),
        ),
        Row(
            "email", _("Email"), user.email, account.email, email_differs,
            moved("email", user.email, account.email, agreement.email if agreement else None),
            not_copied.get("email", ""),
            why_not_sent(user, account).get("email", ""),
        ),
    )  # fmt: skip
    replaced = tuple(user.replaced_accounts.order_by("-released_at"))
    return Panel(account, rows, _ways_to_sign_in(account), replaced)


def doubt_of(user: BuilderUser) -> str:
    """Say why it is in doubt which account belongs to the user; "" without a doubt."""
    return Agreement.objects.filter(pk=user.pk).values_list("note", flat=True).first() or ""


def _ways_to_sign_in(account: ClerkAccount) -> tuple[str, ...]:
    ways = [_("Password")] if account.password_enabled else []
    ways += [provider.removeprefix("oauth_").capitalize() for provider in account.providers]
    if account.email:
        ways.append(_("Code by email") if account.email_verified else _("Email, not verified"))
    if account.two_factor_enabled:
        ways.append(_("Two-factor"))
    return tuple(ways)
