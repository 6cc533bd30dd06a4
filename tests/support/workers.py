"""Workers of procrastinate, which its models do not let anybody make."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection


def heartbeat(*, ago: timedelta = timedelta()) -> None:
    """Make one worker whose last heartbeat is that old, in place of all others."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s)", [ago]
        )


def no_worker() -> None:
    """Remove all workers."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
