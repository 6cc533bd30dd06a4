"""Carrying out a plan: a `BulkRun`, whose rows are its plan and its result in one.

Every row goes through the same dual write as the form. What was reached is in the tables at any
moment, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Subquery
from django.utils import timezone

from users.clerk import Pace
from users.errors import BulkRefused
from users.models import BulkRow, BulkRun, Status, SyncAttempt
from users.sync import recovery
from users.sync.actors import Actor, service_user
from users.sync.bulk import plan_file, rows
from users.sync.bulk.brakes import FailureBrake
from users.sync.bulk.crew import Crew
from users.sync.bulk.lock import Lease
from users.sync.bulk.plan import Plan, Planned

State = BulkRow.State

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
        waiting = (
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
        BulkRow.objects.bulk_create(waiting, batch_size=1000)
    return run


def _in_turns(planned: Sequence[Planned]) -> list[Planned]:
    """A user's second change after everybody's first: two of one user must not meet, and
    waiting for the first one would hold up the others."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, Planned]] = []
    for row in planned:
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
    crew = Crew(run, pace)
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
                if rows.asks_clerk(row):
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
