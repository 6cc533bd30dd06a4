"""Keep Clerk's limit of invitations: who waits for it, and until when.

Clerk accepts 100 invitations an hour for one instance. Others wait here, and are sent as soon as
the limit allows it.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from django.db import connection
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from users.errors import ChangeFailed, NotKnown
from users.models import BuilderUser, Invitation, InvitationStatus, Source
from users.sync.display import time_text
from users.sync.operations.inviting import WantedInvitation

AN_HOUR = timedelta(hours=1)
PER_HOUR = 100


def database_now() -> datetime:
    """Return the time by the database's clock, which dates what is sent."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    return now


def full_until() -> datetime | None:
    """Return when Clerk accepts the next invitation, None if it does now.

    Invitations that wait already go first.
    """
    recent = Invitation.objects.filter(sent_at__gt=Now() - AN_HOUR).order_by("sent_at")
    sent = [moment for moment in recent.values_list("sent_at", flat=True) if moment]
    if len(sent) < PER_HOUR:
        return None
    waiting = Invitation.objects.filter(status=InvitationStatus.WAITING).count()
    return sent[min(len(sent) - PER_HOUR + waiting, len(sent) - 1)] + AN_HOUR


def last_sent_at(more: int = 0) -> datetime | None:
    """Return when the last waiting invitation is sent if `more` are added.

    Returns None if none has to wait.
    """
    now = last = database_now()
    recent = Invitation.objects.filter(sent_at__gt=now - AN_HOUR).order_by("-sent_at")
    moments = [moment for moment in recent.values_list("sent_at", flat=True)[:PER_HOUR] if moment]
    sent = deque(reversed(moments), maxlen=PER_HOUR)
    for _one in range(Invitation.objects.filter(status=InvitationStatus.WAITING).count() + more):
        last = max(now, sent[0] + AN_HOUR) if len(sent) == PER_HOUR else now
        sent.append(last)
    return last if last > now else None


def queue_note(more: int) -> str:
    """Say when the last of `more` invitations is sent; "" if none of them has to wait."""
    last = last_sent_at(more) if more else None
    return (
        _(
            "Clerk takes {count} invitations an hour. The others wait in the queue of the "
            "worker; the last one is sent about {last}."
        ).format(count=PER_HOUR, last=time_text(last))
        if last
        else ""
    )


def said_of(waits_until: datetime | None) -> tuple[str, ...]:
    """Say until when an invitation waits for Clerk's limit; say nothing if it does not wait."""
    return (
        (_("It is sent after {when}.").format(when=time_text(waits_until)),) if waits_until else ()
    )


def told_to_wait(failure: ChangeFailed) -> datetime:
    """Return when Clerk accepts more; raise the failure again if it has another cause.

    A proxy that asks to wait may have passed the request on. That outcome is unknown, so its
    failure is raised too.
    """
    if failure.retry_after is None or isinstance(failure, NotKnown):
        raise failure
    return database_now() + timedelta(seconds=max(1.0, failure.retry_after))


def store_waiting(
    user: BuilderUser, details: WantedInvitation, until: datetime, source: Source
) -> Invitation:
    """Store an invitation that is sent later, unless the same one waits already.

    The transaction has the lock of the user's row, or has inserted it.
    """
    invitation, _ = Invitation.objects.get_or_create(
        user=user,
        email=details["email"],
        status=InvitationStatus.WAITING,
        defaults={
            "reference": details["reference"],
            "purpose": details["purpose"],
            "invited_by_id": details["invited_by"],
            "send_after": until,
            "source": source,
        },
    )
    return invitation


def put_off(until: datetime) -> None:
    """Delay all due invitations to `until`, when Clerk accepts the first of them."""
    Invitation.objects.filter(status=InvitationStatus.WAITING, send_after__lt=until).update(
        send_after=until
    )
