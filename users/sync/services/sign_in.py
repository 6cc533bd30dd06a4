"""Change the sign-in of a user: email, password, ban, lock, second factor, sessions."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.conf import settings
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from users.changes import Change
from users.clerk import ClerkSession, ClerkUser, Deadline, clerk
from users.errors import ClerkError
from users.models import BuilderUser, Source
from users.sync import messages
from users.sync.actors import Actor
from users.sync.inbound import reconcile
from users.sync.mirror import comparison
from users.sync.mirror.sign_in_address import sign_in_address
from users.sync.operations import (
    AccountAction,
    Ban,
    EndSession,
    ReplaceEmail,
    ResetMfa,
    SetPassword,
    SignOut,
    Unban,
    Unlock,
)
from users.sync.outbound import repeats
from users.sync.outbound.dual_write import Gateway, Saved, dual_write
from users.sync.services import accounts, transfer


def replace_email(
    user: BuilderUser,
    *,
    actor: Actor,
    email: str,
    source: Source = Source.ADMIN,
    token: uuid.UUID | None = None,
) -> Saved:
    """Replace the address of the same Clerk user, without an invitation (*Replace now*).

    The person signs in with the new address from then on. An address that is stored here already,
    while Clerk has another one, is copied to Clerk. A warning says so if the old address
    still finds a user in Clerk afterwards. Raises the `ChangeFailed` family.
    """
    accounts.require_account(user)
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    operation = ReplaceEmail.on(user, {"email": Change(user.email, email)})
    if first := repeats.first_of(token, operation):
        return repeats.outcome_of(first, deadline)
    if comparison.same_email(email, user.email):
        if not sign_in_address(user).differs:
            raise accounts.same_email()
        return transfer.push(user, actor=actor, field="email", source=source, token=token)
    saved = dual_write(operation, user, actor=actor, source=source, token=token, deadline=deadline)
    old = str(operation.details.get("clerk_email") or operation.old)
    return Saved(saved.user, saved.attempt, still_found(old, deadline=deadline))


def still_found(
    old: str, gateway: Gateway = clerk, *, deadline: Deadline | None = None
) -> tuple[str, ...]:
    """Return a warning if Clerk still finds a user by the old address, or cannot be asked.

    After a change of email, nobody should be found by the old address.
    """
    try:
        found = gateway().find_by_email(
            old, deadline=deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
        )
    except ClerkError:
        return (
            _("Clerk could not be asked whether {old} still finds a user there. Check it.").format(
                old=old
            ),
        )
    if found:
        return (
            _("{old} still finds a user in Clerk ({account}). Look at that account.").format(
                old=old, account=found[0].id
            ),
        )
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
    """Set a new password in Clerk; it is stored nowhere else.

    `sign_out` ends the person's other sessions. Raises the `ChangeFailed` family; Clerk's policy is
    explained at the field `password1`.
    """
    accounts.require_account(user)
    operation = SetPassword.to(user, password=password, sign_out=sign_out)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


def ban(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    """Ban the account: Clerk ends all its sessions and refuses its sign-in.

    Raises the `ChangeFailed` family.
    """
    return _act(Ban, user, actor, token)


def unban(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    """Let a banned account sign in again.

    Raises the `ChangeFailed` family.
    """
    return _act(Unban, user, actor, token)


def unlock(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    """End the lock that Clerk sets after too many wrong passwords.

    Raises the `ChangeFailed` family.
    """
    return _act(Unlock, user, actor, token)


def reset_mfa(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    """Remove all second factors of the account.

    Raises the `ChangeFailed` family.
    """
    return _act(ResetMfa, user, actor, token)


def sign_out(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    """End all sessions of the account, unfinished sign-ins too.

    Raises the `ChangeFailed` family.
    """
    return _act(SignOut, user, actor, token)


@dataclass(frozen=True)
class SignInNow:
    """How a person signs in, as Clerk tells it now: the account, and its sessions."""

    account: ClerkUser
    sessions: list[ClerkSession]


def read_now(user: BuilderUser) -> SignInNow:
    """Read the account and its sessions from Clerk, and store the account in the mirror.

    Sessions and phone numbers are stored nowhere. Raises the `ChangeFailed` family.
    """
    accounts.require_account(user)
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    account = accounts.read(user.account_id, deadline)
    try:
        sessions = clerk().list_sessions(account.id, deadline=deadline)
    except ClerkError as error:
        raise messages.refused(error) from None
    reconcile.take(account, source=Source.ADMIN)
    return SignInNow(account, sessions)


def end_session(
    user: BuilderUser, *, actor: Actor, session_id: str, token: uuid.UUID | None = None
) -> Saved:
    """End one session of the account: the person is signed out on that device.

    Raises the `ChangeFailed` family.
    """
    accounts.require_account(user)
    operation = EndSession.of_session(user, session_id)
    token = repeats.part_of(token, session_id)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


def _act(
    action: type[AccountAction], user: BuilderUser, actor: Actor, token: uuid.UUID | None
) -> Saved:
    """Run an action on the account of a user.

    Raises the `ChangeFailed` family.
    """
    accounts.require_account(user)
    return dual_write(action.of(user), user, actor=actor, source=Source.ADMIN, token=token)
