"""The one way in which a change reaches Clerk and the database (DESIGN, "The save")."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import DatabaseError, transaction

from users.clerk import Clerk, ClerkUser, Deadline, clerk
from users.errors import (
    ChangeFailed,
    ClerkError,
    ClerkNotFound,
    ClerkUnknown,
    ClerkUnreadable,
    Conflict,
    NotKnown,
    Refused,
)
from users.models import BuilderUser, BulkRun, Source, Status, SyncAttempt
from users.sync import conflicts, constraints, copies, journal, locks, recovery, steps, wording
from users.sync.actors import Actor
from users.sync.completion import complete
from users.sync.operations import Operation, Verdict
from users.version import base_of

logger = logging.getLogger(__name__)

WRITE_SHARE = 0.6
"""The part of the deadline that the write may take; the rest is for reading Clerk back."""

Gateway = Callable[[], Clerk]
"""Gives the client; raises `ClerkNotConfigured`."""


@dataclass(frozen=True)
class Saved:
    """A change that is stored on both sides. `user` is None when it was deleted."""

    user: BuilderUser | None
    attempt: SyncAttempt | None = None
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.attempt is not None


class _Unfinished(Exception):
    """The user has an open attempt of a dead process."""


def dual_write(
    operation: Operation,
    user: BuilderUser,
    *,
    actor: Actor,
    source: Source,
    version: str | None = None,
    run: BulkRun | None = None,
    gateway: Gateway = clerk,
    deadline: Deadline | None = None,
) -> Saved:
    """Make one change on both sides, or on none.

    1. Commit the attempt.
    2. Lock the row; compare the version; write the row, so that constraints speak first.
    3. Tell Clerk, still inside the transaction. An unknown outcome is resolved by reading back.
    4. Settle the attempt, keep Clerk's answer, write the LogEntry; commit.

    `version` is the token of the form; without it the values that the change starts from are
    compared. `gateway` gives the client, a paced one for bulk work. Raises the `ChangeFailed`
    family. Must not run inside a transaction: the attempt would vanish with its rollback.
    """
    base = base_of(version, user) if version is not None else None
    deadline = deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
    if not operation.asks_clerk:
        return _settling_first(
            user,
            None,
            lambda: _write_here(operation, user, actor, source, base, run, deadline),
            deadline,
        )
    _prepare(operation, user, gateway, deadline)
    steps.reach(steps.BEFORE_ATTEMPT)
    attempt = journal.record(operation, actor=actor, source=source, run=run)
    steps.reach(steps.AFTER_ATTEMPT)
    try:
        return _settling_first(
            user,
            attempt,
            lambda: _write_both(operation, user, attempt, base, gateway, deadline),
            deadline,
        )
    except ClerkError as error:
        failure = _refused(operation, error)
    except ChangeFailed as error:
        failure = error
    _settle_failed(attempt, failure)
    raise failure


def _settling_first(
    user: BuilderUser, mine: SyncAttempt | None, write: Callable[[], Saved], deadline: Deadline
) -> Saved:
    """Run `write`; if it meets an unfinished attempt, settle that and run it once more."""
    try:
        return write()
    except _Unfinished:
        unsettled = [
            settled
            for settled in recovery.recover_user(user.pk, apart_from=mine, deadline=deadline)
            if not settled.settled
        ]
    if unsettled:
        raise _unsettled(unsettled[0])
    try:
        return write()
    except _Unfinished:
        raise Refused(
            "Another change of this user is not settled yet. Nothing was saved; save again.",
            code="unfinished",
        ) from None


def _unsettled(settled: recovery.Settled) -> Refused:
    return Refused(
        f"An earlier change of this user is not settled yet: {settled.message} "
        "Nothing was saved now. Settle that change first.",
        code="unfinished",
    )


def _prepare(operation: Operation, user: BuilderUser, gateway: Gateway, deadline: Deadline) -> None:
    try:
        operation.prepare(gateway(), user, deadline)
    except ClerkError as error:
        raise _refused(operation, error) from None


def _refused(operation: Operation, error: ClerkError) -> ChangeFailed:
    if isinstance(error, ClerkNotFound) and operation.clerk_id:
        copies.keep_deleted(operation.clerk_id)
    return wording.refused(error)


def _write_here(
    operation: Operation,
    user: BuilderUser,
    actor: Actor,
    source: Source,
    base: dict[str, Any] | None,
    run: BulkRun | None,
    deadline: Deadline,
) -> Saved:
    """A change that Clerk need not know: one transaction, journal included."""
    with constraints.as_refusals(), transaction.atomic(durable=True):
        row = _row(operation, user, None, base, deadline)
        written = operation.write(row)
        attempt = journal.record(
            operation, actor=actor, source=source, status=Status.APPLIED, run=run
        )
        journal.log(operation, actor_id=attempt.actor_id)
    return Saved(written, attempt)


def _write_both(
    operation: Operation,
    user: BuilderUser,
    attempt: SyncAttempt,
    base: dict[str, Any] | None,
    gateway: Gateway,
    deadline: Deadline,
) -> Saved:
    told = False
    try:
        with transaction.atomic(durable=True):
            row = _row(operation, user, attempt, base, deadline)
            if attempt.changes != operation.changes:  # the row held a part of them already
                attempt.changes = operation.changes
                attempt.save(update_fields=["changes"])
            with constraints.as_refusals():
                written = operation.write(row)
            steps.reach(steps.BEFORE_CALL)
            account = _tell_clerk(operation, gateway, deadline) if operation.asks_clerk else None
            told = True
            steps.reach(steps.AFTER_CALL)
            complete(operation, written, account, attempt)
            steps.reach(steps.BEFORE_COMMIT)
        steps.reach(steps.AFTER_COMMIT)
    except DatabaseError:
        if not told:
            raise
        logger.exception("The database failed after Clerk took attempt %s", attempt.pk)
        raise wording.commit_failed() from None
    return Saved(written, attempt)


def _row(
    operation: Operation,
    user: BuilderUser,
    attempt: SyncAttempt | None,
    base: dict[str, Any] | None,
    deadline: Deadline,
) -> BuilderUser:
    """The row to write, locked and as the change expects it; the attempt locked with it."""
    locks.prepare_transaction(wait=deadline.remaining())
    if operation.creates_row:
        row = user
    else:
        row = locks.lock_user(user.pk, mine=attempt)
        if locks.has_unfinished(row):
            raise _Unfinished
        conflicts.check(operation, row, base)
    if attempt is not None and not locks.lock_attempt(attempt):
        raise Conflict(
            "This change was taken for an abandoned one and dropped before Clerk was asked. "
            "Nothing was saved; save again."
        )
    return row


def _tell_clerk(operation: Operation, gateway: Gateway, deadline: Deadline) -> ClerkUser | None:
    """Send the change. Returning means that Clerk has it."""
    try:
        return operation.send(gateway(), Deadline(deadline.remaining() * WRITE_SHARE))
    except ClerkUnknown as unknown:
        logger.warning(
            "Unknown outcome of %s for %s: %s (trace %s)",
            operation.kind,
            operation.clerk_id or operation.user_id,
            unknown.summary,
            unknown.trace_id or "none",
        )
        return _read_back(operation, unknown, gateway, deadline)


def _read_back(
    operation: Operation, unknown: ClerkUnknown, gateway: Gateway, deadline: Deadline
) -> ClerkUser | None:
    try:
        seen = operation.look(gateway(), deadline)
    except ClerkError:
        raise wording.not_known(unknown) from None
    if seen.verdict is Verdict.HAS_IT:
        return seen.account
    # 2xx says that Clerk did it: if it does not show yet, that is no proof that it will not.
    if seen.verdict is Verdict.HAS_NOT and not isinstance(unknown, ClerkUnreadable):
        raise wording.not_saved(unknown)
    raise wording.not_known(unknown, seen.why)


def _settle_failed(attempt: SyncAttempt, failure: ChangeFailed) -> None:
    details = {
        "error_code": failure.code,
        "message": failure.full_message,
        "trace_id": failure.trace_id,
    }
    if isinstance(failure, NotKnown):
        journal.leave_open(attempt, **details)
    elif isinstance(failure, Refused):
        journal.settle(attempt, Status.REFUSED, **details)
    else:
        journal.settle(attempt, Status.DROPPED, **details)
