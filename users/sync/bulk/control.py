"""Store, start, pause, continue and cancel the runs of plans that are made on the pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from users.clerk import BULK_SHARE
from users.errors import BulkRefused
from users.models import (
    BulkRow,
    BulkRun,
    OperationKind,
    RowStatus,
    RunRequest,
    RunStatus,
    Source,
)
from users.sync.actors import Actor
from users.sync.bulk import run as runs
from users.sync.bulk.limits import most_changes
from users.sync.bulk.plan import Plan
from users.sync.bulk.plan_file import MAX_AGE

JOB = "users.tasks.carry_out_bulk_run"
KEPT_PLANNED = timedelta(days=1) + MAX_AGE
"""How long a plan is stored that nobody starts."""


def call_rate() -> float:
    """Return the number of calls to Clerk a second that bulk work may make."""
    return settings.CLERK_RATE_LIMIT * BULK_SHARE


def store(plan: Plan, *, actor: Actor) -> BulkRun:
    """Store a plan of the pages. Its rows stay the same, whoever matches the filter later.

    Raises `BulkRefused` for an empty plan.
    """
    if not plan.rows:
        raise BulkRefused(" ".join([_("There is nothing to do."), *plan.notes]))
    return runs.start(
        plan,
        actor=actor,
        source=Source.ADMIN,
        summary=plan.summary(call_rate()),
    )


def count_to_type(run: BulkRun) -> int | None:
    """Return the number that must be typed before the run starts, None if none is needed.

    It is needed for deletions, and for more changes of one type than a plan may have.
    """
    counts = dict(run.rows.order_by().values_list("operation").annotate(Count("pk")))
    over = max(counts.values(), default=0) > most_changes()
    return sum(counts.values()) if over or OperationKind.DELETE in counts else None


def begin(run: BulkRun, *, typed: int | None) -> None:
    """Give a stored plan to the worker. A second call changes nothing.

    Raises `BulkRefused` for a plan that is too old, and for a wrong number.
    """
    needed = count_to_type(run)
    if needed is not None and typed != needed:
        raise BulkRefused(
            _("Type the number of changes, {needed}. Nothing was changed.").format(needed=needed)
        )
    if run.state == RunStatus.PLANNED and timezone.now() - run.started_at > MAX_AGE:
        raise BulkRefused(_("This plan is older than 24 hours. Make the plan again."))
    _change(run, BulkRun.begin)


def pause(run: BulkRun) -> None:
    """Ask a run to pause. Rows in flight finish first."""
    _change(run, lambda run: run.ask(RunRequest.PAUSE) or run.pause())


def cancel(run: BulkRun) -> None:
    """Ask a run to end. What is done stays done, and the other rows are never carried out."""
    _change(run, lambda run: run.ask(RunRequest.CANCEL) or run.discard() or run.cancel())


def not_continued_by(run: BulkRun, person: Actor) -> str:
    """Return why a person cannot continue a run on its page; empty if they can.

    The rows of a page's run need the permissions of its author; those of a command need none.
    """
    if run.source != Source.ADMIN:
        return _("This run was started on the command line. An engineer continues it there.")
    if person is None or run.actor_id != person.pk:
        return _("Only the person who made this plan can continue it.")
    return ""


def go_on(run: BulkRun, *, actor: Actor) -> None:
    """Give a run that ended before its last row back to the worker.

    Raises `BulkRefused` if the actor cannot continue it.
    """
    if reason := not_continued_by(run, actor):
        raise BulkRefused(reason)
    waits = run.rows.filter(state=RowStatus.WAITING).exists()
    _change(run, lambda run: run.withdraw() or (waits and run.go_on()))


def _change(run: BulkRun, change: Callable[[BulkRun], bool]) -> None:
    with transaction.atomic():
        run.refresh_from_db(from_queryset=BulkRun.objects.select_for_update())
        change(run)
        if run.state == RunStatus.QUEUED:
            wake_worker()


def wake_worker() -> None:
    """Tell the worker that a run waits. Without this it finds the run within a minute."""
    job = app.configure_task(JOB, queueing_lock="bulk")
    with suppress(AlreadyEnqueued), transaction.atomic():
        job.defer(timestamp=0)


def forget_unstarted() -> None:
    """Delete plans that nobody has started for some days: they name people."""
    old = BulkRun.objects.filter(
        state=RunStatus.PLANNED, started_at__lt=timezone.now() - KEPT_PLANNED
    )
    BulkRow.objects.filter(run__in=old).delete()
    old.delete()
