"""One row of a run: its change, through the same dual write as the form, and its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import F, OuterRef, QuerySet, Subquery

from users.clerk import Clerk, Pace, clerk, names
from users.errors import (
    Busy,
    BusyInClerk,
    ChangeFailed,
    Conflict,
    Denied,
    Gone,
    NotConfigured,
    NothingToChange,
    NotKnown,
    NotSaved,
    Waiting,
)
from users.models import BuilderUser, BulkRow, BulkRun, ClerkAccount, Source, Status, SyncAttempt
from users.models import Operation as Kind
from users.sync import account, invitations
from users.sync.bulk import clerk_values, creating
from users.sync.bulk.circuit import Signal
from users.sync.dual_write import dual_write
from users.sync.operations import Operation
from users.version import same

State = BulkRow.State

OLDEST = timedelta(seconds=2)
"""How old our copy of an account may be when its row is written. The documentation names it."""


def asks_clerk(row: BulkRow) -> bool:
    """Whether it needs a place at Clerk's pace."""
    if row.operation in creating.KINDS:
        return creating.asks_clerk(row)
    return row.operation == Kind.INVITE or _operation(row).asks_clerk


def reads_first(row: BulkRow) -> bool:
    """Whether its account must be fresh before it is written."""
    kind = Operation.kinds.get(row.operation)
    return bool(kind and kind.reads_first and row.clerk_id and asks_clerk(row))


def _operation(row: BulkRow) -> Operation:
    changes, details = row.changes, dict[str, Any]()
    if row.clerk_id and row.operation in clerk_values.FIELDS:
        changes, details = clerk_values.apart(row.changes)
    return Operation.kinds[row.operation](
        user_id=row.user_id,
        label=row.label,
        clerk_id=row.clerk_id,
        changes=changes,
        details=details,
    )


@dataclass(frozen=True)
class Result:
    """Result of one try of a row.

    A row whose state is still WAITING is tried again in the next round; `reason` says why.
    `signal` is for the circuit breaker.
    """

    state: State
    reason: str
    signal: Signal


def carry_out(row: BulkRow, rate_limiter: Pace) -> Result:
    """Make the change of one row."""
    user = row.user or creating.new_user(row)
    if user is None:
        return _skipped("The user was deleted since the plan was made.")
    if moved := _moved_in_clerk(row):
        return _skipped(moved)
    try:
        warnings = _change(row, user, lambda: clerk().paced(rate_limiter))
    except ChangeFailed as failure:
        return _result_of(failure)
    signal = Signal.ANSWERED if asks_clerk(row) else Signal.ENDED
    return Result(State.DONE, " ".join(warnings), signal)


def _result_of(failure: ChangeFailed) -> Result:
    """Decide whether the row is tried again.

    The same values may always be sent again, so an unknown outcome and a Clerk that cannot be
    reached are tried again. A row fails only for a reason of its own.
    """
    message = failure.full_message
    match failure:
        case Conflict():
            return _skipped(_moved_here(failure))
        case NothingToChange():
            return _skipped(failure.message)
        case Gone():
            return _skipped("The user was deleted since the plan was made.")
        case Denied() | NotConfigured():
            return Result(State.WAITING, message, Signal.DENIED)
        case _ if failure.retry_after is not None:
            return Result(State.WAITING, message, Signal.NOTHING)
        case NotKnown() | NotSaved():
            return Result(State.WAITING, message, Signal.NO_ANSWER)
        case Busy() | BusyInClerk() | Waiting():
            return Result(State.WAITING, message, Signal.NOTHING)
    return Result(State.FAILED, message, Signal.FAILED)


def crashed(row: BulkRow, problem: Exception) -> Result:
    """Result of a row that ended with an error of ours. Its attempt may be pending: then the row
    waits, and follows the attempt."""
    mine = row.run.attempts.filter(user_id=row.user_id, operation=row.operation)
    state = State.WAITING if mine.pending().exists() else State.FAILED
    reason = f"It failed with {type(problem).__name__}: see the log."
    return Result(state, reason, Signal.FAILED)


def _skipped(reason: str) -> Result:
    return Result(State.SKIPPED, reason, Signal.ENDED)


def store(row: BulkRow, result: Result) -> None:
    """Store the result of a row, with the newest attempt that was made for the row."""
    attempts = row.run.attempts.filter(user_id=row.user_id, operation=row.operation)
    BulkRow.objects.filter(pk=row.pk).update(
        state=result.state,
        reason=result.reason,
        attempt=Subquery(attempts.order_by("-pk").values("pk")[:1]),
    )


def follow_attempts(run: BulkRun | None = None) -> None:
    """Mark rows as done whose attempt was applied after their run had given them up.

    Recovery resolves an attempt without knowing of runs. Call this before rows are shown,
    exported, resumed or undone. Without `run` it follows the attempts of all runs.
    """
    applied = SyncAttempt.objects.filter(
        run=OuterRef("run"),
        user_id=OuterRef("user_id"),
        operation=OuterRef("operation"),
        status=Status.APPLIED,
    ).order_by("-pk")
    behind = BulkRow.objects.exclude(state=State.DONE).annotate(
        applied=Subquery(applied.values("pk")[:1])
    )
    behind = behind.filter(applied__isnull=False)
    if run is not None:
        behind = behind.filter(run=run)
    runs = set(behind.values_list("run_id", flat=True))
    if runs:
        behind.update(state=State.DONE, reason="", attempt_id=F("applied"))
    if run is not None:
        runs.add(run.pk)
    _finish(BulkRun.objects.filter(pk__in=runs))


def _finish(runs: QuerySet[BulkRun]) -> None:
    """Mark those of the runs as finished that have ended and have no waiting row left."""
    ended = runs.filter(state__in=[BulkRun.State.STOPPED, BulkRun.State.INTERRUPTED])
    waiting = BulkRow.objects.filter(state=State.WAITING).values("run")
    ended.exclude(pk__in=waiting).update(state=BulkRun.State.FINISHED, message="")


def _change(row: BulkRow, user: BuilderUser, gateway: Callable[[], Clerk]) -> tuple[str, ...]:
    """What is to be said besides. Raises the `ChangeFailed` family."""
    run = row.run
    if row.operation in creating.KINDS:
        return creating.create(row, user, gateway)
    if row.operation == Kind.INVITE:
        with invitations.ONE_OF_MANY:
            invited = invitations.invite(
                user, actor=run.actor, email=row.changes["email"][1], source=Source.COMMAND, run=run
            )
        return invitations.said_of(invited.waits_until)
    operation = _operation(row)
    saved = dual_write(
        operation,
        user,
        actor=run.actor,
        source=Source.COMMAND,
        run=run,
        gateway=gateway,
        fresh=OLDEST,
    )
    if row.operation in (Kind.REPLACE_EMAIL, Kind.PUSH_EMAIL):
        return account.still_found(row.changes["email"][0], gateway)
    return saved.warnings


def _moved_here(conflict: Conflict) -> str:
    by = f", by {conflict.who}" if conflict.who else ""
    now = "; ".join(
        f"{moved.field} is {moved.theirs or 'empty'} now" for moved in conflict.conflicts
    )
    return f"It changed since the plan was made{by}: {now}."


_EXPECTED_IN_CLERK: Mapping[str, tuple[int, ...]] = {
    Kind.PUSH_NAME: (0, 1),
    Kind.PUSH_EMAIL: (0, 1),
    Kind.FOLLOW: (1,),
}
"""Which of before and after Clerk must hold. A push may have arrived in an earlier try."""


def _moved_in_clerk(row: BulkRow) -> str:
    """Say what our copy of Clerk's side shows to have changed since the plan. A push is compared
    again under the row's lock."""
    expected = _EXPECTED_IN_CLERK.get(row.operation)
    if expected is None:
        return ""
    known = ClerkAccount.objects.filter(pk=row.clerk_id).first()
    if known is None or known.deleted_at:
        return "Its account was deleted in Clerk since the plan was made."
    holds = {"name": names.join(known.first_name, known.last_name), "email": known.email}
    moved = [
        field
        for field, change in row.changes.items()
        if not any(same(field, change[index], holds[field]) for index in expected)
    ]
    return f"Clerk holds another {moved[0]} than when the plan was made." if moved else ""
