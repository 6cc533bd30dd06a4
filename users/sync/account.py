"""What staff do to the sign-in of a user: a new email, a new password, a ban, another account,
deleting; and bringing one copy to what the other holds."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from users.clerk import ClerkUser, Deadline, clerk, names
from users.errors import ClerkError, ClerkNotFound, Refused
from users.ids import USER_ID
from users.models import BuilderUser, ClerkAccount, Source
from users.sync import copies, invitations, wording
from users.sync.actors import Actor
from users.sync.dual_write import Gateway, Saved, dual_write
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

# --- Email, password, deleting -----------------------------------------------------------------


def replace_email(
    user: BuilderUser, *, actor: Actor, email: str, source: Source = Source.ADMIN
) -> Saved:
    """*Replace now*: the same Clerk user signs in with the new address from now on.

    Raises the `ChangeFailed` family. A warning says so if the old address still finds somebody
    in Clerk afterwards.
    """
    _require_account(user)
    if email == user.email:
        return Saved(user)
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    operation = ReplaceEmail.on(user, {"email": [user.email, email]})
    saved = dual_write(operation, user, actor=actor, source=source, deadline=deadline)
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
def set_password(user: BuilderUser, *, actor: Actor, password: str, sign_out: bool) -> Saved:
    """A new password, to Clerk alone; `sign_out` ends the person's other sessions.

    Raises the `ChangeFailed` family, with Clerk's policy at `password1`.
    """
    _require_account(user)
    operation = SetPassword.to(user, password=password, sign_out=sign_out)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN)


def delete_user(user: BuilderUser, *, actor: Actor, source: Source = Source.ADMIN) -> Saved:
    """Delete in Clerk, then here; an open invitation is revoked before, else it would make an
    account of nobody. Raises the `ChangeFailed` family."""
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    if invitation := invitations.open_of(user):
        invitations.revoke(invitation, actor=actor, deadline=deadline)
    return dual_write(Delete.of(user), user, actor=actor, source=source, deadline=deadline)


# --- Actions -----------------------------------------------------------------------------------


def ban(user: BuilderUser, *, actor: Actor) -> Saved:
    return _act(Ban, user, actor)


def unban(user: BuilderUser, *, actor: Actor) -> Saved:
    return _act(Unban, user, actor)


def unlock(user: BuilderUser, *, actor: Actor) -> Saved:
    return _act(Unlock, user, actor)


def reset_mfa(user: BuilderUser, *, actor: Actor) -> Saved:
    return _act(ResetMfa, user, actor)


def sign_out(user: BuilderUser, *, actor: Actor) -> Saved:
    return _act(SignOut, user, actor)


def _act(action: type[AccountAction], user: BuilderUser, actor: Actor) -> Saved:
    """Raises the `ChangeFailed` family."""
    _require_account(user)
    return dual_write(action.of(user), user, actor=actor, source=Source.ADMIN)


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


def link(user: BuilderUser, *, actor: Actor, clerk_id: str) -> Saved:
    """The row takes this account, as Clerk has it now. Raises the `ChangeFailed` family."""
    if user.linked:
        raise Refused("This user has a Clerk account. Unlink that one first.", code="linked")
    account = _read(clerk_id)
    other = BuilderUser.objects.filter(clerk_id=account.id).first()
    if other is not None:
        raise Refused(
            f"This account belongs to {other}. Nothing was changed; unlink that user first.",
            code="duplicate",
        )
    copies.keep(account)
    return dual_write(Link.to(user, account.id), user, actor=actor, source=Source.ADMIN)


def unlink(user: BuilderUser, *, actor: Actor) -> Saved:
    """The row forgets its account, or what is stored instead of one; Clerk is not told. Raises
    the `ChangeFailed` family."""
    if not user.has_invalid_id:
        _require_account(user)
    return dual_write(Unlink.of(user), user, actor=actor, source=Source.ADMIN)


# --- Push, pull, refresh -------------------------------------------------------------------------


def push(user: BuilderUser, *, actor: Actor, field: str) -> Saved:
    """Clerk takes the row's name or email. Raises the `ChangeFailed` family."""
    _require_account(user)
    known = ClerkAccount.objects.filter(pk=user.clerk_id).first()
    operation: Operation
    if field == "name":
        theirs = names.join(known.first_name, known.last_name) if known else ""
        operation = PushName.on(user, {"name": [theirs, user.name]})
    else:
        operation = PushEmail.on(user, {"email": [known.email if known else "", user.email]})
    return dual_write(operation, user, actor=actor, source=Source.ADMIN)


def pull(user: BuilderUser, *, actor: Actor, field: str) -> Saved:
    """The row takes the name or email that Clerk has now. Raises the `ChangeFailed` family."""
    account = refresh(user)
    changes = {
        name: change for name, change in changes_from(user, account).items() if name == field
    }
    if not changes:
        return Saved(user)
    return dual_write(Follow.on(user, changes), user, actor=actor, source=Source.ADMIN)


def refresh(user: BuilderUser) -> ClerkUser:
    """Look at the account in Clerk and keep what it shows. Raises the `ChangeFailed` family."""
    _require_account(user)
    try:
        account = _read(user.account_id)
    except Refused as failure:
        if failure.code == "resource_not_found":
            copies.keep_deleted(user.account_id)
        raise
    copies.keep(account)
    return account


def _read(clerk_id: str) -> ClerkUser:
    if not USER_ID.match(clerk_id):
        raise Refused("This is not a valid Clerk user id.", code="not_an_id")
    try:
        return clerk().get_user(clerk_id, deadline=Deadline(settings.CLERK_EDIT_DEADLINE))
    except ClerkNotFound as error:
        raise Refused(
            "Clerk does not have this user. They may have been deleted.",
            code=error.code,
            trace_id=error.trace_id,
        ) from None
    except ClerkError as error:
        raise wording.refused(error) from None


def _require_account(user: BuilderUser) -> None:
    if not user.linked:
        raise Refused(
            "This user has no Clerk account, so there is no sign-in to change.", code="not_linked"
        )
