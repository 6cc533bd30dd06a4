"""Copy a value between the row and Clerk, or only read what Clerk has."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import transaction

from users.changes import Change
from users.clerk import ClerkUser, Deadline, clerk, names
from users.models import BuilderUser, ClerkAccount, Source
from users.sync import messages
from users.sync.access import permissions
from users.sync.actors import Actor
from users.sync.inbound import reconcile
from users.sync.operations import Follow, Operation, PushEmail, PushName
from users.sync.operations.following import values_from
from users.sync.outbound import pending, repeats
from users.sync.outbound.dual_write import Gateway, Saved, dual_write
from users.sync.outbound.exchange import lock_row, take_clerks_values
from users.sync.services import accounts
from users.version import value_of


def push(
    user: BuilderUser,
    *,
    actor: Actor,
    field: str,
    source: Source = Source.ADMIN,
    token: uuid.UUID | None = None,
) -> Saved:
    """Copy the row's name or email (`field`) to Clerk.

    Raises the `ChangeFailed` family.
    """
    accounts.require_account(user)
    known = ClerkAccount.objects.filter(pk=user.clerk_id).first()
    operation: Operation
    if field == "name":
        theirs = names.join(known.first_name, known.last_name) if known else ""
        operation = PushName.on(user, {"name": Change(theirs, user.name)})
    else:
        operation = PushEmail.on(user, {"email": Change(known.email if known else "", user.email)})
    return dual_write(operation, user, actor=actor, source=source, token=token)


def pull(user: BuilderUser, *, actor: Actor, field: str, token: uuid.UUID | None = None) -> Saved:
    """Copy the name or email (`field`) that Clerk has now into the row.

    Clerk is read under the row's lock, so that no save comes in between. The result has no attempt
    if both sides hold the same. Raises the `ChangeFailed` family, with `EmailTaken` for an email
    that another row has.
    """
    accounts.require_account(user)
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    wanted = Follow.on(user, {field: Change(value_of(user, field), None)})
    permissions.authorize(wanted, user, actor=actor, source=Source.ADMIN)
    with transaction.atomic(durable=True):
        row, others = lock_row(wanted, user, deadline)
        first = repeats.attempt_of(token)
        same_page = first and (first.operation, first.user_id) == (wanted.kind, row.pk)
        if first and same_page and field in first.changes:
            return repeats.outcome_of(first, deadline)
        permissions.require(wanted, row, actor=actor, source=Source.ADMIN)
        account = accounts.read(row.account_id, deadline)
        values = values_from(row, account, fields=[field])
        if blocking := pending.in_the_way(Follow.on(row, values.changes), others):
            raise messages.must_wait(blocking[0])
        taken = take_clerks_values(values, row, actor=actor, source=Source.ADMIN, token=token)
        reconcile.take(account, source=Source.ADMIN)
    if taken.refused:
        raise taken.refused[0]
    return taken.saved


def refresh(user: BuilderUser, *, gateway: Gateway = clerk) -> ClerkUser:
    """Read the account from Clerk, store it in the mirror, and return it.

    `gateway` returns the client. Raises the `ChangeFailed` family.
    """
    accounts.require_account(user)
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    account = accounts.read(user.account_id, deadline, gateway=gateway)
    reconcile.take(account, source=Source.ADMIN)
    return account
