"""Report whether the process is alive and whether it can work.

The answers are plain text without secrets, and need no login. Load balancers ask by address, so
neither the host nor the scheme of the request is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from cascade.metrics import metrics
from users.health import lines
from users.sync import alerts


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 while the process is alive. The database is not asked."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if the database answers and is migrated, else 503.

    The answer also reports pending attempts. They do not change the status. A worker that died is
    noticed here.
    """
    alerts.check_in_background()
    try:
        if _migrations() - MigrationRecorder(connection).applied_migrations().keys():
            return _answer(["migrations: not applied, run manage.py migrate"], 503)
        return _answer(["database: ok", "migrations: ok", *lines()], 200)
    except DatabaseError:
        return _answer(["database: does not answer"], 503)


PAGES = {"/healthz/": healthz, "/readyz/": readyz, "/metrics/": metrics}


class HealthMiddleware:
    """Answer the pages for machines before any other middleware looks at the request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer a page for machines, or pass the request on."""
        return PAGES.get(request.path_info, self.get_response)(request)


@cache
def _migrations() -> set[tuple[str, str]]:
    """Return the migrations of the code. They are read from the disk once in each process."""
    return set(MigrationLoader(None).graph.nodes)


def _answer(text: list[str], status: int) -> HttpResponse:
    return HttpResponse("\n".join([*text, ""]), status=status, content_type="text/plain")
