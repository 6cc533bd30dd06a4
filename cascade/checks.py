"""Check before the start that the application finds its tables and those of the other one."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import Error
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections
from django.db.backends.base.base import NO_DB_ALIAS


def refuse_wrong_schemas() -> None:
    """Raise `ImproperlyConfigured` if tables are looked up in the wrong schemas.

    It uses a connection of its own, because a pool must not be opened before the server forks. A
    database that does not answer is no reason to refuse the start: the first connection is checked.
    """
    if not settings.CASCADE_SCHEMA:
        return
    connection: Any = connections["default"].copy(NO_DB_ALIAS)
    try:
        connection.ensure_connection()
    except OperationalError:
        return
    finally:
        connection.close()


def check_schemas(**_: Any) -> list[Error]:
    """Report the same to the system checks, which commands run, the worker's included."""
    try:
        refuse_wrong_schemas()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="cascade.E001")]
    return []
