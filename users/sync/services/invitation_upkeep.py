"""Follow invitations in the background, until they are closed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone

from users.clerk import ClerkInvitation, Deadline, clerk
from users.errors import (
    BusyInClerk,
    ChangeFailed,
    ClerkDenied,
    ClerkError,
    ClerkInvalidId,
    ClerkRateLimited,
    ClerkRefused,
    Denied,
    NotKnown,
    NotSaved,
    Refused,
)
from users.models import Invitation, InvitationStatus, Source
from users.sync.access import permissions
from users.sync.operations import Invite
from users.sync.operations.inviting import wanted
from users.sync.outbound import revocation
from users.sync.outbound.dual_write import dual_write
from users.sync.services import invitation_limit
from users.sync.services.invitations import settle_accepted

CHECKED_EVERY = timedelta(minutes=15)
CHECKED_AT_ONCE = 20


def tend() -> list[str]:
    """Do one round of background work on invitations, and return notes for people.

    1. Mark expired invitations.
    2. Send those that have waited long enough.
    3. Ask Clerk about pending ones.
    4. Revoke in Clerk those that a newer decision closed here.
    """
    now = timezone.now()
    expired = Invitation.objects.filter(status=InvitationStatus.PENDING, expires_at__lte=now)
    expired.update(status=InvitationStatus.EXPIRED, updated_at=now)
    return [*_send_waiting(), *_check_pending(), *_revoke_closed()]


def _send_waiting() -> Iterator[str]:
    due = Invitation.objects.filter(status=InvitationStatus.WAITING, send_after__lte=Now())
    for invitation in due.select_related("user", "invited_by").order_by("send_after", "id"):
        if until := invitation_limit.full_until():
            invitation_limit.put_off(until)
            return
        author, source = invitation.invited_by, Source(invitation.source)
        details = wanted(
            invitation.email,
            invitation.purpose,
            invited_by=invitation.invited_by_id,
            for_admins=permissions.manages_admins(author, source),
            reference=str(invitation.reference),
        )
        operation = Invite.of(invitation.user, details)
        try:
            # The author may have lost the right to invite, or the user become an administrator.
            dual_write(operation, invitation.user, actor=author, source=source)
        except ChangeFailed as failure:
            if failure.retry_after is not None:
                invitation_limit.put_off(
                    invitation_limit.database_now() + timedelta(seconds=failure.retry_after)
                )
                return
            this_one = Invitation.objects.filter(pk=invitation.pk, status=InvitationStatus.WAITING)
            if isinstance(failure, Refused) and not isinstance(failure, Denied | BusyInClerk):
                this_one.update(status=InvitationStatus.REFUSED, send_after=None)
                yield f"{invitation}: not sent. {failure.full_message}"
                continue
            this_one.update(send_after=Now())  # the next round starts with another one
            yield f"{invitation}: not sent yet. {failure.full_message}"
            if isinstance(failure, Denied | NotKnown | NotSaved):  # the others would fail too
                return
        else:
            yield f"{invitation}: sent."


def _check_pending() -> Iterator[str]:
    """Ask Clerk about pending invitations. Yields notes for people.

    Events report accounts, not invitations. This finds invitations that were revoked in Clerk's
    dashboard, and accepted ones whose event was lost.
    """
    before = timezone.now() - CHECKED_EVERY
    pending = Invitation.objects.filter(
        status=InvitationStatus.PENDING, clerk_invitation_id__isnull=False, updated_at__lt=before
    )
    for invitation in pending.order_by("updated_at")[:CHECKED_AT_ONCE]:
        deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
        try:
            status = _status_in_clerk(invitation, deadline)
            if status == InvitationStatus.ACCEPTED:
                if not settle_accepted(invitation, deadline=deadline):
                    yield f"{invitation}: accepted in Clerk, but no account of it could be linked."
                continue
        except ClerkError as error:
            _move_to_the_end(invitation)
            yield f"{invitation}: Clerk could not be asked. {error.summary}."
            if _stops_others(error):
                return
            continue
        Invitation.objects.filter(pk=invitation.pk, status=InvitationStatus.PENDING).update(
            status=status, updated_at=timezone.now()
        )


def _revoke_closed() -> Iterator[str]:
    """Revoke in Clerk what a newer decision closed here. Yields notes for people.

    If a person accepted such an invitation meanwhile, the newer decision stays.
    """
    due = Invitation.objects.filter(revoke_due=True).order_by("updated_at", "id")
    for invitation in due[:CHECKED_AT_ONCE]:
        deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
        try:
            revoked = revocation.close_in_clerk(invitation.clerk_invitation_id or "", deadline)
        except ClerkError as error:
            _move_to_the_end(invitation)
            yield f"{invitation}: not revoked in Clerk yet. {error.summary}."
            if _stops_others(error):
                return
            continue
        Invitation.objects.filter(pk=invitation.pk).update(revoke_due=False)
        early = "accepted before it could be revoked, without effect"
        done = "revoked" if revoked else early
        yield f"{invitation}: {done}, as a newer decision has closed it."


def _move_to_the_end(invitation: Invitation) -> None:
    """Let the next round start with another invitation, as this one may fail for ever."""
    Invitation.objects.filter(pk=invitation.pk).update(updated_at=timezone.now())


def _stops_others(error: ClerkError) -> bool:
    """Tell whether the requests for other invitations would most likely fail too."""
    about_one = isinstance(error, ClerkRefused | ClerkInvalidId)
    return not about_one or isinstance(error, ClerkDenied | ClerkRateLimited)


def _status_in_clerk(invitation: Invitation, deadline: Deadline) -> str:
    """Return the status of an invitation by Clerk's lists. Raises `ClerkError`.

    Clerk's list without a status leaves out the revoked ones, so they are listed separately. An
    invitation in neither list counts as pending: if it counted as revoked, it could never link an
    account.
    """
    wanted_id = invitation.clerk_invitation_id or ""
    for status in ("", InvitationStatus.REVOKED):
        found: list[ClerkInvitation] = clerk().list_invitations(
            query=wanted_id, status=status, deadline=deadline
        )
        for known in found:
            if known.id == wanted_id and known.status in InvitationStatus.values:
                return known.status
    return InvitationStatus.PENDING
