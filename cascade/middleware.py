"""Number each request for the log, and limit its wait for the database and its body."""

from __future__ import annotations

import logging
import re
import uuid
import zoneinfo
from collections.abc import Callable
from functools import cache

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from cascade.database import waiting_at_most
from cascade.logs import route_of

logger = logging.getLogger(__name__)

DOWN = (OperationalError, InterfaceError)
PAGE = _("""<!doctype html><html lang="en"><title>Database not available · Cascade</title>
<h1>The database is not available</h1>
<p>If you were saving, the state of that change is not known on this page. Wait a minute, reload,
and look at the user: an unfinished change is shown there and finished by itself.</p></html>""")

TOO_LARGE = _("The request is larger than 1 MiB. Nothing was saved.")
BAD_LENGTH = _("The Content-Length of the request is not a number. Nothing was saved.")
NOT_STORED = {"Cache-Control": "no-store"}


REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}\Z")


class RequestLogMiddleware:
    """Give each request an id, which stands in every line that is logged for it.

    A proxy may have chosen the id. The route, the id and the actor are left for gunicorn's access
    log (`gunicorn.conf.py`). This is the outermost middleware, so that others log with the id.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request with the header `X-Request-ID`."""
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.match(given) else uuid.uuid4().hex
        clear_contextvars()  # a thread answers many requests
        bind_contextvars(request_id=request_id)
        try:
            response = self.get_response(request)
            request.environ.update(  # type: ignore[attr-defined]  # of a WSGIRequest
                {
                    "cascade.request_id": request_id,
                    "cascade.route": route_of(request).replace("\\", "/"),
                    "cascade.actor": str(get_contextvars().get("actor", "-")),
                }
            )
        finally:
            clear_contextvars()
        response["X-Request-ID"] = request_id
        return response


class DatabaseDownMiddleware:
    """Answer 503 if the database is down or hangs.

    The middleware stands outside all that use the database: sessions and logins do, too. The error
    of psycopg's pool (`PoolTimeout`) reaches Django as `OperationalError`.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request with a limit of `DATABASE_WAIT_SECONDS`."""
        with waiting_at_most(settings.DATABASE_WAIT_SECONDS):
            return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer 503 to a database error of a view; leave other errors to Django."""
        return database_down(error) if isinstance(error, DOWN) else None


def database_down(error: Exception) -> HttpResponse:
    """Log the error, close the connection and return the 503 page."""
    logger.error("The database is not available: %s", error)
    connection.close()
    return HttpResponse(PAGE, status=503, headers={"Retry-After": "30"})


class BodyLimitMiddleware:
    """Answer 413 to a body over `DATA_UPLOAD_MAX_MEMORY_SIZE` bytes before it is read.

    Django's own limit does not count files, which it writes to disk, and the CSRF check reads the
    whole body of every request. A chunked body needs no limit here: Django reads none, and the one
    view that reads it has its own limit. A page for uploads must raise its limit here.

    A length that is not made of digits alone gets 400. Python reads `+5`, ` 5` and `1_0` as
    numbers, so later code could read a length that was not limited here.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Check the length in the header, then answer the request."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not (length.isascii() and length.isdigit()):
            return _refused(request, str(BAD_LENGTH), status=400)
        # `int` raises ValueError for thousands of digits.
        digits = length.lstrip("0")
        if len(digits) > 18 or int(digits or "0") > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return _refused(request, str(TOO_LARGE), status=413)
        return self.get_response(request)


def _refused(request: HttpRequest, message: str, *, status: int) -> HttpResponse:
    if request.path.startswith("/api/"):
        return JsonResponse({"error": message}, status=status, headers=NOT_STORED)
    return HttpResponse(f"{message}\n", status=status, content_type="text/plain")


class ViewerZoneMiddleware:
    """Answer in the zone that the viewer's browser has told by a cookie; else in UTC.

    The script of the pages (`times.js`) shows single times in that zone without help. The server
    needs it to know when a day begins: for the filters by date, and for what is counted by day.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request; ignore a zone that does not exist."""
        name = request.COOKIES.get("zone", "")
        with timezone.override(zoneinfo.ZoneInfo(name) if name in _zones() else None):
            return self.get_response(request)


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
