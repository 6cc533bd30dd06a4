"""Send, resend and revoke invitations."""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from users.clerk import Deadline, clerk
from users.errors import (
    ChangeFailed,
    ClerkError,
    InvitationAccepted,
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
from users.sync.inbound import reconcile
from users.sync.mirror.comparison import same_email, taken_by_another
from users.sync.mirror.sign_in_address import sign_in_address
from users.sync.operations import Create, CreateInvited, Invite, Revoke
from users.sync.operations.inviting import wanted
from users.sync.outbound import (
    conflicts,
    constraints,
    holders,
    journal,
    locks,
    pending,
    repeats,
)
from users.sync.outbound.dual_write import Gateway, Saved, dual_write, refuse
from users.sync.services import accounts, invitation_limit

ONE_OF_MANY = threading.Lock()
"""Held by a worker while it invites: for the limit, it must see what the others have sent."""

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
    until = invitation_limit.full_until()
    if until is None:
        try:
            saved = dual_write(
                operation, user, actor=actor, source=source, run=run, token=token,
                deadline=deadline,
            )  # fmt: skip
            return Invited(user, attempt=saved.attempt)
        except ChangeFailed as failure:
            until = invitation_limit.told_to_wait(failure)
    try:
        with constraints.as_refusals(), transaction.atomic(durable=True):
            row = locks.lock_user(user.pk, wait=settings.CLERK_EDIT_DEADLINE)
            permissions.require(operation, row, actor=actor, source=source)
            conflicts.check(operation, row, None)
            waiting = invitation_limit.store_waiting(row, details, until, source)
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
    until = None if repeats.first_of(token, operation) else invitation_limit.full_until()
    if until is None:
        try:
            saved = dual_write(
                operation, user, actor=actor, source=source, run=run, token=token, gateway=gateway
            )
            return Invited(saved.user or user, attempt=saved.attempt)
        except ChangeFailed as failure:
            until = invitation_limit.told_to_wait(failure)
    try:
        with constraints.as_refusals(), transaction.atomic(durable=True):
            repeats.take_turn(token_of_create, Deadline(settings.CLERK_EDIT_DEADLINE))
            locks.prepare_transaction(wait=settings.CLERK_EDIT_DEADLINE)
            create.write(user)
            invitation_limit.store_waiting(user, details, until, source)
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
            sent = messages.part_that_failed(
                _("The new one was not sent: {why}"),
                _("It is not known yet whether the new one was sent: {why}"),
                failure,
            )
            failure.message = _("The invitation before is revoked.") + f" {sent}"
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
