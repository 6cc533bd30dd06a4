"""Answer with which address a person signs in, and what blocks that, as far as our mirror knows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from django.utils.translation import gettext as _

from users.models import BuilderUser, ClerkAccount
from users.sync.mirror.comparison import same_email


class Block(Enum):
    """What keeps a person from signing in with their account."""

    DELETED = "deleted"
    BANNED = "banned"
    LOCKED = "locked"


def block_of(account: ClerkAccount | None) -> Block | None:
    """Return what keeps the person of an account from signing in; None if nothing does."""
    if account is None:
        return None
    if account.deleted_at:
        return Block.DELETED
    if account.banned:
        return Block.BANNED
    return Block.LOCKED if account.locked else None


@dataclass(frozen=True)
class SignInAddress:
    """The address with which a person signs in.

    `email` is Clerk's address, or the row's while Clerk's is not known; empty if the account has
    none. `stored` is the row's.
    """

    email: str
    stored: str

    @property
    def differs(self) -> bool:
        """Return whether the row holds another address."""
        return not same_email(self.email, self.stored)

    @property
    def sentence(self) -> str:
        """Say with which address the person signs in; name both addresses if they differ."""
        if not self.differs:
            return _("This email is how they sign in.")
        if not self.email:
            return _("Their account in Clerk has no email.")
        return _("They sign in with {email}: Clerk has that address, not {stored}.").format(
            email=self.email, stored=self.stored
        )

    def __str__(self) -> str:
        """Return the address; name both if they differ."""
        if not self.differs:
            return self.email
        return _("{email} (stored here: {stored})").format(
            email=self.email or _("no email in Clerk"), stored=self.stored
        )


def sign_in_address(user: BuilderUser) -> SignInAddress:
    """Return the address with which a linked user signs in."""
    try:
        account = user.account
    except ClerkAccount.DoesNotExist:
        return SignInAddress(user.email, user.email)
    known = account.clerk_id == user.clerk_id and account.deleted_at is None
    return SignInAddress(account.email if known else user.email, user.email)
