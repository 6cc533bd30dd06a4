"""Search accounts in Clerk, link them to users, and unlink them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.conf import settings
from django.utils.translation import gettext as _

from users.clerk import ClerkUser, Deadline, clerk
from users.errors import ClerkError, Refused
from users.models import BuilderUser, Source
from users.sync import messages
from users.sync.access import permissions
from users.sync.actors import Actor
from users.sync.mirror import store
from users.sync.operations import Link, Unlink
from users.sync.outbound import repeats
from users.sync.outbound.dual_write import Saved, dual_write, refuse
from users.sync.services import accounts


@dataclass(frozen=True)
class Candidate:
    """An account that a search in Clerk found, and the row that is linked to it, if any."""

    account: ClerkUser
    user: BuilderUser | None


def search(query: str) -> list[Candidate]:
    """Search accounts in Clerk by a part of name, address or id; list the free ones first.

    Raises the `ChangeFailed` family.
    """
    try:
        found = clerk().search(query, deadline=Deadline(settings.CLERK_EDIT_DEADLINE))
    except ClerkError as error:
        raise messages.refused(error) from None
    users = {
        user.clerk_id: user
        for user in BuilderUser.objects.filter(clerk_id__in=[account.id for account in found])
    }
    candidates = [Candidate(account, users.get(account.id)) for account in found]
    return sorted(candidates, key=lambda candidate: candidate.user is not None)


def link(
    user: BuilderUser, *, actor: Actor, clerk_id: str, token: uuid.UUID | None = None
) -> Saved:
    """Link a user to an account, as Clerk has it now.

    Raises the `ChangeFailed` family.
    """
    wanted = Link.to(user, clerk_id)
    permissions.authorize(wanted, user, actor=actor, source=Source.ADMIN)
    if first := repeats.first_of(token, wanted):
        return repeats.outcome_of(first, Deadline(settings.CLERK_EDIT_DEADLINE))
    if user.linked:
        raise Refused(_("This user has a Clerk account. Unlink that one first."), code="linked")
    account = accounts.read(clerk_id, Deadline(settings.CLERK_EDIT_DEADLINE))
    operation = Link.to(user, account.id)
    other = BuilderUser.objects.filter(clerk_id=account.id).first()
    if other is not None:
        taken = Refused(
            _(
                "This account belongs to {other}. Nothing was changed; unlink that user first."
            ).format(other=other),
            code="duplicate",
        )
        raise refuse(operation, taken, actor=actor, source=Source.ADMIN)
    store.keep(account, source=Source.ADMIN)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


def unlink(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    """Unlink a user from its account, or clear an invalid Clerk id. Clerk is not told.

    Raises the `ChangeFailed` family.
    """
    operation = Unlink.of(user)
    if first := repeats.first_of(token, operation):
        return repeats.outcome_of(first, Deadline(settings.CLERK_EDIT_DEADLINE))
    if not user.has_invalid_id:
        accounts.require_account(user)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)
