"""What belongs into the transaction once Clerk has a change: for the save and for recovery."""

from __future__ import annotations

from users.clerk import ClerkUser
from users.models import BuilderUser, Status, SyncAttempt
from users.sync import copies, journal
from users.sync.operations import Delete, Operation


def complete(
    operation: Operation,
    row: BuilderUser | None,
    account: ClerkUser | None,
    attempt: SyncAttempt,
    *,
    still_late: bool = False,
    unseen: bool = False,
) -> None:
    """Finish the row, store Clerk's answer, resolve the attempt, write the LogEntry."""
    if row is not None:
        operation.finish(row, account)
    if account is not None:
        copies.keep(account)
    elif isinstance(operation, Delete):
        copies.keep_deleted(operation.clerk_id)
    journal.resolve(attempt, Status.APPLIED, still_late=still_late, unseen=unseen)
    journal.log(operation, actor_id=attempt.actor_id)
