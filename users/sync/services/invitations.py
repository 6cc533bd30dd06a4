"""Send, resend and revoke invitations, and follow them until they are closed.

Clerk accepts 100 invitations an hour for one instance. Others wait here, and are sent as soon as
the limit allows it.
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
from django.db import connection, transaction
from django.db.models import QuerySet
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
    InvitationAccepted,
    NotKnown,
    NotSaved,
    Refused,
    Repeated,
)
from users.models import (
    BuilderUser,
    BulkRun,
    Invitation,
    InvitationStatus,
    OperationKind,
    SignIn,
    Source,
    Status,
    SyncAttempt,
)
from users.sync import messages
from users.sync.access import permissions
from users.sync.actors import Actor
from users.sync.display import time_text
from users.sync.inbound import reconcile
from users.sync.mirror.comparison import same_email, taken_by_another
from users.sync.mirror.sign_in_address import sign_in_address
from users.sync.operations import Create, CreateInvited, Invite, Revoke
from users.sync.operations.inviting import WantedInvitation, wanted
from users.sync.outbound import (
    conflicts,
    constraints,
    holders,
    journal,
    locks,
    pending,
    repeats,
    revocation,
)
from users.sync.outbound.dual_write import Gateway, Saved, dual_write, refuse
from users.sync.services import accounts

ONE_OF_MANY = threading.Lock()
"""Held by a worker while it invites: for the limit, it must see what the others have sent."""

AN_HOUR = timedelta(hours=1)
PER_HOUR = 100
CHECKED_EVERY = timedelta(minutes=15)
CHECKED_AT_ONCE = 20
Purpose = Invitation.Purpose


@dataclass(frozen=True)
class Invited:
    """Result of an invitation. `waits_until` is set if Clerk's limit delays it."""

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
    """Invite a user to a first account, or a linked user to a new email.

    The person signs in as before until they accept. While an earlier invitation to the same email
    is pending, its reference is kept; a new one gets `reference`, by default a random one. If
    Clerk's limit is reached, the invitation is stored, and the worker sends it later.

    Raises the `ChangeFailed` family.
    """
    purpose = Purpose.EMAIL_CHANGE if user.linked else Purpose.NEW_ACCOUNT
    email = email or user.email
    details = wanted(
        email,
        purpose,
        invited_by=actor.pk if actor else None,
        for_admins=permissions.manages_admins(actor, source),
        reference=_reference_of(pending.invite_of(user.pk, email)) or str(reference or ""),
    )
    operation = Invite.of(user, details)
    permissions.authorize(operation, user, actor=actor, source=source)
    if first := repeats.first_of(token, operation):
        return _outcome_of(first, user, email, deadline)
    if user.linked and same_email(email, user.email):
        address = sign_in_address(user)
        raise accounts.copy_instead(address) if address.differs else accounts.same_email()
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
    try:
        with constraints.as_refusals(), transaction.atomic(durable=True):
            row = locks.lock_user(user.pk, wait=settings.CLERK_EDIT_DEADLINE)
            permissions.require(operation, row, actor=actor, source=source)
            conflicts.check(operation, row, None)
            waiting = _wait(row, details, until, source)
    except ChangeFailed as failure:
        raise refuse(operation, failure, actor=actor, source=source) from None
    return Invited(user, waiting.send_after)


def _outcome_of(
    first: SyncAttempt, user: BuilderUser, email: str, deadline: Deadline | None
) -> Invited:
    """Report how the first POST of the same page ended: sent, or waiting."""
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
    """Store a new user and invite them. If Clerk refuses, neither happens.

    While an earlier create of the same email is pending, the id of its row and its reference are
    kept. If Clerk's limit is reached, the user is stored, and the worker sends the invitation
    later.

    Raises the `ChangeFailed` family.
    """
    if earlier := pending.create_of(user.email):
        user.pk = earlier.user_id
    details = wanted(
        user.email,
        Purpose.NEW_ACCOUNT,
        invited_by=actor.pk if actor else None,
        for_admins=permissions.manages_admins(actor, source),
        reference=_reference_of(earlier),
    )
    operation = CreateInvited.of_new(user, details)
    permissions.authorize(operation, user, actor=actor, source=source)
    create = Create.of(user, account=SignIn.NONE)
    token_of_create = repeats.part_of(token, "waits")
    if first := repeats.first_of(token_of_create, create):
        return _waiting_of(first)
    until = None if repeats.first_of(token, operation) else _full_until()
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
            locks.prepare_transaction(wait=settings.CLERK_EDIT_DEADLINE)
            create.write(user)
            _wait(user, details, until, source)
            attempt = journal.record(
                create, actor=actor, source=source, status=Status.APPLIED, run=run,
                token=token_of_create,
            )  # fmt: skip
            journal.log(create, actor_id=actor.pk if actor else None)
    except Repeated:
        if first := repeats.first_of(token_of_create, create):
            return _waiting_of(first)
        raise
    return Invited(user, until, attempt)


def _waiting_of(first: SyncAttempt) -> Invited:
    """Report what the first POST of the same page stored: a user with a waiting invitation."""
    user = BuilderUser.objects.get(pk__in=[first.user_id])
    invitation = open_of(user)
    return Invited(user, invitation.send_after if invitation else None, first)


def _reference_of(earlier: SyncAttempt | None) -> str:
    details = earlier.details.get("invitation") if earlier else None
    return str(details["reference"]) if details else ""


def resend(invitation: Invitation, *, actor: Actor, token: uuid.UUID | None = None) -> Invited:
    """Revoke an open invitation and send a new one, so that only one can be accepted.

    Both calls share one deadline. Raises the `ChangeFailed` family; the message says whether the
    old invitation is revoked.
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
    """Revoke an invitation that is not accepted yet.

    `deletes_user` marks it as a step of a deletion. Raises the `ChangeFailed` family:
    `InvitationAccepted` if it was accepted already. Then its account is linked at once, if
    possible.
    """
    deadline = deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
    operation = Revoke.of(invitation, deletes_user=deletes_user)
    try:
        return dual_write(
            operation, invitation.user, actor=actor, source=source, run=run, token=token,
            gateway=gateway, deadline=deadline,
        )  # fmt: skip
    except InvitationAccepted:
        with suppress(ClerkError):
            settle_accepted(invitation, deadline=deadline)
        raise


def settle_accepted(invitation: Invitation, *, deadline: Deadline) -> bool:
    """Link the account of an invitation that Clerk says is accepted, and close the invitation.

    Returns whether an account could be linked. Raises `ClerkError`.
    """
    for account in clerk().find_by_email(invitation.email, deadline=deadline):
        reconcile.take(account)
    Invitation.objects.filter(pk=invitation.pk).update(revoke_due=False)
    unlinked = Invitation.objects.filter(pk=invitation.pk, status=InvitationStatus.PENDING)
    return not unlinked.update(status=InvitationStatus.ACCEPTED, updated_at=timezone.now())


def open_of(user: BuilderUser) -> Invitation | None:
    """Return the waiting or pending invitation of a user, None if there is none."""
    return user.invitations.open().first()


REVOKE_NOTHING = frozenset({"name", "role", "internal_role", "builder_group"})
"""Fields whose changes overrule no invitation."""


def revoked_by(change: SyncAttempt | None) -> list[str]:
    """List the addresses of the invitations that a change of their user has revoked."""
    if change is None or change.changes.keys() <= REVOKE_NOTHING:
        return []
    revoked = SyncAttempt.objects.filter(
        pk__gt=change.pk,
        user_id=change.user_id,
        operation=OperationKind.REVOKE,
        details__cause=change.pk,
    )
    return [str(one.changes["invitation"][0]) for one in revoked.order_by("pk")]


def to_revoke_of(user: BuilderUser) -> list[Invitation]:
    """List the invitations of a user that wait here, or can still be accepted in Clerk."""
    waiting = user.invitations.filter(status=InvitationStatus.WAITING)
    return [*waiting, *Invitation.objects.acceptable().filter(user=user)]


def expiring(before: datetime) -> QuerySet[Invitation]:
    """Select the sent invitations that nobody accepted yet, and that expire before a time."""
    return Invitation.objects.filter(status=InvitationStatus.PENDING, expires_at__lt=before)


# --- In the background -----------------------------------------------------------------------


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
        if until := _full_until():
            _put_off(until)
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
                _put_off(_now() + timedelta(seconds=failure.retry_after))
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


# --- The limit ---------------------------------------------------------------------------------


def _now() -> datetime:
    """Return the time by the database's clock, which dates what is sent."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    return now


def _full_until() -> datetime | None:
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
    now = last = _now()
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
        f"the last one is sent about {time_text(last)}."
        if last
        else ""
    )


def said_of(waits_until: datetime | None) -> tuple[str, ...]:
    """Say until when an invitation waits for Clerk's limit; say nothing if it does not wait."""
    return (f"It is sent after {time_text(waits_until)}.",) if waits_until else ()


def _told_to_wait(failure: ChangeFailed) -> datetime:
    """Return when Clerk accepts more; raise the failure again if it has another cause.

    A proxy that asks to wait may have passed the request on. That outcome is unknown, so its
    failure is raised too.
    """
    if failure.retry_after is None or isinstance(failure, NotKnown):
        raise failure
    return _now() + timedelta(seconds=max(1.0, failure.retry_after))


def _wait(
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


def _put_off(until: datetime) -> None:
    """Delay all due invitations to `until`, when Clerk accepts the first of them."""
    Invitation.objects.filter(status=InvitationStatus.WAITING, send_after__lt=until).update(
        send_after=until
    )
