"""Revoke invitations in Clerk that nobody here needs any more."""

from __future__ import annotations

from users.clerk import Deadline, clerk
from users.errors import ClerkNotFound, ClerkRefused
from users.models import Invitation, InvitationStatus
from users.sync.mirror import instance

ALREADY_ACCEPTED = "invitation_already_accepted"
ALREADY_CLOSED = frozenset(
    {ALREADY_ACCEPTED, "invitation_already_revoked", "invitation_already_expired"}
)
"""Clerk's codes for an invitation that is no longer open, so that it cannot be revoked."""


def close_in_clerk(invitation_id: str, deadline: Deadline) -> bool:
    """Revoke an invitation in Clerk if it is still open. Nothing changes here.

    Returns False if it was accepted before. Raises `ClerkError`.
    """
    try:
        clerk().revoke_invitation(invitation_id, deadline=deadline)
    except ClerkNotFound:
        if instance.is_doubtful(clerk(), deadline):
            raise
    except ClerkRefused as refusal:
        if refusal.code not in ALREADY_CLOSED:
            raise
        return refusal.code != ALREADY_ACCEPTED
    return True


def close(invitation_id: str, deadline: Deadline) -> bool:
    """Revoke an invitation in Clerk, then here. Returns False if it was accepted before.

    Raises `ClerkError`; then nothing changed here.
    """
    revoked = close_in_clerk(invitation_id, deadline)
    status = InvitationStatus.REVOKED if revoked else InvitationStatus.ACCEPTED
    Invitation.objects.filter(clerk_invitation_id=invitation_id).update(
        status=status, revoke_due=False
    )
    return revoked
