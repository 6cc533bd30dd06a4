"""A database that is down or hangs is a page that says so, never a traceback or a long wait."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse

from cascade.database import waiting_at_most

logger = logging.getLogger(__name__)

DOWN = (OperationalError, InterfaceError)
PAGE = """<!doctype html><html lang="en"><title>Database not available · Cascade</title>
<h1>The database is not available</h1>
<p>If you were saving, the state of that change is not known on this page. Wait a minute, reload,
and look at the user: an unfinished change is shown there and finished by itself.</p></html>"""


class DatabaseDownMiddleware:
    """Outermost, because sessions and logins ask the database too. PostgreSQL's own pool error
    (`PoolTimeout`) reaches Django as `OperationalError`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with waiting_at_most(settings.DATABASE_WAIT_SECONDS):
            return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        return database_down(error) if isinstance(error, DOWN) else None


def database_down(error: Exception) -> HttpResponse:
    """Answer a request that met a database which is down or hangs."""
    logger.error("The database is not available: %s", error)
    connection.close()
    return HttpResponse(PAGE, status=503, headers={"Retry-After": "30"})
