"""Allow one bulk command at a time: each would make the other one wait for Clerk's rate limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, connection, connections
from django.utils import timezone

from users.errors import BulkRefused
from users.models import BulkRun, RunStatus
from users.sync.bulk import results

KEY = 4_317_288_201
"""Key of the advisory lock in this database: any number that nothing else uses."""


KILLED = "Its process was killed."

# A run takes the lock before its record is stored, and stores its end before it releases the lock.
# So if a record says "running" while the lock is free, the process was killed.
_MARK_KILLED = """
UPDATE users_bulkrun SET state = %s, message = %s, finished_at = now()
WHERE state = %s AND NOT EXISTS (
    SELECT FROM pg_locks JOIN pg_database ON pg_locks.database = pg_database.oid
    WHERE datname = current_database() AND locktype = 'advisory' AND granted
        AND classid = %s AND objid = %s AND objsubid = 1
)
RETURNING id
"""


# Django has no advisory locks. The transaction that holds one is idle for as long as a run takes.
_NEVER_TOO_IDLE = "SET LOCAL idle_in_transaction_session_timeout = 0"
_TRY_TO_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"


def mark_killed_runs() -> list[int]:
    """Mark runs as interrupted whose process was killed; return their ids.

    It does not take the lock, so that a command that starts at the same time is not refused.
    """
    states = RunStatus.INTERRUPTED.value, KILLED, RunStatus.RUNNING.value
    with connection.cursor() as cursor:
        cursor.execute(_MARK_KILLED, [*states, KEY >> 32, KEY & 0xFFFFFFFF])
        return [pk for (pk,) in cursor.fetchall()]


class Lease:
    """The lock while it is held, by a transaction on its own connection that does nothing else.

    A lock of the session would be lost behind pgbouncer in transaction mode.
    """

    def __init__(self) -> None:
        self._connection = connections["default"].copy()

    def take(self) -> bool:
        """Try to take the lock, without waiting; return whether that succeeded."""
        self._connection.set_autocommit(False)
        with self._connection.cursor() as cursor:
            cursor.execute(_NEVER_TOO_IDLE)
            cursor.execute(_TRY_TO_LOCK, [KEY])
            return bool(cursor.fetchone()[0])

    def check(self) -> None:
        """Raise `BulkRefused` when the connection that holds the lock is gone."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
        except DatabaseError:
            raise BulkRefused(
                "The database ended the connection that holds the lock of bulk work, so the run "
                "ends. Go on with --resume."
            ) from None

    def release(self) -> None:
        """Release the lock, and close its connection."""
        with suppress(DatabaseError):
            self._connection.rollback()
        self._connection.close()


@contextmanager
def one_at_a_time() -> Iterator[Lease]:
    """Hold the lock. Raises `BulkRefused` naming the run that holds it.

    While it is held, no other run can be alive: a record that says "running" belongs to a killed
    one.
    """
    lease = Lease()
    try:
        if not lease.take():
            raise BulkRefused(
                f"{_who_holds_it()} Only one runs at a time, so that Clerk's rate limit is kept. "
                "Run this again when it has ended."
            )
        _end_killed_runs()
        yield lease
    finally:
        lease.release()


def _end_killed_runs() -> None:
    """Mark killed runs as interrupted, and write the result files that they could not write.

    Only the holder of the lock may call this.
    """
    killed = list(BulkRun.objects.filter(state=RunStatus.RUNNING))
    BulkRun.objects.filter(pk__in=[run.pk for run in killed]).update(
        state=RunStatus.INTERRUPTED, message=KILLED, finished_at=timezone.now()
    )
    for run in killed:
        results.follow(run)


def _who_holds_it() -> str:
    run = BulkRun.objects.filter(state=RunStatus.RUNNING).select_related("actor").first()
    if run is None:
        return "Another command is scanning Clerk right now."
    by = f" by {run.actor}" if run.actor else ""
    return f"Run {run.pk} ({run.command}{by}, since {run.started_at:%H:%M} UTC) is at work."
