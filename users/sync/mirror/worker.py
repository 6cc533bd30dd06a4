"""Describe the background workers and their queue, from the tables of procrastinate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from procrastinate.contrib.django.models import (
    ProcrastinateJob,
    ProcrastinatePeriodicDefer,
    ProcrastinateWorker,
)

SILENT = timedelta(minutes=2)


@dataclass(frozen=True)
class WorkerStatus:
    """What is known about the workers.

    `alive` counts those with a heartbeat within the last two minutes, and `waiting` the jobs that
    are due. A worker that stopped normally leaves no heartbeat, and successful jobs are deleted;
    `last_round_at` is the time of the last periodic job, which stays in the tables.
    """

    alive: int
    waiting: int
    last_heartbeat_at: datetime | None
    last_round_at: datetime | None

    @property
    def text(self) -> str:
        """Return whether the work in the background is done, as a sentence for a page."""
        if self.alive:
            return _("The worker is running.")
        return _(
            "The worker does not run: unconfirmed changes are not checked, and no invitation or "
            "mail is sent. Ask an engineer to start it."
        )


def status() -> WorkerStatus:
    """Return what is known about the workers."""
    now = timezone.now()
    due = Q(scheduled_at=None) | Q(scheduled_at__lte=now)
    round_at = ProcrastinatePeriodicDefer.objects.aggregate(at=Max("defer_timestamp"))["at"]
    return WorkerStatus(
        alive=ProcrastinateWorker.objects.filter(last_heartbeat__gt=now - SILENT).count(),
        waiting=ProcrastinateJob.objects.filter(due, status="todo").count(),
        last_heartbeat_at=ProcrastinateWorker.objects.aggregate(at=Max("last_heartbeat"))["at"],
        last_round_at=datetime.fromtimestamp(round_at, UTC) if round_at else None,
    )
