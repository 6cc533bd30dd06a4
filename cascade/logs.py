"""Write the log: one line of JSON for each record, without values of rows or people.

PostgreSQL quotes values of a row in its errors (`DETAIL: Key (lower(email))=(…)`), and a traceback
prints them. A path can contain an email or a token. All logs go through this module: as JSON, or
under DEBUG as lines that people read.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
from django.http import HttpRequest
from structlog.contextvars import get_contextvars
from structlog.processors import JSONRenderer

HARMLESS = ("08", "23", "25", "28", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE whose primary messages name database objects and contain no values."""
NAMES = ("table_name", "column_name", "constraint_name")

EXTRAS = ("attempt", "operation", "outcome", "status_code", "trace_id")
"""Names under which a record may carry more than its text (`extra=`)."""
LONGEST_REASON = 200


class WithoutValues(logging.Formatter):
    """Format a readable line, in which no text of a PostgreSQL error contains values."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record, and replace the database errors in it and in its traceback."""
        return without_values(super().format(record), record)


class JsonLines(logging.Formatter):
    """Format one line of JSON, with what is bound for the request: its id, actor and attempt."""

    _render = JSONRenderer(default=str, ensure_ascii=False)

    def format(self, record: logging.LogRecord) -> str:
        """Format the record, its extras and its traceback, without values of rows."""
        event: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": without_values(record.getMessage(), record),
            **get_contextvars(),
            **{name: value for name in EXTRAS if (value := getattr(record, name, None))},
        }
        if record.exc_info:
            told = self.formatException(record.exc_info)
            event["exception"] = without_values(told, record)
        return str(self._render(None, "", event))


class ShortRefusals(logging.Filter):
    """Shorten what Django logs of a request: its route instead of its path.

    The traceback of a refusal (403, 404, a wrong host) says nothing that its status does not.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite a record of a request, and keep every record."""
        request, status = getattr(record, "request", None), getattr(record, "status_code", None)
        if not isinstance(request, HttpRequest) or status is None:
            return True
        refusal = status < 500
        told = record.getMessage() if record.name.startswith("django.security") else ""
        record.msg = " ".join(
            filter(None, [f"{status}: {request.method} {route_of(request)}", _reason(record, told)])
        )
        record.args = ()
        if refusal:
            record.exc_info = record.exc_text = None
        return True


def _reason(record: logging.LogRecord, told: str) -> str:
    """Return why a request was refused or failed.

    The words of a security refusal come from Django. Those of another exception may hold personal
    data, so only its type is named.
    """
    if told:
        return f"({told[:LONGEST_REASON]})"
    error = record.exc_info[1] if record.exc_info else None
    return f"({type(error).__name__})" if error else ""


def route_of(request: HttpRequest) -> str:
    """Return the pattern of the address, which contains no values; "-" if there is none."""
    match = request.resolver_match
    return match.route if match else "-"


def without_values(text: str, record: logging.LogRecord) -> str:
    """Replace each PostgreSQL error of the record in `text` by a text that contains no values."""
    for error in _database_errors(record):
        if lines := str(error).splitlines():
            # Each line of an error in a group is indented.
            said = r"\n[ |]*".join(map(re.escape, lines))
            text = re.sub(said, _without_values(error).replace("\\", r"\\"), text)
    return text


def _without_values(error: psycopg.Error) -> str:
    diag = error.diag
    if diag.sqlstate is None:  # an error of the driver, for example no connection
        return str(error).splitlines()[0]
    said = diag.message_primary if diag.sqlstate[:2] in HARMLESS else "its text is left out"
    names = [f"{name} {getattr(diag, name)}" for name in NAMES if getattr(diag, name)]
    return f"{said} ({', '.join([f'SQLSTATE {diag.sqlstate}', *names])})"


def _database_errors(record: logging.LogRecord) -> Iterator[psycopg.Error]:
    """Find the PostgreSQL errors of a record, in its arguments, causes and exception groups."""
    args = record.args if isinstance(record.args, tuple) else ()
    todo = [record.exc_info[1] if record.exc_info else None, *args]
    seen: set[int] = set()
    while todo:
        error = todo.pop()
        if not isinstance(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        if isinstance(error, psycopg.Error):
            yield error
        todo += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]
