"""Carry out the runs that were started on the pages, in the worker."""

from __future__ import annotations

import logging
import threading

from users.errors import BulkRefused
from users.models import BulkRun, RunStatus
from users.sync.bulk import control
from users.sync.bulk import run as runs
from users.sync.bulk.circuit import CircuitBreaker
from users.sync.bulk.lock import Lease, one_at_a_time

logger = logging.getLogger(__name__)


def carry_out_queued() -> None:
    """Carry out the runs that wait, one after another.

    While other bulk work holds the lock, they go on waiting. A run whose worker was killed
    continues.
    """
    runs.follow_killed()
    if not _next():
        return
    try:
        with one_at_a_time() as lease:
            while run := _next():
                _carry_out(run, lease)
    except BulkRefused as taken:
        logger.info("The bulk run waits: %s", taken)


def _next() -> BulkRun | None:
    return BulkRun.objects.filter(state=RunStatus.QUEUED).order_by("started_at", "pk").first()


def _carry_out(run: BulkRun, lease: Lease) -> None:
    if not run.take():
        return  # it was paused or cancelled meanwhile
    runs.prepare(run, runs.ALL)
    runs.carry_out(
        run,
        rate=control.call_rate(),
        lease=lease,
        stop=threading.Event(),
        breaker=CircuitBreaker(),
        watch=lambda progress: None,
    )
