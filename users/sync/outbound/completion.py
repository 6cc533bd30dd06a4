"""Complete a change that Clerk has, in one transaction, for the save and for recovery."""

from __future__ import annotations

import logging

from django.db import InterfaceError, OperationalError, transaction

from users.clerk import ClerkUser
from users.models import BuilderUser, ClerkAccount, Source, Status, SyncAttempt
from users.sync.inbound.reconcile import reconcile
from users.sync.mirror import agreements, store
from users.sync.operations import Delete, Operation
from users.sync.outbound import journal

logger = logging.getLogger(__name__)


def complete(
    operation: Operation,
    row: BuilderUser | None,
    account: ClerkUser | None,
    attempt: SyncAttempt,
    *,
    still_late: bool = False,
    unseen: bool = False,
) -> None:
    """Complete a change: Clerk has it, and the row is written.

    In this order: finish the row, store Clerk's answer in the mirror, resolve the attempt, write
    the LogEntry, and reconcile what else it concerns. Must run in the transaction that locks the
    row. `still_late` and `unseen` are those of `journal.resolve`.
    """
    store.lock()
    if row is not None:
        operation.finish(row, account)
    clerk_id, due = operation.clerk_id, False
    if account is not None:
        clerk_id, due = account.id, store.keep_answer(account, source=Source(attempt.source)).due
    elif isinstance(operation, Delete) and clerk_id:
        store.keep_deleted(clerk_id)
    journal.resolve(attempt, Status.APPLIED, still_late=still_late, unseen=unseen)
    journal.log(operation, actor_id=attempt.actor_id, person=attempt.actor_name)
    reconcile_concerned(operation, row, attempt, clerk_id=clerk_id, due=due)


def reconcile_concerned(
    operation: Operation,
    row: BuilderUser | None,
    attempt: SyncAttempt,
    *,
    clerk_id: str = "",
    due: bool = False,
) -> None:
    """Reconcile the other rows and accounts that an applied change concerns.

    These are rows that wait for an address which the change releases, an account that belongs to
    the row now, and an invitation that the change overrules. `due` says that the account must be
    reconciled in any case.
    """
    if isinstance(operation, Delete) and operation.user_id is not None:
        store.lock()
        agreements.forget(operation.user_id)
    if row is not None and operation.changes_row and {"name", "email"} & operation.changes.keys():
        agreements.own(row.pk, changed=operation.changes, at=operation.decided_at)
        # Without an answer of Clerk, the row may be older than an event that came meanwhile.
        due = due or (bool(operation.clerk_id) and not operation.asks_clerk)
    if due or operation.concerns_others:
        _reconcile(operation, row, attempt, clerk_id or operation.clerk_id)


def _reconcile(
    operation: Operation, row: BuilderUser | None, attempt: SyncAttempt, clerk_id: str
) -> None:
    """Reconcile in a savepoint, so that a failure does not undo the change that Clerk has.

    After a failure the account stays due, and the worker reconciles it.
    """
    row_id = row.pk if row is not None else operation.user_id  # notes may name a deleted row
    try:
        with transaction.atomic():
            reconcile(
                accounts=[clerk_id] if clerk_id else [],
                rows=[row_id] if row_id is not None else [],
                addresses=operation.addresses,
                source=Source(attempt.source),
                cause=attempt,
            )
    except (OperationalError, InterfaceError):  # the transaction is lost, and so is the change
        raise
    except Exception:
        logger.exception("What %s of %s concerns could not be reconciled", operation.kind, clerk_id)
        ClerkAccount.objects.filter(pk=clerk_id).update(reconcile_due=True)
