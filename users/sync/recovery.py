"""Settling what a dead process left behind. Clerk is the truth for an unfinished attempt."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction

from users.clerk import ClerkUser, Deadline, clerk
from users.errors import Busy, ClerkError, ClerkInvalidId, Gone
from users.models import BuilderUser, Source, Status, SyncAttempt
from users.sync import constraints, copies, journal, locks, wording
from users.sync.actors import Actor, name_of
from users.sync.completion import complete
from users.sync.operations import Operation, Seen, Verdict, from_attempt
from users.sync.operations.following import Follow, changes_from

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """What became of one open attempt. Not `settled`: it stays open, and `message` says why."""

    attempt: SyncAttempt
    status: Status
    message: str

    @property
    def settled(self) -> bool:
        return self.status != Status.STARTED


class _StaysOpen(Exception):
    """It cannot be decided yet."""


def recover_all() -> Iterator[Settled]:
    """Settle every open attempt, oldest first. A user whose save is alive is left alone, and
    one attempt that breaks the recovery does not stop the others."""
    for attempt in SyncAttempt.objects.filter(status=Status.STARTED).order_by("id"):
        try:
            yield recover(attempt)
        except DatabaseError:
            raise
        except Exception:
            logger.exception("Recovery failed at attempt %s", attempt.pk)
            yield Settled(attempt, Status.STARTED, "Recovery failed at it: the log says how.")


def recover_user(
    user_id: uuid.UUID,
    *,
    apart_from: SyncAttempt | None = None,
    deadline: Deadline | None = None,
) -> list[Settled]:
    """Settle the open attempts of one user, oldest first, all within the deadline."""
    deadline = deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
    return [
        recover(attempt, deadline=deadline)
        for attempt in open_attempts(user_id)
        if attempt != apart_from
    ]


def open_attempts(user_id: uuid.UUID) -> list[SyncAttempt]:
    """The open attempts of one user, oldest first; the row may not exist yet or any more."""
    return list(SyncAttempt.objects.filter(user=user_id, status=Status.STARTED).order_by("id"))


def recover(attempt: SyncAttempt, *, deadline: Deadline | None = None) -> Settled:
    """Settle one attempt by what Clerk has; two recoveries at once do it once.

    1. Lock the row, then the attempt: who cannot, has met a save that is alive.
    2. Read Clerk. Has the change: finish the row, applied. Has not: dropped.
    3. Cannot tell: it stays open and says why.
    """
    operation = from_attempt(attempt)
    deadline = deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
    try:
        with transaction.atomic(durable=True):
            locks.prepare_transaction(wait=deadline.remaining())
            row = _lock(operation)
            if not locks.lock_attempt(attempt):
                return _meanwhile(attempt)
            return settle(operation, row, attempt, _look(operation, deadline))
    except Busy:
        return Settled(attempt, Status.STARTED, "This user is being saved right now.")
    except _StaysOpen as reason:
        message = str(reason)
    except IntegrityError as error:
        refusal = constraints.refusal(error)
        reasons = " ".join(chain.from_iterable(refusal.fields.values())) or refusal.message
        message = (
            f"Clerk has the change, but the database cannot take it: {reasons} "
            "Change that first and check again, or take over what Clerk has."
        )
    journal.leave_open(attempt, error_code="not_known", message=message)
    return Settled(attempt, Status.STARTED, message)


def _lock(operation: Operation) -> BuilderUser | None:
    if operation.user_id is None:
        return None
    try:
        return locks.lock_user(operation.user_id)
    except Gone:
        return None


def _meanwhile(attempt: SyncAttempt) -> Settled:
    """The attempt was settled by another, or is held by a save that is alive."""
    attempt.refresh_from_db()
    message = "It is being saved right now." if attempt.open else "It was settled meanwhile."
    return Settled(attempt, Status(attempt.status), message)


def _look(operation: Operation, deadline: Deadline) -> Seen:
    try:
        return operation.look(clerk(), deadline)
    except ClerkInvalidId:
        return Seen(Verdict.HAS_NOT, why="Its Clerk id is not valid, so Clerk was never asked.")
    except ClerkError as error:
        raise _StaysOpen(f"Clerk could not be read: {error.summary}") from None


def settle(
    operation: Operation, row: BuilderUser | None, attempt: SyncAttempt, seen: Seen
) -> Settled:
    """End an attempt by what Clerk shows, in the transaction that holds both locks."""
    match seen.verdict:
        case Verdict.CANNOT_TELL:
            raise _StaysOpen(seen.why)
        case Verdict.HAS_IT if row is not None or operation.creates_row:
            written = _finish(operation, row)
            complete(operation, written, seen.account, attempt)
            return _settled(attempt, Status.APPLIED, "Clerk has the change; it is saved here.")
        case Verdict.HAS_IT:
            complete(operation, None, seen.account, attempt)
            return _settled(attempt, Status.APPLIED, "Clerk has the change.")
        case _:
            _keep(seen.account)
            message = f"Clerk does not have the change, so it was not saved here. {seen.why}"
            journal.settle(attempt, Status.DROPPED, error_code="recovered", message=message)
            return _settled(attempt, Status.DROPPED, message)


def _finish(operation: Operation, row: BuilderUser | None) -> BuilderUser | None:
    """Write the row as the dead process would have, unless it holds the change already."""
    if row is None:
        return operation.write(operation.new_row())
    if operation.creates_row or operation.written(row):
        return row
    return operation.write(row)


def _keep(account: ClerkUser | None) -> None:
    if account is not None:
        copies.keep(account)


def _settled(attempt: SyncAttempt, status: Status, message: str) -> Settled:
    logger.info("Recovery settled attempt %s as %s", attempt.pk, status)
    return Settled(attempt, status, message)


def take_over(user: BuilderUser, *, actor: Actor, source: Source = Source.ADMIN) -> BuilderUser:
    """The row follows its Clerk account, and open attempts of dead processes end as dropped.

    It is how a person decides what recovery cannot: Clerk holds a third value. Raises `Busy`,
    `Gone` and what `wording.refused` makes of a `ClerkError`.
    """
    try:
        account = clerk().get_user(user.account_id, deadline=Deadline(settings.CLERK_EDIT_DEADLINE))
    except ClerkError as error:
        raise wording.refused(error) from None
    with transaction.atomic(durable=True):
        row = locks.lock_user(user.pk)
        for attempt in SyncAttempt.objects.filter(user=row, status=Status.STARTED):
            if locks.lock_attempt(attempt):
                message = f"What Clerk has was taken over by {name_of(actor) or source.label}."
                journal.settle(attempt, Status.DROPPED, error_code="taken_over", message=message)
        operation = Follow.on(row, changes_from(row, account))
        if operation.changes:
            operation.write(row)
            journal.record(operation, actor=actor, source=source, status=Status.APPLIED)
            journal.log(operation, actor_id=actor.pk if actor else None)
        copies.keep(account)
    return row
