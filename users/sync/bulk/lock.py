"""One piece of bulk work at a time: two would take Clerk's rate limit twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, connections
from django.utils import timezone

from users.errors import BulkRefused
from users.models import BulkRun

KEY = 4_317_288_201
"""Of PostgreSQL's advisory locks of this database: any number that nothing else takes."""


class Lease:
    """The lock as it is held: by a transaction of a connection of its own, that does nothing
    else. A lock of the session would be lost behind pgbouncer in transaction mode."""

    def __init__(self) -> None:
        self._connection = connections["default"].copy()

    def take(self) -> bool:
        self._connection.set_autocommit(False)
        with self._connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [KEY])
            return bool(cursor.fetchone()[0])

    def check(self) -> None:
        """Raises `BulkRefused` when the connection that holds the lock is gone."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseError:
            raise BulkRefused(
                "The database ended the connection that holds the lock of bulk work, so the run "
                "ends. Go on with --resume."
            ) from None

    def release(self) -> None:
        with suppress(DatabaseError):
            self._connection.rollback()
        self._connection.close()


@contextmanager
def one_at_a_time() -> Iterator[Lease]:
    """Hold the lock. Raises `BulkRefused` naming the run that holds it.

    Whoever has it knows that no run is alive: one that still says so was killed.
    """
    lease = Lease()
    try:
        if not lease.take():
            raise BulkRefused(
                f"{_who_holds_it()} Only one runs at a time, so that Clerk's rate limit is kept. "
                "Run this again when it has ended."
            )
        BulkRun.objects.filter(state=BulkRun.State.RUNNING).update(
            state=BulkRun.State.INTERRUPTED,
            message="Its process was killed.",
            finished_at=timezone.now(),
        )
        yield lease
    finally:
        lease.release()


def _who_holds_it() -> str:
    run = BulkRun.objects.filter(state=BulkRun.State.RUNNING).select_related("actor").first()
    if run is None:
        return "Another command is scanning Clerk right now."
    by = f" by {run.actor}" if run.actor else ""
    return f"Run {run.pk} ({run.command}{by}, since {run.started_at:%H:%M} UTC) is at work."
