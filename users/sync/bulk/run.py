"""Carrying out a plan: a `BulkRun`, whose rows are its plan and its result in one.

Every row goes through the same dual write as the form. What was reached is in the tables at any
moment, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import Exists, OuterRef, Subquery
from django.utils import timezone

from users.clerk import Clerk, Pace, clerk, names
from users.errors import BulkRefused, Busy, ChangeFailed, Conflict, Gone
from users.models import BuilderUser, BulkRow, BulkRun, ClerkAccount, Source, Status, SyncAttempt
from users.models import Operation as Kind
from users.sync import account, invitations, recovery
from users.sync.actors import Actor, service_user
from users.sync.bulk import plan_file
from users.sync.bulk.brakes import FailureBrake
from users.sync.bulk.lock import Lease
from users.sync.bulk.plan import Plan, Planned
from users.sync.dual_write import dual_write
from users.sync.operations import Operation

logger = logging.getLogger(__name__)

State = BulkRow.State

WORKERS = 16
"""Calls in flight: enough for 100 a second at 150 ms, and fewer than the pool's connections."""
CHUNK = 200
ROUNDS = 4
ROUND_PAUSE = 2.0
"""Rows that somebody is saving right now, or that Clerk had no room for, come again in the next
round, after these seconds."""
LEASE_CHECKED_EVERY = 100


@dataclass
class Progress:
    """How far a run has come; `counts` by `BulkRow.State`."""

    total: int
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        return sum(self.counts.values())


Watch = Callable[[Progress], None]


def start(plan: Plan, *, actor: Actor, **options: Any) -> BulkRun:
    """Store the plan as a run, `options` with it; nothing is changed yet."""
    with transaction.atomic():
        run = BulkRun.objects.create(
            command=plan.command,
            options={**plan.options, **options},
            actor_id=(actor or service_user()).pk,
            plan_hash=plan_file.hash_of(plan),
            undo_of_id=plan.undo_of,
        )
        rows = (
            BulkRow(
                run=run,
                position=position,
                line=planned.line,
                user_id=planned.user_uuid,
                label=planned.label,
                clerk_id=planned.clerk_id,
                operation=planned.operation,
                changes=planned.changes,
            )
            for position, planned in enumerate(_in_turns(plan.rows))
        )
        BulkRow.objects.bulk_create(rows, batch_size=1000)
    return run


def _in_turns(rows: Sequence[Planned]) -> list[Planned]:
    """A user's second change after everybody's first: two of one user must not meet, and
    waiting for the first one would hold up the others."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, Planned]] = []
    for row in rows:
        turns.append((seen[row.user_id], row))
        seen[row.user_id] += 1
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])]


def resume(pk: int, *, command: str) -> BulkRun:
    """A run that was killed, stopped or interrupted, ready to go on. What was in flight is
    settled first, so that no row is done twice. Raises `BulkRefused`."""
    run = BulkRun.objects.filter(pk=pk).first()
    if run is None:
        raise BulkRefused(f"There is no run {pk}.")
    if run.command != command:
        raise BulkRefused(f"Run {pk} is of {run.command}: resume it with that command.")
    if not run.rows.filter(state=State.WAITING).exists():
        BulkRun.objects.filter(pk=pk).update(state=BulkRun.State.FINISHED, message="")
        raise BulkRefused(f"Run {pk} has no row left to do.")
    for attempt in run.attempts.filter(status=Status.STARTED):
        recovery.recover(attempt)
    applied = SyncAttempt.objects.filter(
        run=run,
        user_id=OuterRef("user_id"),
        operation=OuterRef("operation"),
        status=Status.APPLIED,
    )
    run.rows.filter(Exists(applied), state=State.WAITING).update(
        state=State.DONE, attempt=Subquery(applied.values("pk")[:1])
    )
    run.state, run.message, run.finished_at = BulkRun.State.RUNNING, "", None
    run.save(update_fields=["state", "message", "finished_at"])
    return run


def carry_out(
    run: BulkRun,
    *,
    rate: float,
    lease: Lease,
    stop: threading.Event,
    brake: FailureBrake,
    watch: Watch,
) -> BulkRun:
    """Do every waiting row, at `rate` calls a second, until all are done, `stop` is set or the
    brake says so; what is in flight is always finished.

    Raises `BulkRefused` when the lock was lost, and `DatabaseError`; the run can be resumed.
    """
    pace = Pace(rate, sleep=stop.wait)
    crew = _Crew(run, pace)
    progress = Progress(run.rows.count())
    progress.counts.update(run.rows.exclude(state=State.WAITING).values_list("state", flat=True))
    watch(progress)

    def take_stock() -> None:
        for state in crew.finished():
            progress.counts[state] += 1
            brake.count(failed=state == State.FAILED)
        watch(progress)

    message = ""
    try:
        for number in range(ROUNDS):
            for row in _waiting(run):
                # First somebody free, then a place: a place that waits for hands is lost.
                crew.wait_for_hands()
                if crew.has(row.user_id):
                    crew.wait_for_all()
                if _asks_clerk(row):
                    pace.wait(row.clerk_id)
                take_stock()
                if row.position % LEASE_CHECKED_EVERY == 0:
                    lease.check()
                if stop.is_set() or brake.reason or crew.problem:
                    break
                crew.give(row, last=number == ROUNDS - 1)
            crew.wait_for_all()
            take_stock()
            over = stop.is_set() or brake.reason or crew.problem
            if over or progress.done == progress.total or stop.wait(ROUND_PAUSE):
                break
    except BaseException:
        message = "It could not go on."
        raise
    finally:
        crew.dismiss()
        _close(run, stop, brake, message)
    if crew.problem:
        raise crew.problem
    return run


def _close(run: BulkRun, stop: threading.Event, brake: FailureBrake, message: str) -> None:
    left = run.rows.filter(state=State.WAITING).count()
    if not left:
        run.state, run.message = BulkRun.State.FINISHED, ""
    elif brake.reason:
        run.state, run.message = BulkRun.State.STOPPED, brake.reason
    else:
        run.state = BulkRun.State.INTERRUPTED
        run.message = message or ("It was interrupted." if stop.is_set() else "It could not go on.")
    run.finished_at = timezone.now()
    run.save(update_fields=["state", "message", "finished_at"])


def _waiting(run: BulkRun) -> Iterator[BulkRow]:
    """The waiting rows in their order, a chunk at a time: the tables may hold very many."""
    position = -1
    while True:
        chunk = list(
            run.rows.filter(state=State.WAITING, position__gt=position)
            .select_related("run__actor", "user__account")
            .order_by("position")[:CHUNK]
        )
        if not chunk:
            return
        yield from chunk
        position = chunk[-1].position


def _asks_clerk(row: BulkRow) -> bool:
    return row.operation == Kind.INVITE or _operation(row).asks_clerk


def _operation(row: BulkRow) -> Operation:
    return Operation.kinds[row.operation](
        user_id=row.user_id, label=row.label, clerk_id=row.clerk_id, changes=row.changes
    )


# --- One row -------------------------------------------------------------------------------------


class _Later(Exception):
    """Not now, but in the next round; the text says why."""


def _do(row: BulkRow, pace: Pace) -> tuple[State, str]:
    """Carry out one row: its state now, and the reason in words."""
    user = row.user
    if user is None:
        return State.SKIPPED, "The user was deleted since the plan was made."
    if moved := _moved_in_clerk(row, user):
        return State.SKIPPED, moved
    try:
        return State.DONE, " ".join(_change(row, user, lambda: clerk().paced(pace)))
    except Conflict as conflict:
        if not conflict.conflicts:  # recovery came between the attempt and the row's lock
            raise _Later(conflict.message) from None
        return State.SKIPPED, _moved_here(conflict)
    except Gone:
        return State.SKIPPED, "The user was deleted since the plan was made."
    except Busy as failure:
        raise _Later(failure.message) from None
    except ChangeFailed as failure:
        if failure.retry_after is not None or failure.code == "unfinished":
            raise _Later(failure.message) from None
        return State.FAILED, failure.full_message


def _change(row: BulkRow, user: BuilderUser, gateway: Callable[[], Clerk]) -> tuple[str, ...]:
    """What is to be said besides. Raises the `ChangeFailed` family."""
    run = row.run
    if row.operation == Kind.INVITE:
        invited = invitations.invite(
            user, actor=run.actor, email=row.changes["email"][1], source=Source.COMMAND, run=run
        )
        waits = invited.waits_until
        return (f"It is sent after {waits:%Y-%m-%d %H:%M} UTC.",) if waits else ()
    operation = _operation(row)
    saved = dual_write(
        operation, user, actor=run.actor, source=Source.COMMAND, run=run, gateway=gateway
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


def _moved_in_clerk(row: BulkRow, user: BuilderUser) -> str:
    """Clerk's side of the preconditions, by our copy; the row's side is compared under its lock."""
    if row.operation in (Kind.PUSH_NAME, Kind.PUSH_EMAIL):
        index = 0
    elif row.operation == Kind.FOLLOW:
        index = 1
    else:
        return ""
    known: ClerkAccount | None = getattr(user, "account", None)
    if known is None or known.deleted_at:
        return "Its account was deleted in Clerk since the plan was made."
    holds = {"name": names.join(known.first_name, known.last_name), "email": known.email}
    moved = [field for field, pair in row.changes.items() if pair[index] != holds[field]]
    return f"Clerk holds another {moved[0]} than when the plan was made." if moved else ""


# --- The crew ------------------------------------------------------------------------------------


class _Crew:
    """Threads that carry out rows, each with a connection of its own to the database."""

    def __init__(self, run: BulkRun, pace: Pace) -> None:
        self._run = run
        self._pace = pace
        self._rows: SimpleQueue[tuple[BulkRow, bool] | None] = SimpleQueue()
        self._finished: SimpleQueue[State] = SimpleQueue()
        self._hands = threading.Semaphore(WORKERS)
        self._users: set[uuid.UUID | None] = set()
        self.problem: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"bulk {number}", daemon=True)
            for number in range(WORKERS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_hands(self) -> None:
        self._hands.acquire()
        self._hands.release()

    def has(self, user_id: uuid.UUID | None) -> bool:
        """Whether somebody is at work on this user."""
        return user_id in self._users

    def give(self, row: BulkRow, *, last: bool) -> None:
        """Somebody does the row; in the `last` round what is put off has failed."""
        self._hands.acquire()
        self._users.add(row.user_id)
        self._rows.put((row, last))

    def finished(self) -> Iterator[State]:
        while not self._finished.empty():
            yield self._finished.get()

    def wait_for_all(self) -> None:
        for _ in range(WORKERS):
            self._hands.acquire()
        for _ in range(WORKERS):
            self._hands.release()

    def dismiss(self) -> None:
        for _ in self._threads:
            self._rows.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            while (given := self._rows.get()) is not None:
                try:
                    self._take(*given)
                except BaseException as problem:  # the main thread raises it
                    self.problem = problem
                finally:
                    self._users.discard(given[0].user_id)
                    self._hands.release()
        finally:
            connection.close()

    def _take(self, row: BulkRow, last: bool) -> None:
        try:
            state, reason = _do(row, self._pace)
        except _Later as later:
            if not last:
                return
            state, reason = State.FAILED, str(later)
        except DatabaseError:
            raise
        except Exception as problem:
            logger.exception("Row %s of run %s failed", row.position, self._run.pk)
            state, reason = State.FAILED, f"It failed with {type(problem).__name__}: see the log."
        attempts = self._run.attempts.filter(user_id=row.user_id, operation=row.operation)
        BulkRow.objects.filter(pk=row.pk).update(
            state=state,
            reason=reason,
            attempt=Subquery(attempts.order_by("-pk").values("pk")[:1]),
        )
        self._finished.put(state)
