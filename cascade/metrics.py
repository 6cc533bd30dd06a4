"""The page of Prometheus, for those who have METRICS_TOKEN.

State (open changes, the worker, what differs) is read from the database, the same from every
process and host. Ended changes are counted there as well: the journal has them all. Only the
requests to Clerk are counted by the processes, see `users.clerk.metrics`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from users.models import Status, SyncAttempt
from users.sync.mirror import report, worker
from users.sync.mirror.health import Events, status

DRIFT_SECONDS = 300.0
"""For so long the counts of differences are kept: comparing a million users takes seconds."""


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with all metrics; 404 without METRICS_TOKEN, and 401 to anybody without the token."""
    if not settings.METRICS_TOKEN:
        return HttpResponse("not found\n", status=404, content_type="text/plain")
    expected = f"Bearer {settings.METRICS_TOKEN}"
    if not constant_time_compare(request.headers.get("Authorization", ""), expected):
        headers = {"WWW-Authenticate": "Bearer"}
        return HttpResponse(
            "the token is wrong\n", status=401, content_type="text/plain", headers=headers
        )
    state = CollectorRegistry()
    state.register(StateCollector())
    try:
        text = generate_latest(state) + generate_latest(_calls())
    except DatabaseError:
        return HttpResponse("the database does not answer\n", status=503, content_type="text/plain")
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def _calls() -> CollectorRegistry:
    """Return what the processes have counted: all of this host, or this one alone."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


class StateCollector(Collector):
    """Reads the state from the database each time."""

    def collect(self) -> Iterator[Any]:
        """Yield the metrics of the state."""
        yield _ended()
        pending = SyncAttempt.objects.pending().aggregate(count=Count("pk"), at=Min("started_at"))
        yield _gauge("attempts_open", "Changes that Clerk has not confirmed.", pending["count"])
        yield _gauge(
            "attempt_oldest_seconds", "Age of the oldest of them.", _age(pending["at"]) or 0
        )
        yield from _mirror()
        yield from _workers()
        yield _drift()


def _ended() -> CounterMetricFamily:
    family = CounterMetricFamily(
        "cascade_changes", "Changes that have ended.", labels=["operation", "source", "outcome"]
    )
    ended = SyncAttempt.objects.exclude(status=Status.STARTED).order_by()
    for row in ended.values_list("operation", "source", "status").annotate(Count("pk")):
        *labels, count = row
        family.add_metric([str(label) for label in labels], count)
    return family


def _mirror() -> Iterator[GaugeMetricFamily]:
    mirror = status()
    yield _gauge("events_missing", "1 if Clerk's events do not arrive.",
                 mirror.events is Events.MISSING)  # fmt: skip
    yield _gauge("event_age_seconds", "Age of the last event.", _age(mirror.last_event_at))
    scanned = mirror.last_scan.finished_at if mirror.last_scan else None
    yield _gauge("scan_age_seconds", "Age of the last finished scan.", _age(scanned))
    yield _gauge("scan_failed", "1 if a later scan failed.", mirror.failed_scan is not None)
    yield _gauge("users_stale", "Linked users that were not checked lately.", mirror.stale_users)


def _workers() -> Iterator[GaugeMetricFamily]:
    workers = worker.status()
    yield _gauge("workers", "Workers with a heartbeat in the last two minutes.", workers.alive)
    yield _gauge(
        "worker_heartbeat_age_seconds", "Age of the last heartbeat.",
        _age(workers.last_heartbeat_at),
    )  # fmt: skip
    yield _gauge("jobs_waiting", "Jobs that are due.", workers.waiting)


class _Drift:
    counts: dict[str, int] = {}
    counted_at = -DRIFT_SECONDS


def _drift() -> GaugeMetricFamily:
    if time.monotonic() - _Drift.counted_at >= DRIFT_SECONDS:
        _Drift.counts, _Drift.counted_at = report.counts(), time.monotonic()
    family = GaugeMetricFamily(
        "cascade_drift", "What differs between both sides, by kind.", labels=["kind"]
    )
    for kind, count in _Drift.counts.items():
        family.add_metric([kind], count)
    return family


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Return one gauge; without a value if none is known."""
    family = GaugeMetricFamily(f"cascade_{name}", text)
    if value is not None:
        family.add_metric([], float(value))
    return family


def _age(moment: datetime | None) -> float | None:
    return (timezone.now() - moment).total_seconds() if moment else None
