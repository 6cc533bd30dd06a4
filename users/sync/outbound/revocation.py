"""Revoke invitations in Clerk that nobody here needs any more."""

from __future__ import annotations

from users.clerk import Deadline, clerk
from users.errors import ClerkInvitationAccepted, ClerkInvitationClosed, ClerkNotFound
from users.models import Invitation, InvitationStatus
from users.sync.mirror import instance


def close_in_clerk(invitation_id: str, deadline: Deadline) -> bool:
    """Revoke an invitation in Clerk if it is still open. Nothing changes here.

    Returns False if it was accepted before. Raises `ClerkError`.
    """
    try:
        clerk().revoke_invitation(invitation_id, deadline=deadline)
    except ClerkNotFound:
        if instance.is_doubtful(clerk(), deadline):
            raise
    except ClerkInvitationAccepted:
        return False
    except ClerkInvitationClosed:
        pass
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
