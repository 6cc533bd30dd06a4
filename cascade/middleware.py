"""What stands around every request: the wait for a database that is down or hangs, and the size
of a body."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from cascade.database import waiting_at_most

logger = logging.getLogger(__name__)

DOWN = (OperationalError, InterfaceError)
PAGE = """<!doctype html><html lang="en"><title>Database not available · Cascade</title>
<h1>The database is not available</h1>
<p>If you were saving, the state of that change is not known on this page. Wait a minute, reload,
and look at the user: an unfinished change is shown there and finished by itself.</p></html>"""

TOO_LARGE = "The request is larger than 1 MiB. Nothing was saved."
BAD_LENGTH = "The Content-Length of the request is not a number. Nothing was saved."
NOT_STORED = {"Cache-Control": "no-store"}


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


class BodyLimitMiddleware:
    """Answer 413 to a body over `DATA_UPLOAD_MAX_MEMORY_SIZE` before anything reads it.

    Django's own limit does not count files, which it writes to disk, and the CSRF check reads the
    whole body of whoever sends it. A chunked body needs no limit: Django reads none, and the one
    view that does has its own. A page that takes files must raise the limit for itself here.

    A length that is not written in digits alone is answered 400. Python reads `+5`, ` 5` and `1_0`
    as numbers, so whoever reads the body later could see a length that was not limited here.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not (length.isascii() and length.isdigit()):
            return _refused(request, BAD_LENGTH, status=400)
        # Python refuses to convert thousands of digits.
        digits = length.lstrip("0")
        if len(digits) > 18 or int(digits or "0") > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return _refused(request, TOO_LARGE, status=413)
        return self.get_response(request)


def _refused(request: HttpRequest, message: str, *, status: int) -> HttpResponse:
    if request.path.startswith("/api/"):
        return JsonResponse({"error": message}, status=status, headers=NOT_STORED)
    return HttpResponse(f"{message}\n", status=status, content_type="text/plain")
