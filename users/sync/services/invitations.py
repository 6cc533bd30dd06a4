"""Invitations: sent, sent again, revoked, and tended until they are accepted, revoked or expired.

Clerk takes 100 an hour of an instance. What is over that waits, and is sent when its
time has come.
"""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from users.clerk import ClerkInvitation, Deadline, clerk
from users.errors import (
    ChangeFailed,
    ClerkError,
    ClerkNotFound,
    ClerkRefused,
    NotKnown,
    Refused,
    Repeated,
    Waiting,
)
from users.models import (
    BuilderUser,
    BulkRun,
    Invitation,
    InvitationStatus,
    Source,
    Status,
    SyncAttempt,
)
from users.sync import messages
from users.sync.access import permissions
from users.sync.actors import Actor
from users.sync.inbound import reconcile
from users.sync.mirror import instance
from users.sync.mirror.comparison import same_email, taken_by_another
from users.sync.operations import Create, CreateInvited, Invite, Revoke
from users.sync.operations.inviting import wanted
from users.sync.outbound import constraints, holders, journal, locks, pending, repeats
from users.sync.outbound.dual_write import Gateway, Saved, dual_write, refuse

ONE_OF_MANY = threading.Lock()
"""Workers that invite hold it: each must see what the others have sent, for the limit."""

AN_HOUR = timedelta(hours=1)
PER_HOUR = 100
CHECKED_EVERY = timedelta(minutes=15)
CHECKED_AT_ONCE = 20
ALREADY_ACCEPTED = "invitation_already_accepted"
ALREADY_CLOSED = frozenset(
    {ALREADY_ACCEPTED, "invitation_already_revoked", "invitation_already_expired"}
)
"""Clerk's codes for an invitation that can no longer be revoked, as it is not open any more."""

Purpose = Invitation.Purpose


@dataclass(frozen=True)
class Invited:
    """`waits_until` is set when Clerk takes no more now: it is sent then, by itself."""

    user: BuilderUser
    waits_until: datetime | None = None
    attempt: SyncAttempt | None = None


def invite(
    user: BuilderUser,
    *,
    actor: Actor,
    email: str = "",
    source: Source = Source.ADMIN,
    run: BulkRun | None = None,
    token: uuid.UUID | None = None,
    reference: uuid.UUID | None = None,
    deadline: Deadline | None = None,
) -> Invited:
    """Invite to a first account, or a linked user to a new email.

    The person signs in as before until they accept. The same again, while an earlier invitation
    is pending, keeps its reference; `reference` is for a new one, by default a random one.
    Raises the `ChangeFailed` family.
    """
    purpose = Purpose.EMAIL_CHANGE if user.linked else Purpose.NEW_ACCOUNT
    email = email or user.email
    details = wanted(
        email,
        purpose,
        invited_by=actor.pk if actor else None,
        reference=_reference_of(pending.invite_of(user.pk, email)) or str(reference or ""),
    )
    operation = Invite.of(user, details)
    permissions.authorize(operation, user, actor=actor, source=source)
    if token and (first := repeats.first_of(token, operation)):
        return _outcome_of(first, user, email, deadline)
    if user.linked and same_email(email, user.email):
        raise Refused(
            "Nothing was changed.",
            code="same_email",
            fields={"email": ["This is the email that the user has."]},
        )
    if taken_by_another(user, email):
        taken = holders.name_holder(constraints.email_taken(), operation)
        raise refuse(operation, taken, actor=actor, source=source)
    until = _full_until()
    if until is None:
        try:
            saved = dual_write(
                operation, user, actor=actor, source=source, run=run, token=token,
                deadline=deadline,
            )  # fmt: skip
            return Invited(user, attempt=saved.attempt)
        except ChangeFailed as failure:
            until = _told_to_wait(failure)
    with constraints.as_refusals(), transaction.atomic(durable=True):
        waiting = _wait(user, details, until)
    return Invited(user, waiting.send_after)


def _outcome_of(
    first: SyncAttempt, user: BuilderUser, email: str, deadline: Deadline | None
) -> Invited:
    """Report how the first POST of the same page ended: it is sent, or it waits."""
    try:
        repeats.outcome_of(first, deadline or Deadline(settings.CLERK_EDIT_DEADLINE))
    except ChangeFailed:
        waiting = user.invitations.filter(status=InvitationStatus.WAITING, email=email).first()
        if waiting is None:
            raise
        return Invited(user, waiting.send_after)
    return Invited(user, attempt=first)


def create_invited(
    user: BuilderUser,
    *,
    actor: Actor,
    source: Source = Source.ADMIN,
    run: BulkRun | None = None,
    token: uuid.UUID | None = None,
    gateway: Gateway = clerk,
) -> Invited:
    """Store a new user and invite them: both, or none if Clerk refuses.

    The same again keeps the row's id and the invitation's reference of a pending one. Raises
    the `ChangeFailed` family.
    """
    earlier = pending.create_of(user.email)
    if earlier is not None:
        user.pk = earlier.user_id
    details = wanted(
        user.email,
        Purpose.NEW_ACCOUNT,
        invited_by=actor.pk if actor else None,
        reference=_reference_of(earlier),
    )
    operation = CreateInvited.of_new(user, details)
    permissions.authorize(operation, user, actor=actor, source=source)
    create = Create.of(user, account="none")
    token_of_create = repeats.part_of(token, "waits")
    if token_of_create and (first := repeats.first_of(token_of_create, create)):
        return _waiting_of(first)
    first_sent = repeats.first_of(token, operation) if token else None
    until = None if first_sent else _full_until()
    if until is None:
        try:
            saved = dual_write(
                operation, user, actor=actor, source=source, run=run, token=token, gateway=gateway
            )
            return Invited(saved.user or user, attempt=saved.attempt)
        except ChangeFailed as failure:
            until = _told_to_wait(failure)
    try:
        with constraints.as_refusals(), transaction.atomic(durable=True):
            repeats.take_turn(token_of_create, Deadline(settings.CLERK_EDIT_DEADLINE))
            create.write(user)
            _wait(user, details, until)
            attempt = journal.record(
                create, actor=actor, source=source, status=Status.APPLIED, run=run,
                token=token_of_create,
            )  # fmt: skip
            journal.log(create, actor_id=actor.pk if actor else None)
    except Repeated:
        first = repeats.first_of(token_of_create, create) if token_of_create else None
        if first is None:
            raise
        return _waiting_of(first)
    return Invited(user, until, attempt)


def _waiting_of(first: SyncAttempt) -> Invited:
    """Report what the first POST of the same page has stored: a user whose invitation waits."""
    user = BuilderUser.objects.get(pk__in=[first.user_id])
    invitation = open_of(user)
    return Invited(user, invitation.send_after if invitation else None, first)


def _reference_of(earlier: SyncAttempt | None) -> str:
    details = earlier.details.get("invitation") if earlier else None
    return str(details["reference"]) if details else ""


def resend(invitation: Invitation, *, actor: Actor, token: uuid.UUID | None = None) -> Invited:
    """Send a new mail; the old invitation is revoked, so that no two can be accepted.

    Both calls share one deadline. Raises the `ChangeFailed` family; its message says whether
    the old invitation is revoked.
    """
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    user, email = invitation.user, invitation.email
    revoked = invitation.open
    if revoked:
        revoke(invitation, actor=actor, token=repeats.part_of(token, "revoke"), deadline=deadline)
    try:
        return invite(user, actor=actor, email=email, token=token, deadline=deadline)
    except ChangeFailed as failure:
        if revoked:
            sent = messages.part_that_failed("the new one was", "sent", failure)
            failure.message = f"The invitation before is revoked. {sent}"
        raise


def revoke(
    invitation: Invitation,
    *,
    actor: Actor,
    source: Source = Source.ADMIN,
    run: BulkRun | None = None,
    token: uuid.UUID | None = None,
    gateway: Gateway = clerk,
    deadline: Deadline | None = None,
    deletes_user: bool = False,
) -> Saved:
    """Revoke an invitation that is not accepted yet, `deletes_user` as a step of a deletion.

    Raises the `ChangeFailed` family: `Refused` when it was accepted already. Then its account is
    linked at once, if it can be.
    """
    deadline = deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
    operation = Revoke.of(invitation, deletes_user=deletes_user)
    try:
        return dual_write(
            operation, invitation.user, actor=actor, source=source, run=run, token=token,
            gateway=gateway, deadline=deadline,
        )  # fmt: skip
    except Refused as refusal:
        if refusal.code == ALREADY_ACCEPTED:
            with suppress(ClerkError):
                settle_accepted(invitation, deadline=deadline)
        raise


def settle_accepted(invitation: Invitation, *, deadline: Deadline) -> bool:
    """Link the account that came from an invitation which Clerk says is accepted, and close the
    invitation. Return whether an account could be linked. Raises `ClerkError`."""
    for account in clerk().find_by_email(invitation.email, deadline=deadline):
        reconcile.take(account)
    unlinked = Invitation.objects.filter(pk=invitation.pk, status=InvitationStatus.PENDING)
    return not unlinked.update(status=InvitationStatus.ACCEPTED, updated_at=timezone.now())


def open_of(user: BuilderUser) -> Invitation | None:
    """The invitation that the user has not answered yet."""
    return user.invitations.filter(
        status__in=[InvitationStatus.WAITING, InvitationStatus.PENDING]
    ).first()


# --- In the background -----------------------------------------------------------------------


def tend() -> list[str]:
    """Send what waited long enough, note what expired, ask Clerk about what is pending."""
    now = timezone.now()
    expired = Invitation.objects.filter(status=InvitationStatus.PENDING, expires_at__lte=now)
    expired.update(status=InvitationStatus.EXPIRED, updated_at=now)
    return [*_send_waiting(), *_check_pending(), *_revoke_closed()]


def _send_waiting() -> Iterator[str]:
    due = Invitation.objects.filter(status=InvitationStatus.WAITING, send_after__lte=timezone.now())
    for invitation in due.select_related("user", "invited_by").order_by("id"):
        if until := _full_until():
            _put_off(until)
            return
        details = wanted(
            invitation.email,
            invitation.purpose,
            invited_by=invitation.invited_by_id,
            reference=str(invitation.reference),
        )
        operation = Invite.of(invitation.user, details)
        try:
            dual_write(operation, invitation.user, actor=invitation.invited_by, source=Source.TASK)
        except ChangeFailed as failure:
            if failure.retry_after is not None:
                _put_off(timezone.now() + timedelta(seconds=failure.retry_after))
                return
            if not isinstance(
                failure, Refused | Waiting
            ):  # Clerk is not there: it would fail for all
                yield f"{invitation}: not sent yet. {failure.full_message}"
                return
            if not isinstance(failure, Waiting):
                Invitation.objects.filter(pk=invitation.pk, status=InvitationStatus.WAITING).update(
                    status=InvitationStatus.REFUSED, send_after=None
                )
            yield f"{invitation}: not sent. {failure.full_message}"
        else:
            yield f"{invitation}: sent."


def _check_pending() -> Iterator[str]:
    """Events tell of accounts, not of invitations: one that was revoked in Clerk's dashboard is
    found by asking, and so is one whose event was lost."""
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
            yield f"{invitation}: Clerk could not be asked. {error.summary}."
            return
        Invitation.objects.filter(pk=invitation.pk, status=InvitationStatus.PENDING).update(
            status=status, updated_at=timezone.now()
        )


def _revoke_closed() -> Iterator[str]:
    """Revoke in Clerk what a newer decision has closed here. Who has accepted it meanwhile did so
    too late: a newer decision stays."""
    for invitation in Invitation.objects.filter(revoke_due=True).order_by("id")[:CHECKED_AT_ONCE]:
        try:
            done = _close_in_clerk(invitation)
        except ClerkError as error:
            yield f"{invitation}: not revoked in Clerk yet. {error.summary}."
            return
        Invitation.objects.filter(pk=invitation.pk).update(revoke_due=False)
        yield f"{invitation}: {done}, as a newer decision has closed it."


def _close_in_clerk(invitation: Invitation) -> str:
    """Revoke an invitation unless it is not open any more, and say which. Raises `ClerkError`."""
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    try:
        clerk().revoke_invitation(invitation.clerk_invitation_id or "", deadline=deadline)
    except ClerkNotFound:
        if instance.is_doubtful(clerk(), deadline):
            raise
    except ClerkRefused as refusal:
        if refusal.code not in ALREADY_CLOSED:
            raise
        if refusal.code == ALREADY_ACCEPTED:
            return "accepted before it could be revoked, without effect"
    return "revoked"


def _status_in_clerk(invitation: Invitation, deadline: Deadline) -> str:
    """What Clerk's lists say; the plain one leaves out the revoked ones. In neither: still
    pending, as an invitation that is taken for revoked links nobody any more."""
    wanted_id = invitation.clerk_invitation_id or ""
    for status in ("", InvitationStatus.REVOKED):
        found: list[ClerkInvitation] = clerk().list_invitations(
            query=wanted_id, status=status, deadline=deadline
        )
        for known in found:
            if known.id == wanted_id and known.status in InvitationStatus.values:
                return known.status
    return InvitationStatus.PENDING


# --- The limit ---------------------------------------------------------------------------------


def _full_until() -> datetime | None:
    """When the next place is free, None if one is free now. Who waits already goes first."""
    since = timezone.now() - AN_HOUR
    recent = Invitation.objects.filter(sent_at__gt=since).order_by("sent_at")
    sent = [moment for moment in recent.values_list("sent_at", flat=True) if moment]
    if len(sent) < PER_HOUR:
        return None
    waiting = Invitation.objects.filter(status=InvitationStatus.WAITING).count()
    return sent[min(len(sent) - PER_HOUR + waiting, len(sent) - 1)] + AN_HOUR


def last_sent_at(more: int = 0) -> datetime | None:
    """When the last waiting invitation is sent if `more` are added; None if none has to wait."""
    now = last = timezone.now()
    recent = Invitation.objects.filter(sent_at__gt=now - AN_HOUR).order_by("-sent_at")
    moments = [moment for moment in recent.values_list("sent_at", flat=True)[:PER_HOUR] if moment]
    sent = deque(reversed(moments), maxlen=PER_HOUR)
    for _ in range(Invitation.objects.filter(status=InvitationStatus.WAITING).count() + more):
        last = max(now, sent[0] + AN_HOUR) if len(sent) == PER_HOUR else now
        sent.append(last)
    return last if last > now else None


def queue_note(more: int) -> str:
    """Say when the last of `more` invitations is sent; "" if none of them has to wait."""
    last = last_sent_at(more) if more else None
    return (
        f"Clerk takes {PER_HOUR} invitations an hour. The others wait in the queue of the worker; "
        f"the last one is sent about {last:%Y-%m-%d %H:%M} UTC."
        if last
        else ""
    )


def said_of(waits_until: datetime | None) -> tuple[str, ...]:
    """Say that an invitation waits for Clerk's limit; nothing of one that does not."""
    return (f"It is sent after {waits_until:%Y-%m-%d %H:%M} UTC.",) if waits_until else ()


def _told_to_wait(failure: ChangeFailed) -> datetime:
    """When Clerk takes more; raises the failure if it was about anything else.

    A proxy that says the same may have passed the request on: that is an unknown outcome.
    """
    if failure.retry_after is None or isinstance(failure, NotKnown):
        raise failure
    return timezone.now() + timedelta(seconds=max(1.0, failure.retry_after))


def _wait(user: BuilderUser, details: dict, until: datetime) -> Invitation:
    """Store an invitation that is sent later; the same one that waits already is enough."""
    locks.prepare_transaction(wait=settings.CLERK_EDIT_DEADLINE)
    invitation, _ = Invitation.objects.get_or_create(
        user=user,
        email=details["email"],
        status=InvitationStatus.WAITING,
        defaults={
            "reference": details["reference"],
            "purpose": details["purpose"],
            "invited_by_id": details["invited_by"],
            "send_after": until,
        },
    )
    return invitation


def _put_off(until: datetime) -> None:
    """All that are due wait on; `until` is when Clerk takes the first of them."""
    Invitation.objects.filter(status=InvitationStatus.WAITING, send_after__lt=until).update(
        send_after=until
    )
