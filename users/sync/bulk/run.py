"""Carry out a plan as a `BulkRun`, whose rows hold both the plan and its results.

Every row goes through the same dual write as the form. Each result is stored at once, so that a run
that was killed continues where it stopped.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from django.db import transaction
from django.db.models import Count, Max, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.changes import changes_of
from users.clerk import Pace
from users.errors import BulkRefused
from users.models import (
    BulkRow,
    BulkRun,
    OperationKind,
    RowStatus,
    RunStatus,
    Source,
    Status,
)
from users.slots import shared_pace
from users.sync.actors import Actor, service_user
from users.sync.bulk import plan_file, results, rows
from users.sync.bulk.attempts import follow_attempts
from users.sync.bulk.circuit import CircuitBreaker
from users.sync.bulk.limits import apply_flags
from users.sync.bulk.lock import Lease, end_killed_runs
from users.sync.bulk.plan import Plan, Planned
from users.sync.bulk.read_ahead import ReadAhead
from users.sync.bulk.workers import Workers
from users.sync.outbound import recovery

CHUNK = 200
ROUND_PAUSES = (0.0, 2.0, 4.0, 8.0)
"""Seconds before each round.

Later rounds try the rows again that still wait: somebody is saving the user, Clerk took no more
requests, or Clerk has not confirmed the change yet.
"""
NOT_RESUMED = (RunStatus.PLANNED, RunStatus.CANCELLED)
CONTINUES_THERE = gettext_lazy("Its author continues it on its page.")


@dataclass
class Progress:
    """Progress of a run; `counts` is by `RowStatus`."""

    total: int
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Return how many rows have ended."""
        return sum(self.counts.values())


Watch = Callable[[Progress], None]


def start(
    plan: Plan, *, actor: Actor, source: Source = Source.COMMAND, summary: str = ""
) -> BulkRun:
    """Store the plan as a run; nothing is changed yet. A run of the pages waits to be started."""
    planned = source == Source.ADMIN
    with transaction.atomic():
        run = BulkRun.objects.create(
            command=plan.command,
            options=dict(plan.options),
            actor_id=(actor or service_user()).pk,
            plan_hash=plan_file.hash_of(plan),
            undo_of_id=plan.undo_of,
            state=RunStatus.PLANNED if planned else RunStatus.RUNNING,
            source=source,
            # The notes of a command were printed.
            notes=list(plan.notes) if planned else [],
            summary=summary,
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
            for position, planned in enumerate(plan.in_turns().rows)
        )
        BulkRow.objects.bulk_create(waiting, batch_size=1000)
    return run


@dataclass(frozen=True)
class Portion:
    """Selection of the waiting rows of a run.

    `users` are the ids of their users (None for all), and `limit` selects the first ones of these.
    With `failed`, rows that failed are selected as well. `last` is the position of the last row, if
    it is decided.
    """

    users: Collection[uuid.UUID] | None = None
    limit: int | None = None
    failed: bool = False
    last: int | None = None

    def decided(self, run: BulkRun) -> Portion:
        """Return the same rows, whichever of them end from now on."""
        if self.limit is None:
            return self
        last = self.left_of(run).aggregate(last=Max("position", default=-1))["last"]
        return replace(self, limit=None, last=last)

    @property
    def _states(self) -> list[str]:
        return [RowStatus.WAITING, RowStatus.FAILED] if self.failed else [RowStatus.WAITING]

    def rows_of(self, run: BulkRun) -> QuerySet[BulkRow]:
        """Select the rows of the portion; they stay selected when their state changes."""
        meant = run.rows.all()
        if self.users is not None:
            meant = meant.filter(user_id__in=self.users)
        if self.limit is not None:
            left = meant.filter(state__in=self._states).order_by("position")
            positions = list(left.values_list("position", flat=True)[: self.limit])
            meant = meant.filter(position__lte=max(positions, default=-1))
        if self.last is not None:
            meant = meant.filter(position__lte=self.last)
        return meant

    def left_of(self, run: BulkRun) -> QuerySet[BulkRow]:
        """Select those of the rows that are still to be done."""
        return self.rows_of(run).filter(state__in=self._states)


ALL = Portion()


def find(pk: int, *, command: str) -> BulkRun:
    """Return a run of this command, with rows and result file up to date with its attempts.

    Raises `BulkRefused`.
    """
    run = BulkRun.objects.filter(pk=pk).first()
    if run is None:
        raise BulkRefused(f"There is no run {pk}.")
    if run.command != command:
        if not run.rows.exists():
            raise BulkRefused(f"Run {pk} ({run.command}) changed nothing. See: manage.py runs")
        raise BulkRefused(f"Run {pk} is of {run.command}: use that command.")
    results.follow(run)
    run.refresh_from_db()
    return run


def follow_killed() -> None:
    """End runs whose process was killed, and write the result files that they could not write."""
    for run in end_killed_runs():
        results.follow(run)


def bring_up_to_date(run: BulkRun | None = None) -> None:
    """Store what happened to runs since they ended. Call this before runs are shown.

    Killed runs end, and rows and result files are updated with their attempts.
    """
    follow_killed()
    for moved in BulkRun.objects.filter(pk__in=follow_attempts(run)):
        results.follow(moved)


def plan_rest(run: BulkRun, portion: Portion) -> Plan:
    """Plan what is left to do of a run.

    Raises `BulkRefused` when nothing is left, and for a run that was cancelled, was never started,
    or belongs to the pages.
    """
    if run.state in NOT_RESUMED:
        raise not_resumed(run)
    if run.source == Source.ADMIN:  # each row needs the permissions of its author, who asked for it
        raise BulkRefused(f"Run {run.pk} was planned on a page. {CONTINUES_THERE}")
    left = portion.left_of(run).order_by("position")
    planned = tuple(
        Planned(
            user_id=str(row.user_id or ""),
            label=row.label,
            clerk_id=row.clerk_id,
            operation=row.operation,
            changes=changes_of(row.changes),
            line=row.line,
        )
        for row in left.iterator()
    )
    if not planned:
        chosen = (
            " for the users chosen" if replace(portion, users=None).left_of(run).exists() else ""
        )
        raise BulkRefused(
            f"Run {run.pk} has no row left to do{chosen}.{_failed_hint(portion, run)}"
        )
    return Plan(run.command, planned, undo_of=run.undo_of_id, options=run.options)


def not_resumed(run: BulkRun) -> BulkRefused:
    """Return the refusal to resume a run in its state."""
    return BulkRefused(f"Run {run.pk} is {run.get_state_display().lower()}. Plan it again.")


def resume_command(run: BulkRun, *, failed: bool = False) -> str:
    """Return the command that resumes a run; with `failed`, it tries failed rows again as well."""
    left = Portion(failed=failed).left_of(run)
    flags = apply_flags(left.filter(operation=OperationKind.DELETE).count())
    retry = " --retry-failed" if failed else ""
    return f"manage.py {run.command} --resume {run.pk} {flags}{retry}"


def prepare(run: BulkRun, portion: Portion) -> None:
    """Prepare the rows of a run at work that was killed, stopped or interrupted before.

    Pending attempts are resolved first, so that no row is done twice. After that, no row may be
    left.
    """
    for attempt in run.attempts.filter(status=Status.STARTED):
        recovery.recover(attempt)
    follow_attempts(run)
    portion.left_of(run).filter(state=RowStatus.FAILED).update(state=RowStatus.WAITING, reason="")


def _failed_hint(portion: Portion, run: BulkRun) -> str:
    failed = replace(portion, failed=True, limit=None).left_of(run).count()
    if not failed:
        return ""
    return f" Failed rows: {failed}. --retry-failed tries them again."


def carry_out(
    run: BulkRun,
    *,
    rate: float,
    lease: Lease,
    stop: threading.Event,
    breaker: CircuitBreaker,
    watch: Watch,
    portion: Portion = ALL,
) -> BulkRun:
    """Carry out the waiting rows of the portion, at `rate` calls a second.

    The run ends when all rows are done, `stop` is set, or the circuit breaker stops it. Rows in
    flight always finish. A row that still waits after the last round stays WAITING, with its
    reason, for `resume`.

    Raises `BulkRefused` when the lock was lost, and `DatabaseError`; the run can be resumed.
    """
    rate_limiter = shared_pace(rate, sleep=stop.wait)
    message = _("It could not go on.")
    try:
        with Workers(rate_limiter) as workers:
            _Execution(
                run,
                portion,
                workers=workers,
                rate_limiter=rate_limiter,
                ahead=ReadAhead(rate, rate_limiter),
                lease=lease,
                stop=stop,
                breaker=breaker,
                watch=watch,
            ).all_rounds()
        message = _("It was interrupted.") if stop.is_set() else ""
    finally:
        if lease.lost:
            _leave(run)
        else:
            _close(run, message, stopped=breaker.reason)
    return run


@dataclass
class _Execution:
    """The work of one process on a run. Only the thread that made it may call it."""

    run: BulkRun
    portion: Portion
    workers: Workers
    rate_limiter: Pace
    ahead: ReadAhead
    lease: Lease
    stop: threading.Event
    breaker: CircuitBreaker
    watch: Watch

    def __post_init__(self) -> None:
        self._rows = self.portion.rows_of(self.run)
        self._progress = Progress(self.run.rows.count(), _counts(self.run))

    def _must_stop(self) -> bool:
        """Return whether no row may start any more. A page may ask for that at any time."""
        return self.stop.is_set() or bool(self.breaker.reason) or _request_of(self.run) != ""

    def _rest(self, seconds: float) -> None:
        """Wait, but at most a second after the run must end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._must_stop():
            self.stop.wait(min(left, 1.0))

    def all_rounds(self) -> None:
        """Try the waiting rows in rounds until none waits, or the run must stop."""
        for pause in ROUND_PAUSES:
            self._rest(pause)
            if self._must_stop():
                return
            self._round()
            if self._must_stop() or not self._rows.filter(state=RowStatus.WAITING).exists():
                return

    def _round(self) -> None:
        """Try each waiting row once."""
        for upcoming in _waiting(self._rows):
            row = upcoming[0]
            self._wait_for_turn(upcoming)
            self.lease.check()
            if self._must_stop():
                break
            self.workers.take(self.breaker.start(), row)
        self._collect(all_of_them=True)
        follow_attempts(self.run)
        self._progress.counts = _counts(self.run)

    def _wait_for_turn(self, upcoming: Sequence[BulkRow]) -> None:
        """Wait until Clerk takes changes, a worker is free, and the rate limiter has a slot.

        The order matters: a slot that waits for a worker is lost.
        """
        row = upcoming[0]
        self._wait_for_clerk()
        while self.breaker.must_wait or not self.workers.can_take(row):
            self.workers.wait()
            self._collect()
        self.ahead.before(upcoming)
        if rows.asks_clerk(row):
            self.rate_limiter.wait(row.clerk_id)
        self._collect()

    def _wait_for_clerk(self) -> None:
        """If Clerk takes no changes, let the rows in flight end, and pause before the next row.

        That row probes whether Clerk takes changes again.
        """
        if not self.breaker.is_open:
            return
        self._collect(all_of_them=True)
        if self.breaker.is_open and not self._must_stop():
            self._rest(self.breaker.next_pause())

    def _collect(self, *, all_of_them: bool = False) -> None:
        for number, result in self.workers.finished(all_of_them=all_of_them):
            self.breaker.end(number, signal=result.signal, reason=result.reason)
            if result.state != RowStatus.WAITING:
                self._progress.counts[result.state] += 1
        self.watch(self._progress)


def _counts(run: BulkRun) -> Counter[str]:
    ended = run.rows.exclude(state=RowStatus.WAITING).order_by()
    return Counter(dict(ended.values_list("state").annotate(Count("pk"))))


def _close(run: BulkRun, message: str, *, stopped: str) -> None:
    """Store how the run ended; `stopped` is the reason of the circuit breaker."""
    # Update the rows before the run counts as ended: after a kill nobody checks an ended run again.
    results.follow(run)
    left = run.rows.filter(state=RowStatus.WAITING).count()
    with transaction.atomic():
        run.refresh_from_db(from_queryset=BulkRun.objects.select_for_update())
        if not left:
            run.end(RunStatus.FINISHED)
        elif stopped:
            run.end(RunStatus.STOPPED, stopped)
        else:
            run.interrupt("" if run.requested else message or _waiting_message(run))


def _leave(run: BulkRun) -> None:
    """Leave the run to the process that has taken the lock since; if there is none, end the run."""
    follow_killed()
    run.refresh_from_db()


def _request_of(run: BulkRun) -> str:
    return BulkRun.objects.values_list("requested", flat=True).get(pk=run.pk)


def _waiting_message(run: BulkRun) -> str:
    """Return a message that counts rows that were tried, and rows that the portion left out."""
    waiting = run.rows.filter(state=RowStatus.WAITING)
    said = []
    if tried := waiting.exclude(reason="").count():
        waits = "1 row waits" if tried == 1 else f"{tried} rows wait"
        said.append(f"{waits} to be tried again; the reason stands at each row.")
    if untried := waiting.filter(reason="").count():
        said.append(f"{untried} row{' was' if untried == 1 else 's were'} not tried yet.")
    return " ".join([*said, "Resume the run later."])


def _waiting(meant: QuerySet[BulkRow]) -> Iterator[Sequence[BulkRow]]:
    """Yield each waiting row in order, followed by some of the next rows.

    They are read a chunk at a time, as there may be very many.
    """
    position = -1
    while True:
        chunk = list(
            meant.filter(state=RowStatus.WAITING, position__gt=position)
            # Not the actor: each row asks for their permissions when its turn comes.
            .select_related("run", "user__account")
            .order_by("position")[:CHUNK]
        )
        if not chunk:
            return
        yield from (chunk[start:] for start in range(len(chunk)))
        position = chunk[-1].position
