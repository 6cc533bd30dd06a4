"""Read the Clerk account of a user."""

from __future__ import annotations

from django.utils.translation import gettext as _

from users.clerk import ClerkUser, Deadline, clerk
from users.errors import ClerkError, ClerkNotFound, CopyInstead, NotFoundInClerk, Refused
from users.ids import USER_ID
from users.models import BuilderUser
from users.sync import messages
from users.sync.mirror import instance, store
from users.sync.mirror.sign_in_address import SignInAddress
from users.sync.outbound.exchange import Gateway


def require_account(user: BuilderUser) -> None:
    """Check that a user has a Clerk account.

    Raises `Refused` if not.
    """
    if not user.linked:
        raise Refused(
            _("This user has no Clerk account, so there is no sign-in to change."),
            code="not_linked",
        )


def same_email() -> Refused:
    """Return the refusal of an email that a user has already, here and in Clerk."""
    fields = {"email": [_("This is the email that the user has.")]}
    return Refused(_("Nothing was changed."), code="same_email", fields=fields)


def copy_instead(address: SignInAddress) -> CopyInstead:
    """Return the refusal of an invitation to the email of the row, while Clerk has another one."""
    words = _(
        "{stored} is stored here already, and the person signs in with {email}. No "
        "invitation is needed: Copy to Clerk brings the address that is stored here to Clerk."
    ).format(stored=address.stored, email=address.email or _("no email"))
    return CopyInstead(_("Nothing was changed."), fields={"email": [words]})


def read(clerk_id: str, deadline: Deadline, *, gateway: Gateway = clerk) -> ClerkUser:
    """Read an account from Clerk now, by the client that `gateway` returns.

    Raises the `ChangeFailed` family.
    """
    if not USER_ID.match(clerk_id):
        raise Refused(_("This is not a valid Clerk user id."), code="not_an_id")
    try:
        return gateway().get_user(clerk_id, deadline=deadline)
    except ClerkNotFound as error:
        raise _not_found(clerk_id, error, deadline, gateway) from None
    except ClerkError as error:
        raise messages.refused(error) from None


def _not_found(
    clerk_id: str, error: ClerkNotFound, deadline: Deadline, gateway: Gateway
) -> NotFoundInClerk:
    """Return the refusal for an account that Clerk does not have.

    A 404 counts only if it comes from our own Clerk instance. Then the mirror stores it.
    """
    message = str(instance.DOUBT)
    if instance.is_ours(gateway(), deadline):
        store.keep_not_found(clerk_id)
        message = _("User not found in Clerk. They may have been deleted.")
    return NotFoundInClerk(message, trace_id=error.trace_id)
