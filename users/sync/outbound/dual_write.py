"""Bring a change to Clerk and the database.

Every new change that is sent to Clerk goes this way (docs/decisions.md).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypedDict

from django.conf import settings
from django.db import transaction
from structlog.contextvars import bound_contextvars

from users.clerk import Deadline, clerk
from users.errors import ChangeFailed, ClerkError, NotKnown, Refused, Repeated
from users.models import BuilderUser, BulkRun, Source, Status, SyncAttempt
from users.sync import messages
from users.sync.access import permissions
from users.sync.actors import Actor
from users.sync.operations import Delete, Operation
from users.sync.outbound import (
    checkpoints,
    constraints,
    journal,
    locks,
    pending,
    recovery,
    repeats,
)
from users.sync.outbound.completion import reconcile_concerned
from users.sync.outbound.exchange import (
    FRESH,
    Base,
    Gateway,
    InTheWay,
    Saved,
    check_start,
    exchange,
    explain,
    lock_row,
    refusal_of,
)

__all__ = ["Gateway", "Saved", "dual_write", "refuse"]

logger = logging.getLogger(__name__)


def dual_write(
    operation: Operation,
    user: BuilderUser,
    *,
    actor: Actor,
    source: Source,
    base: Base = None,
    run: BulkRun | None = None,
    token: uuid.UUID | None = None,
    gateway: Gateway = clerk,
    deadline: Deadline | None = None,
    fresh: timedelta = FRESH,
) -> Saved:
    """Make one change on both sides, or on none.

    The attempt is committed before Clerk is asked, so that it is resolved whatever happens. Then
    `exchange` makes the change under the locks. Must not run inside a transaction: its rollback
    would remove the attempt.

    `base` holds the shown values that the form was opened with. Without it, the values that the
    change starts from are compared. `token` is the one-time token of a page: a repeated POST gets
    the outcome of the first. `gateway` returns the client; bulk work passes one with a rate
    limiter. Clerk is read before the write if our mirror is older than `fresh`.

    Raises the `ChangeFailed` family.
    """
    permissions.authorize(operation, user, actor=actor, source=source)
    deadline = deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
    if isinstance(operation, Delete) and (first := repeats.first_of(token, operation)):
        # The row's deletion changes its attempts: until it is committed, recording another attempt
        # with its token would wait.
        return repeats.outcome_of(first, deadline)
    origin: _Origin = {"actor": actor, "source": source, "run": run, "token": token}
    write = _Write(operation, user, base, origin, gateway, deadline, fresh)
    try:
        return write.once()
    except ChangeFailed as failure:
        # A first POST with this token may have been committed meanwhile.
        if first := repeats.first_of(token, operation, apart_from=write.attempt):
            return repeats.outcome_of(first, deadline)
        if not isinstance(failure, Repeated):
            raise
    # The page has made another change before. A token belongs to one attempt only.
    return replace(write, origin={**origin, "token": None}).once()


def refuse(
    operation: Operation, failure: ChangeFailed, *, actor: Actor, source: Source
) -> ChangeFailed:
    """Record a change that is refused before it is begun.

    Returns the failure, for the caller to raise.
    """
    journal.record(operation, actor=actor, source=source, status=Status.REFUSED, failure=failure)
    return failure


class _Origin(TypedDict):
    """Who wants a change, from where, and the one-time token of their page."""

    actor: Actor
    source: Source
    run: BulkRun | None
    token: uuid.UUID | None


class _Ending(TypedDict):
    """How a change failed, as its attempt stores it."""

    error_code: str
    message: str
    trace_id: str


@dataclass
class _Write:
    """One change with all that its steps need. `attempt` is set once it is recorded."""

    operation: Operation
    user: BuilderUser
    base: Base
    origin: _Origin
    gateway: Gateway
    deadline: Deadline
    fresh: timedelta
    attempt: SyncAttempt | None = None

    def once(self) -> Saved:
        """Make the change. Raises `Repeated` if the page has made one before."""
        return self.on_both_sides() if self.operation.asks_clerk else self.here()

    def here(self) -> Saved:
        """Apply a database-only change in one transaction, including its journal."""
        try:
            return self._resolving_first(self._write_here)
        except Repeated:
            raise
        except ChangeFailed as failure:
            explain(self.operation, failure)
            self._record_failed(failure)
            raise

    def _write_here(self) -> Saved:
        operation = self.operation
        with constraints.as_refusals(), transaction.atomic(durable=True):
            repeats.take_turn(self.origin["token"], self.deadline)
            row, others = lock_row(operation, self.user, self.deadline)
            check_start(operation, row, others, self.base, self._authorize)
            written = constraints.write(operation, row)
            attempt = journal.record(operation, status=Status.APPLIED, **self.origin)
            journal.log(operation, actor_id=attempt.actor_id, person=attempt.actor_name)
            reconcile_concerned(operation, written, attempt)
        return Saved(written, attempt)

    def on_both_sides(self) -> Saved:
        """Record the attempt, and make the change."""
        try:
            self.gateway()
        except ClerkError as error:
            failure = refusal_of(self.operation, error, self.gateway, self.deadline)
            explain(self.operation, failure)
            self._record_failed(failure)
            raise failure from None
        self.operation.prepare(self.user)
        checkpoints.reach(checkpoints.BEFORE_ATTEMPT)
        attempt = journal.record(self.operation, deadline=self.deadline, **self.origin)
        self.attempt = attempt
        with bound_contextvars(attempt=attempt.pk):
            return self._resolved(attempt)

    def _resolved(self, attempt: SyncAttempt) -> Saved:
        """Make the recorded change, and resolve its attempt if that failed."""
        checkpoints.reach(checkpoints.AFTER_ATTEMPT)
        try:
            saved = self._resolving_first(lambda: self._exchange(attempt))
            _log_end(attempt)
            return saved
        except ClerkError as error:
            failure = refusal_of(self.operation, error, self.gateway, self.deadline)
        except ChangeFailed as failed:
            failure = failed
        explain(self.operation, failure)
        self._resolve_failed(attempt, failure)
        _log_end(attempt)
        raise failure

    def _exchange(self, attempt: SyncAttempt) -> Saved:
        return exchange(
            self.operation,
            self.user,
            attempt,
            base=self.base,
            gateway=self.gateway,
            deadline=self.deadline,
            fresh=self.fresh,
            authorize=self._authorize,
        )

    def _authorize(self, row: BuilderUser) -> None:
        """Check the permissions under the lock: the user may be an administrator by now."""
        actor, source = self.origin["actor"], self.origin["source"]
        permissions.require(self.operation, row, actor=actor, source=source)

    def _resolving_first(self, write: Callable[[], Saved]) -> Saved:
        """Run `write`. If attempts are in its way, resolve them and run it once more."""
        try:
            return write()
        except InTheWay:
            recovery.recover_user(self.user.pk, apart_from=self.attempt, deadline=self.deadline)
        try:
            return write()
        except InTheWay as still:
            earlier = still.attempts[0]
            both_secret = self.operation.has_secrets and earlier.operation == self.operation.kind
            why = str(messages.NOT_COMPARED) if both_secret else ""
            raise messages.must_wait(earlier, why) from None

    def _record_failed(self, failure: ChangeFailed) -> None:
        """Record a change that failed before Clerk was told: each one leaves a trace."""
        self.attempt = journal.record(
            self.operation, status=_status_of(failure), failure=failure, **self.origin
        )

    def _resolve_failed(self, attempt: SyncAttempt, failure: ChangeFailed) -> None:
        details: _Ending = {
            "error_code": failure.code,
            "message": failure.full_message,
            "trace_id": failure.trace_id,
        }
        if isinstance(failure, NotKnown):
            others = pending.in_flight(self.user.pk, apart_from=attempt)
            pending.supersede(pending.same_again(self.operation, others), attempt, Status.DROPPED)
            with transaction.atomic():
                # Do not wait for the lock: the connection of a hanging commit holds it.
                if locks.lock_attempt(attempt):
                    journal.keep_what_clerk_held(attempt)
                    journal.leave_pending(attempt, **details)
        else:
            journal.resolve(attempt, _status_of(failure), **details)


def _log_end(attempt: SyncAttempt) -> None:
    """Log how a change ended, without its values."""
    extra = {
        "operation": attempt.operation,
        "outcome": attempt.status,
        "trace_id": attempt.trace_id,
    }
    logger.info("A change ended as %s", attempt.status, extra=extra)


def _status_of(failure: ChangeFailed) -> Status:
    return Status.REFUSED if isinstance(failure, Refused) else Status.DROPPED
