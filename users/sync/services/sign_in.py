"""What staff do to the sign-in of a user: email, password, ban, lock, second factor, sessions."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from users.clerk import Deadline, clerk
from users.errors import ClerkError, Refused
from users.models import BuilderUser, Source
from users.sync.actors import Actor
from users.sync.mirror import comparison
from users.sync.operations import (
    AccountAction,
    Ban,
    ReplaceEmail,
    ResetMfa,
    SetPassword,
    SignOut,
    Unban,
    Unlock,
)
from users.sync.outbound import repeats
from users.sync.outbound.dual_write import Gateway, Saved, dual_write
from users.sync.services import accounts


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
    accounts.require_account(user)
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
    accounts.require_account(user)
    operation = SetPassword.to(user, password=password, sign_out=sign_out)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


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
    accounts.require_account(user)
    return dual_write(action.of(user), user, actor=actor, source=Source.ADMIN, token=token)
