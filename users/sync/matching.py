"""Which row a Clerk account belongs to. In doubt to none: a wrong link gives one person's sign-in
to another.

In this order: our id in the account's public metadata, which only our own calls can write; else
its *verified primary* email, if exactly one row has it and that row is free.
"""

from __future__ import annotations

from dataclasses import dataclass

from users.clerk import ClerkUser
from users.models import BuilderUser, ClerkAccount, Invitation
from users.sync import copies
from users.sync.mirror import comparison
from users.sync.operations.inviting import OUR_INVITATION


@dataclass(frozen=True)
class Match:
    """`user` is the row to link, None for none; `invitation` the one that was accepted; `note`
    says in words why an account that looks like one of ours is not linked."""

    user: BuilderUser | None = None
    invitation: Invitation | None = None
    note: str = ""


def match(account: ClerkUser) -> Match:
    """Find the row for an account that no row has."""
    if account.banned:
        return Match()
    claimed = copies.claimed_id(account)
    claimant = BuilderUser.objects.filter(pk=claimed).first() if claimed else None
    if claimant is not None:
        return _claim(account, claimant)
    return _by_email(account)


def _claim(account: ClerkUser, user: BuilderUser) -> Match:
    invitation = _accepted(account, user)
    if not user.linked or invitation is not None:
        return Match(user, invitation)
    return Match(
        note=f"Its metadata names {user}, who has another Clerk account. Nothing was linked."
    )


def _accepted(account: ClerkUser, user: BuilderUser) -> Invitation | None:
    """The invitation of this user that the account came from, if it still stood."""
    reference = str(account.public_metadata.get(OUR_INVITATION, ""))
    if not account.email_verified:  # an expired link leads to an ordinary sign-up
        return None
    standing = [Invitation.State.PENDING, Invitation.State.EXPIRED]
    for invitation in Invitation.objects.filter(user=user, status__in=standing):
        accepted = str(invitation.reference) == reference
        if accepted and comparison.same_email(invitation.email, account.email):
            return invitation
    return None


def _by_email(account: ClerkUser) -> Match:
    rows = list(comparison.with_email(BuilderUser.objects.all(), account.email)[:2])
    if not rows:
        return Match()
    if len(rows) > 1:
        return Match(note="Several builder users have its email. Nothing was linked.")
    [user] = rows
    if not account.email_verified:
        return Match(note=f"{user} has its email, but it is not verified. Nothing was linked.")
    if user.linked:
        return Match(note=f"{user} has its email and {_state_of(user)}. Nothing was linked.")
    return Match(user)


def _state_of(user: BuilderUser) -> str:
    deleted = ClerkAccount.objects.filter(pk=user.clerk_id, deleted_at__isnull=False).exists()
    if deleted:
        return "is linked to an account that was deleted in Clerk: link this one by hand"
    return "another Clerk account"
