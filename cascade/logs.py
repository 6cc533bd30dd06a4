"""Keep the values of rows out of the log.

PostgreSQL quotes values of a row in its errors (`DETAIL: Key (lower(email))=(…)`), and a traceback
prints them. All logs go through this formatter.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import psycopg

HARMLESS = ("08", "23", "25", "28", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE whose primary messages name database objects and contain no values."""
NAMES = ("table_name", "column_name", "constraint_name")


class WithoutValues(logging.Formatter):
    """Replace the text of each PostgreSQL error with a text that contains no values."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record, and replace the database errors in it and in its traceback."""
        text = super().format(record)
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
