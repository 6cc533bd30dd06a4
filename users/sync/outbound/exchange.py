"""Make the change of one attempt under its locks: write, tell Clerk, judge, commit."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError, connection, transaction
from django.utils.translation import gettext as _

from users.changes import Changes
from users.clerk import Clerk, ClerkUser, Deadline
from users.errors import (
    Busy,
    ChangeFailed,
    ClerkError,
    ClerkNotFound,
    ClerkUnknown,
    Conflict,
    FieldConflict,
    Gone,
    NotKnown,
    NotSaved,
    Refused,
)
from users.models import BuilderUser, ClerkAccount, Source, Status, SyncAttempt
from users.sync import messages
from users.sync.actors import Actor
from users.sync.display import field_word
from users.sync.inbound import reconcile
from users.sync.mirror import agreements, instance, store
from users.sync.operations import Follow, Operation, Verdict, from_attempt
from users.sync.operations.following import ClerksValues
from users.sync.outbound import (
    checkpoints,
    conflicts,
    constraints,
    holders,
    journal,
    locks,
    pending,
)
from users.sync.outbound.completion import complete

logger = logging.getLogger(__name__)

WRITE_SHARE = 0.6
"""Share of the deadline that the write may take. The rest is for reading Clerk back."""
FRESH = timedelta(seconds=5)
"""How old our mirror of the account may be before a save reads Clerk first."""

Gateway = Callable[[], Clerk]
"""Returns the client; raises `ClerkNotConfigured`."""
Base = dict[str, object] | None
"""The shown values that the form was opened with."""
Authorize = Callable[[BuilderUser], None]


@dataclass(frozen=True)
class Saved:
    """Result of a change that is stored on both sides. `user` is None if it was deleted."""

    user: BuilderUser | None
    attempt: SyncAttempt | None = None
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Tell whether anything was changed: without a change there is no attempt."""
        return self.attempt is not None


class InTheWay(Exception):
    """Attempts in flight want a different value of the same thing."""

    def __init__(self, attempts: list[SyncAttempt]) -> None:
        super().__init__()
        self.attempts = attempts


class MovedInClerk(Conflict):
    """The value was changed in Clerk since.

    `account` is Clerk's answer, to be stored in the mirror. It is None if the mirror shows the
    change already.
    """

    def __init__(
        self, account: ClerkUser | None, message: str, *,
        conflicts: tuple[FieldConflict, ...], who: str, when: datetime | None,
    ) -> None:  # fmt: skip
        super().__init__(message, conflicts=conflicts, who=who, when=when)
        self.account = account


class AlreadyApplied(Exception):
    """Recovery found the change in Clerk and finished it before this save had the locks."""


def exchange(
    operation: Operation,
    user: BuilderUser,
    attempt: SyncAttempt,
    *,
    base: Base,
    gateway: Gateway,
    deadline: Deadline,
    authorize: Authorize,
    fresh: timedelta = FRESH,
) -> Saved:
    """Make the change of one recorded attempt on both sides, or on none.

    1. Lock the row and the attempt. Look for attempts that exclude this one. `authorize` raises
       `NotAllowed` for a row that the actor may not change.
    2. Compare what the change starts from with the row and with our mirror of Clerk. Clerk itself
       is read if the mirror is older than `fresh`.
    3. Write the row, so that the database checks its constraints before Clerk is asked.
    4. Tell Clerk and judge the answer. Read Clerk back if the outcome is not certain.
    5. Resolve the attempt, store Clerk's answer, write the LogEntry; commit.

    Raises `InTheWay`, `ClerkError` if nothing was changed in Clerk, and the `ChangeFailed` family,
    with `NotKnown` if the attempt must stay pending.
    """
    clerk_has_it, late_until = False, attempt.late_until
    try:
        with transaction.atomic(durable=True):
            row, superseded = _lock(operation, user, attempt, base, deadline, authorize)
            attempt.changes = operation.changes  # without the fields that the row holds as wanted
            if not operation.asks_clerk:  # all that is left of the change is database-only
                return _write_here(operation, row, attempt)
            _compare_in_clerk(operation, row, gateway, deadline, fresh)
            operation.changes = _with_values_before_first_try(operation, superseded)
            # Undo and recovery need what the account held before. The attempt keeps it in memory
            # and stores it when it ends, because this transaction may be rolled back.
            attempt.changes, attempt.details = operation.changes, operation.details
            with constraints.as_refusals():
                written = constraints.write(operation, row)
            checkpoints.reach(checkpoints.BEFORE_CALL)
            account, read_back = _tell_clerk(operation, attempt, gateway, deadline)
            clerk_has_it = True
            checkpoints.reach(checkpoints.AFTER_CALL)
            still_late = read_back and not pending.has_landed(operation, attempt)
            complete(operation, written, account, attempt, still_late=still_late)
            pending.supersede(superseded, attempt, Status.APPLIED)
            checkpoints.reach(checkpoints.BEFORE_COMMIT)
        checkpoints.reach(checkpoints.AFTER_COMMIT)
    except AlreadyApplied:
        return Saved(BuilderUser.objects.filter(pk=user.pk).first(), attempt)
    except MovedInClerk as moved:
        if moved.account is not None:
            with _beside_a_failure():
                reconcile.take(moved.account)
        raise
    except DatabaseError:
        if not clerk_has_it:
            raise
        logger.exception("The database failed after Clerk took attempt %s", attempt.pk)
        attempt.details = operation.details | {"confirmed": True}
        raise messages.commit_failed(late_until) from None
    return Saved(written, attempt)


def _write_here(operation: Operation, row: BuilderUser, attempt: SyncAttempt) -> Saved:
    """Write the row of a recorded change of which Clerk need not be told any more."""
    with constraints.as_refusals():
        written = constraints.write(operation, row)
    complete(operation, written, None, attempt)
    return Saved(written, attempt)


@dataclass(frozen=True)
class Taken:
    """What a row took from its account. `refused` are the reasons why it did not take the rest."""

    saved: Saved
    refused: tuple[Refused, ...]


def take_clerks_values(
    values: ClerksValues,
    row: BuilderUser,
    *,
    actor: Actor,
    source: Source,
    token: uuid.UUID | None = None,
) -> Taken:
    """Write values that were just read from Clerk into the locked row, with their journal.

    Each value that the row cannot take is journaled as a refused attempt.
    """
    saved = Saved(row)
    if values.changes:
        operation = Follow.on(row, values.changes)
        with constraints.as_refusals():
            constraints.write(operation, row)
        agreements.own(row.pk, changed=values.changes)
        attempt = journal.record(
            operation, actor=actor, source=source, status=Status.APPLIED, token=token
        )
        journal.log(operation, actor_id=attempt.actor_id, person=attempt.actor_name)
        saved = Saved(row, attempt)
    for field, failure in values.refused.items():
        wanted = Follow.on(row, {field: values.differing[field]})
        journal.record(wanted, actor=actor, source=source, status=Status.REFUSED, failure=failure)
    return Taken(saved, tuple(values.refused.values()))


def lock_row(
    operation: Operation, user: BuilderUser, deadline: Deadline
) -> tuple[BuilderUser, list[SyncAttempt]]:
    """Lock the row of a change, and list the attempts in flight of its user and account.

    Raises `Busy` and `Gone`.
    """
    wait, row = deadline.remaining(), user
    if operation.creates_row:
        locks.prepare_transaction(wait=wait)
    else:
        row = locks.lock_user(user.pk, wait=wait)
    return row, pending.in_flight(user.pk, clerk_id=operation.account_id)


def _lock_both(
    operation: Operation, user: BuilderUser, attempt: SyncAttempt, deadline: Deadline
) -> locks.LockedBoth:
    """Lock the row, unless the operation creates it, and the attempt.

    Raises `Busy`, `Gone`, and `AlreadyApplied`.
    """
    wait = deadline.remaining()
    if operation.creates_row:
        locks.prepare_transaction(wait=wait)
        return locks.LockedBoth(user, locks.lock_attempt(attempt), alone=False)
    try:
        return locks.lock_both(user.pk, attempt, wait=wait)
    except Gone:
        attempt.refresh_from_db(fields=["status"])
        if attempt.status == Status.APPLIED:  # recovery has finished this very deletion
            raise AlreadyApplied from None
        raise


def _lock(
    operation: Operation,
    user: BuilderUser,
    attempt: SyncAttempt,
    base: Base,
    deadline: Deadline,
    authorize: Authorize,
) -> tuple[BuilderUser, list[SyncAttempt]]:
    """Lock the row and the attempt, and check that the change may start.

    Returns the row to write, and the pending attempts that want the same. Raises `InTheWay`,
    `AlreadyApplied`, and the `ChangeFailed` family.
    """
    row, held, alone = _lock_both(operation, user, attempt, deadline)
    if not held:
        attempt.refresh_from_db()
        if attempt.status == Status.APPLIED:
            raise AlreadyApplied
    others = (
        [] if alone else pending.in_flight(user.pk, clerk_id=operation.clerk_id, apart_from=attempt)
    )
    check_start(operation, row, others, base, authorize)
    if not held:  # a conflict says more to the author than this
        raise _not_ours(attempt)
    return row, pending.same_again(operation, others)


def check_start(
    operation: Operation,
    row: BuilderUser,
    others: list[SyncAttempt],
    base: Base,
    authorize: Authorize,
) -> None:
    """Check under the lock of its row that a change may start.

    `others` are the other attempts in flight of its user and account. Raises `InTheWay`, and the
    `ChangeFailed` family for what `authorize` does not allow and for a conflict.
    """
    if blocking := pending.in_the_way(operation, others):
        raise InTheWay(blocking)
    authorize(row)
    if not operation.creates_row:
        conflicts.check(operation, row, base)


def _not_ours(attempt: SyncAttempt) -> ChangeFailed:
    """Say why a save cannot go on whose attempt another process has locked or resolved."""
    if attempt.pending:
        return Busy(_("This change is being checked with Clerk right now. Wait a moment."))
    return NotSaved(
        _(
            "The save took too long and was given up before Clerk was asked. Nothing was saved. "
            "Save again."
        )
    )


def _compare_in_clerk(
    operation: Operation,
    row: BuilderUser,
    gateway: Gateway,
    deadline: Deadline,
    fresh: timedelta,
) -> None:
    """Compare the account with what the change starts from, before the write.

    The account comes from our mirror if that is fresh, else from Clerk. Raises `MovedInClerk` for a
    value that somebody changed there meanwhile.
    """
    if not operation.reads_first:
        return
    answer: ClerkUser | None = None
    known = None if operation.mirror_lacks_it else _fresh_mirror(operation.clerk_id, fresh)
    if known is not None:
        account = store.user_of(known)
    else:
        account = answer = gateway().get_user(operation.clerk_id, deadline=deadline)
    if moved := operation.moved_in_clerk(row, account):
        raise _moved_in_clerk(answer, account.updated_at, moved)
    operation.build_on(account)  # the mirror is updated later, by the answer to the write
    operation.details = operation.details | {"held_is_read": answer is not None}


# In SQL like the locks: Django takes longer to build a query than PostgreSQL to answer "no", and
# that is the usual answer. The upper bound: `seen_at` lies in the future if a clock was ahead.
_IS_FRESH = """
SELECT FROM users_clerkaccount
WHERE clerk_id = %s AND deleted_at IS NULL AND seen_at <= statement_timestamp()
    AND seen_at > statement_timestamp() - make_interval(secs => %s)
"""


def _fresh_mirror(clerk_id: str, fresh: timedelta) -> ClerkAccount | None:
    with connection.cursor() as cursor:
        cursor.execute(_IS_FRESH, [clerk_id, fresh.total_seconds()])
        return ClerkAccount.objects.filter(pk=clerk_id).first() if cursor.rowcount else None


def _with_values_before_first_try(
    operation: Operation, superseded: Sequence[SyncAttempt]
) -> Changes:
    """Return the changes, each with the value from before the first attempt that wanted the same.

    The request of that attempt may have arrived meanwhile. Then Clerk already holds the new value,
    and an undo of this change would restore nothing.
    """
    if not superseded or operation.moves:
        return operation.changes
    first = from_attempt(superseded[0]).changes
    return {field: first.get(field, change) for field, change in operation.changes.items()}


def _moved_in_clerk(
    answer: ClerkUser | None, when: datetime | None, moved: list[FieldConflict]
) -> MovedInClerk:
    named = ", ".join(field_word(conflict.field) for conflict in moved)
    return MovedInClerk(
        answer,
        message=_(
            "This user's {named} was changed in Clerk, by the person or in Clerk's dashboard. "
            "Nothing was saved. Choose for each field, then save again."
        ).format(named=named),
        conflicts=tuple(moved),
        who=_("the person or somebody in Clerk's dashboard"),
        when=when,
    )


def _tell_clerk(
    operation: Operation, attempt: SyncAttempt, gateway: Gateway, deadline: Deadline
) -> tuple[ClerkUser | None, bool]:
    """Send the change, and return once Clerk is known to have it.

    Returns the account if an answer holds it, and whether Clerk was read back. If it was, the
    request itself may still be under way. Raises `NotKnown` for an unknown outcome, and other
    errors of Clerk as they are.
    """
    try:
        seen = operation.send(gateway(), Deadline(deadline.remaining() * WRITE_SHARE))
        if seen.verdict is Verdict.HAS_IT:
            return seen.account, False
        unknown = ClerkUnknown(_("Clerk answered, but its answer does not show the change"))
    except ClerkUnknown as error:
        unknown = error
    logger.warning(
        "Unknown outcome of %s for %s: %s (trace %s)",
        operation.kind,
        operation.clerk_id or operation.user_id,
        unknown.summary,
        unknown.trace_id or "none",
    )
    try:
        seen = operation.look(gateway(), deadline)
    except ClerkError as error:
        why = _("Clerk could not be read either: {problem}.").format(problem=error.summary)
        raise _not_known(operation, unknown, attempt, why) from None
    if seen.verdict is Verdict.HAS_IT:
        return seen.account, True
    raise _not_known(operation, unknown, attempt, seen.why)


def _not_known(
    operation: Operation, error: ClerkUnknown, attempt: SyncAttempt, why: str
) -> NotKnown:
    failure = messages.not_known(error, attempt, why, secret=operation.has_secrets)
    _begin_with_what_was_done(operation, error, failure)
    return failure


def refusal_of(
    operation: Operation, error: ClerkError, gateway: Gateway, deadline: Deadline
) -> ChangeFailed:
    """Return the failure for a change that Clerk refused, or could not be asked about.

    A 404 of our own Clerk instance is stored in the mirror.
    """
    missing = isinstance(error, ClerkNotFound) and operation.clerk_id
    if missing and instance.is_ours(gateway(), deadline):
        with _beside_a_failure():
            store.keep_not_found(operation.clerk_id)
    failure = messages.refused(error, typed=operation.typed)
    _begin_with_what_was_done(operation, error, failure)
    return failure


def explain(operation: Operation, failure: ChangeFailed) -> None:
    """Add to a failure what it means for the person, and who has an email that is taken.

    Must run after the transaction that failed: PostgreSQL answers no query inside it any more.
    """
    holders.name_holder(failure, operation)
    if operation.clerk_id and operation.kind in messages.KEEPS_OUT:
        account = ClerkAccount.objects.filter(pk=operation.clerk_id).first()
        failure.sign_in = messages.sign_in_after(operation.kind, account, failure)


@contextmanager
def _beside_a_failure() -> Iterator[None]:
    """Store what was learned from a failure. The author is told of the failure in any case."""
    try:
        yield
    except DatabaseError:
        logger.exception("What Clerk has shown could not be stored; a later answer brings it")


def _begin_with_what_was_done(
    operation: Operation, error: ClerkError, failure: ChangeFailed
) -> None:
    """Let the message of a failure begin with the part of the change that Clerk has."""
    if done := operation.partly_done(error):
        failure.message = f"{done} {failure.message}"
