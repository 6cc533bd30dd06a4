"""Find who has an email address that was refused as taken. Clerk is not asked."""

from __future__ import annotations

import uuid

from django.utils.translation import gettext as _

from users.errors import ChangeFailed, EmailTaken, Holder
from users.models import BuilderUser, ClerkAccount
from users.sync.mirror.comparison import with_email
from users.sync.operations import Operation


def name_holder(failure: ChangeFailed, operation: Operation) -> ChangeFailed:
    """Add to an `EmailTaken` who has the address and what staff can do.

    Returns the same failure. Must run after the transaction that failed: PostgreSQL answers no
    query inside it any more.
    """
    user_id = operation.user_id
    if isinstance(failure, EmailTaken) and failure.holder is None and user_id is not None:
        failure.holder = holder_of(operation.wanted_email, apart_from=user_id)
        failure.fields.setdefault("email", []).append(_sentence(failure.holder, operation))
    return failure


def holder_of(email: str, *, apart_from: uuid.UUID) -> Holder:
    """Find who has an address.

    A builder user comes first, then an account in Clerk that is linked to a builder user, then a
    free account. `apart_from` is the user who was to get the address.
    """
    user = with_email(BuilderUser.objects.exclude(pk=apart_from), email).first()
    if user is None:
        accounts = ClerkAccount.objects.filter(deleted_at=None).exclude(user=apart_from)
        known = sorted(with_email(accounts.select_related("user"), email), key=_last_if_free)
        if not known:
            return Holder(email)
        user = known[0].user
        if user is None:
            return Holder(email, clerk_id=known[0].clerk_id)
    return Holder(email, user_id=user.pk, label=str(user))


def _last_if_free(account: ClerkAccount) -> tuple[bool, bool]:
    return account.user is None, account.banned


def _sentence(holder: Holder, operation: Operation) -> str:
    if holder.user_id is not None:
        return _("{name} has this address.").format(name=holder.label)
    if holder.clerk_id:
        whose = _("This address belongs to an account in Clerk that no user here is connected to.")
    else:
        whose = _(
            "An account in Clerk has this address. No user here is known to use that account."
        )
    return f"{whose} {_next_step(operation)}"


def _next_step(operation: Operation) -> str:
    if operation.creates_row:
        return _(
            "To use that account, choose “No sign-in yet”, save, and link the account on the "
            "user's page."
        )
    if not operation.clerk_id:
        return _("Link this user to that account instead.")
    return _("Ask an engineer whether that account is still needed.")
