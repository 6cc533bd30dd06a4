"""What staff do to the sign-in of a user: a new email, a new password, deleting."""

from __future__ import annotations

from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from users.clerk import Deadline, clerk
from users.errors import ClerkError, Refused
from users.models import BuilderUser, Source
from users.sync.actors import Actor
from users.sync.dual_write import Saved, dual_write
from users.sync.operations import Delete, ReplaceEmail, SetPassword


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
    operation = ReplaceEmail.on(user, {"email": [user.email, email]})
    saved = dual_write(operation, user, actor=actor, source=source)
    return Saved(saved.user, saved.attempt, _still_found(operation.old))


def _still_found(old: str) -> tuple[str, ...]:
    """Clerk must not find anybody by the old address any more; a failed look says nothing."""
    try:
        found = clerk().find_by_email(old, deadline=Deadline(settings.CLERK_EDIT_DEADLINE))
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
    """Delete in Clerk, then here. Raises the `ChangeFailed` family."""
    return dual_write(Delete.of(user), user, actor=actor, source=source)


def _require_account(user: BuilderUser) -> None:
    if not user.linked:
        raise Refused(
            "This user has no Clerk account, so there is no sign-in to change.", code="not_linked"
        )
