"""What staff do to the sign-in of a user: a new email, a new password, a ban, another account,
deleting; and bringing one copy to what the other holds."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.views.decorators.debug import sensitive_variables

from users.clerk import ClerkUser, Deadline, clerk, names
from users.errors import ChangeFailed, ClerkError, ClerkNotFound, NotKnown, Refused
from users.ids import USER_ID
from users.models import BuilderUser, BulkRun, ClerkAccount, Invitation, Source
from users.sync import invitations, pending, permissions, recovery, repeats, wording
from users.sync.actors import Actor
from users.sync.dual_write import Gateway, Saved, dual_write, refuse
from users.sync.exchange import follow, lock_row
from users.sync.inbound import reconcile
from users.sync.mirror import comparison, instance, store
from users.sync.operations import (
    AccountAction,
    Ban,
    Delete,
    Follow,
    Link,
    Operation,
    PushEmail,
    PushName,
    ReplaceEmail,
    ResetMfa,
    SetPassword,
    SignOut,
    Unban,
    Unlink,
    Unlock,
)
from users.sync.operations.following import changes_from
from users.version import value_of

# --- Email, password, deleting -----------------------------------------------------------------


def replace_email(
    user: BuilderUser,
    *,
    actor: Actor,
    email: str,
    source: Source = Source.ADMIN,
    token: uuid.UUID | None = None,
) -> Saved:
    """*Replace now*: the same Clerk user signs in with the new address from now on.

    Raises the `ChangeFailed` family. A warning says so if the old address still finds somebody
    in Clerk afterwards.
    """
    _require_account(user)
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    operation = ReplaceEmail.on(user, {"email": [user.email, email]})
    if token and (first := repeats.first_of(token, operation)):
        return repeats.outcome_of(first, deadline)
    if comparison.same_email(email, user.email):
        raise Refused(
            "Nothing was changed.",
            code="same_email",
            fields={"email": ["This is the email that the user has."]},
        )
    saved = dual_write(operation, user, actor=actor, source=source, token=token, deadline=deadline)
    return Saved(saved.user, saved.attempt, still_found(operation.old, deadline=deadline))


def still_found(
    old: str, gateway: Gateway = clerk, *, deadline: Deadline | None = None
) -> tuple[str, ...]:
    """Clerk must not find anybody by the old address any more: a warning if it does, or if it
    cannot be asked."""
    try:
        found = gateway().find_by_email(
            old, deadline=deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
        )
    except ClerkError:
        return (f"Clerk could not be asked whether {old} still finds a user there. Check it.",)
    if found:
        return (f"{old} still finds a user in Clerk ({found[0].id}). Look at that account.",)
    return ()


@sensitive_variables("password")
def set_password(
    user: BuilderUser,
    *,
    actor: Actor,
    password: str,
    sign_out: bool,
    token: uuid.UUID | None = None,
) -> Saved:
    """A new password, to Clerk alone; `sign_out` ends the person's other sessions.

    Raises the `ChangeFailed` family, with Clerk's policy at `password1`.
    """
    _require_account(user)
    operation = SetPassword.to(user, password=password, sign_out=sign_out)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


def delete_user(
    user: BuilderUser,
    *,
    actor: Actor,
    source: Source = Source.ADMIN,
    run: BulkRun | None = None,
    token: uuid.UUID | None = None,
    gateway: Gateway = clerk,
) -> Saved:
    """Delete in Clerk, then here.

    An open invitation is revoked before, else it would make an account of nobody. Raises the
    `ChangeFailed` family; its message says whether the invitation is revoked.
    """
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    origin: dict[str, Any] = {"actor": actor, "source": source, "run": run, "gateway": gateway}
    operation = Delete.of(user)
    permissions.authorize(operation, user, actor=actor, source=source)
    if pending.in_the_way(operation, pending.in_flight(user.pk)):
        # It may be an invitation: one that has arrived is revoked like every other one.
        recovery.recover_user(user.pk, deadline=deadline)
    invitation = invitations.open_of(user)
    if invitation is not None:
        _revoke_first(invitation, origin, token, deadline)
        # An accepted one has brought an account; and somebody else may have deleted the user.
        user = BuilderUser.objects.filter(pk=user.pk).first() or user
    try:
        return dual_write(Delete.of(user), user, token=token, deadline=deadline, **origin)
    except ChangeFailed as failure:
        if invitation is not None:
            deleted = wording.part_that_failed("the user was", "deleted", failure)
            failure.message = f"The open invitation to {invitation.email} was revoked. {deleted}"
        raise


def _revoke_first(
    invitation: Invitation,
    origin: dict[str, Any],
    token: uuid.UUID | None,
    deadline: Deadline,
) -> None:
    """Revoke before the user is deleted. One that was accepted is closed, too. What is not
    confirmed is the revocation: the deletion waits for it like for any other earlier change."""
    try:
        invitations.revoke(
            invitation,
            token=repeats.part_of(token, "revoke"),
            deadline=deadline,
            deletes_user=True,
            **origin,
        )
    except Refused as refusal:
        if refusal.code != invitations.ALREADY_ACCEPTED:
            raise
    except NotKnown:
        pending_ones = [one for one in pending.in_flight(invitation.user_id) if one.pending]
        if not pending_ones:
            raise
        raise wording.must_wait(pending_ones[-1]) from None


# --- Actions -----------------------------------------------------------------------------------


def ban(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    return _act(Ban, user, actor, token)


def unban(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    return _act(Unban, user, actor, token)


def unlock(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    return _act(Unlock, user, actor, token)


def reset_mfa(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    return _act(ResetMfa, user, actor, token)


def sign_out(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    return _act(SignOut, user, actor, token)


def _act(
    action: type[AccountAction], user: BuilderUser, actor: Actor, token: uuid.UUID | None
) -> Saved:
    """Raises the `ChangeFailed` family."""
    _require_account(user)
    return dual_write(action.of(user), user, actor=actor, source=Source.ADMIN, token=token)


# --- Linking -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """An account that a search at Clerk found, and the row that it belongs to already."""

    account: ClerkUser
    user: BuilderUser | None


def search(query: str) -> list[Candidate]:
    """Accounts at Clerk by a part of name, address or id, the free ones first. Raises the
    `ChangeFailed` family."""
    try:
        found = clerk().search(query, deadline=Deadline(settings.CLERK_EDIT_DEADLINE))
    except ClerkError as error:
        raise wording.refused(error) from None
    users = {
        user.clerk_id: user
        for user in BuilderUser.objects.filter(clerk_id__in=[account.id for account in found])
    }
    candidates = [Candidate(account, users.get(account.id)) for account in found]
    return sorted(candidates, key=lambda candidate: candidate.user is not None)


def link(
    user: BuilderUser, *, actor: Actor, clerk_id: str, token: uuid.UUID | None = None
) -> Saved:
    """The row takes this account, as Clerk has it now. Raises the `ChangeFailed` family."""
    wanted = Link.to(user, clerk_id)
    permissions.authorize(wanted, user, actor=actor, source=Source.ADMIN)
    if token and (first := repeats.first_of(token, wanted)):
        return repeats.outcome_of(first, Deadline(settings.CLERK_EDIT_DEADLINE))
    if user.linked:
        raise Refused("This user has a Clerk account. Unlink that one first.", code="linked")
    account = read(clerk_id, Deadline(settings.CLERK_EDIT_DEADLINE))
    operation = Link.to(user, account.id)
    other = BuilderUser.objects.filter(clerk_id=account.id).first()
    if other is not None:
        taken = Refused(
            f"This account belongs to {other}. Nothing was changed; unlink that user first.",
            code="duplicate",
        )
        raise refuse(operation, taken, actor=actor, source=Source.ADMIN)
    store.keep(account)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


def unlink(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    """The row forgets its account, or what is stored instead of one; Clerk is not told. Raises
    the `ChangeFailed` family."""
    operation = Unlink.of(user)
    if token and (first := repeats.first_of(token, operation)):
        return repeats.outcome_of(first, Deadline(settings.CLERK_EDIT_DEADLINE))
    if not user.has_invalid_id:
        _require_account(user)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


# --- Push, pull, refresh -------------------------------------------------------------------------


def push(user: BuilderUser, *, actor: Actor, field: str, token: uuid.UUID | None = None) -> Saved:
    """Clerk takes the row's name or email. Raises the `ChangeFailed` family."""
    _require_account(user)
    known = ClerkAccount.objects.filter(pk=user.clerk_id).first()
    operation: Operation
    if field == "name":
        theirs = names.join(known.first_name, known.last_name) if known else ""
        operation = PushName.on(user, {"name": [theirs, user.name]})
    else:
        operation = PushEmail.on(user, {"email": [known.email if known else "", user.email]})
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


def pull(user: BuilderUser, *, actor: Actor, field: str, token: uuid.UUID | None = None) -> Saved:
    """The row takes the name or email that Clerk has now.

    Clerk is read under the row's lock, so that no save comes in between. Raises the
    `ChangeFailed` family.
    """
    _require_account(user)
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    wanted = Follow.on(user, {field: [value_of(user, field), None]})
    permissions.authorize(wanted, user, actor=actor, source=Source.ADMIN)
    with transaction.atomic(durable=True):
        row, others = lock_row(wanted, user, deadline)
        permissions.require(wanted, row, actor=actor, source=Source.ADMIN)
        account = read(row.account_id, deadline)
        changes = changes_from(row, account)
        operation = Follow.on(row, {name: changes[name] for name in changes if name == field})
        if blocking := pending.in_the_way(operation, others):
            raise wording.must_wait(blocking[0])
        saved = Saved(row)
        if operation.changes:
            saved = follow(operation, row, actor=actor, source=Source.ADMIN, token=token)
        reconcile.take(account, source=Source.ADMIN)
        return saved


def refresh(user: BuilderUser) -> ClerkUser:
    """Look at the account in Clerk and store what it shows. Raises the `ChangeFailed` family."""
    _require_account(user)
    account = read(user.account_id, Deadline(settings.CLERK_EDIT_DEADLINE))
    reconcile.take(account, source=Source.ADMIN)
    return account


def read(clerk_id: str, deadline: Deadline) -> ClerkUser:
    if not USER_ID.match(clerk_id):
        raise Refused("This is not a valid Clerk user id.", code="not_an_id")
    try:
        return clerk().get_user(clerk_id, deadline=deadline)
    except ClerkNotFound as error:
        raise _not_found(clerk_id, error, deadline) from None
    except ClerkError as error:
        raise wording.refused(error) from None


def _not_found(clerk_id: str, error: ClerkNotFound, deadline: Deadline) -> Refused:
    """Say that Clerk does not have the user, if the instance that says so is ours."""
    details: dict[str, Any] = {"code": error.code, "trace_id": error.trace_id}
    if not instance.is_ours(clerk(), deadline):
        return Refused(instance.DOUBT, **details)
    store.keep_not_found(clerk_id)
    return Refused("User not found in Clerk. They may have been deleted.", **details)


def _require_account(user: BuilderUser) -> None:
    if not user.linked:
        raise Refused(
            "This user has no Clerk account, so there is no sign-in to change.", code="not_linked"
        )
