"""Allow one bulk command at a time: each would make the other one wait for Clerk's rate limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import DatabaseError, connection, connections, transaction
from django.utils.translation import gettext_lazy as _

from users.errors import BulkRefused
from users.models import BulkRun, RunStatus, Source
from users.sync.bulk import results
from users.sync.display import time_text

KEY = 4_317_288_201
"""Key of the advisory lock in this database: any number that nothing else uses."""


KILLED = _("Its process was killed, or lost the database.")

LOCK_LOST = (
    "The database ended the connection that holds the lock of bulk work, so the run has ended."
)

_IS_HELD = """
SELECT EXISTS (
    SELECT FROM pg_locks JOIN pg_database ON pg_locks.database = pg_database.oid
    WHERE datname = current_database() AND locktype = 'advisory' AND granted
        AND classid = %s AND objid = %s AND objsubid = 1
)
"""


# Django has no advisory locks. The transaction that holds one is idle for as long as a run takes.
_NEVER_TOO_IDLE = "SET LOCAL idle_in_transaction_session_timeout = 0"
_TRY_TO_LOCK = "SELECT pg_try_advisory_xact_lock(%s)"


def end_killed_runs() -> list[BulkRun]:
    """End the runs whose process was killed, and return them.

    It does not take the lock, so that a command that starts at the same time is not refused.
    """
    if is_held():
        return []
    with transaction.atomic():
        # A run takes the lock before its record is stored, and stores its end before it releases
        # the lock. So if a record says "running", and the lock is free after that, the process was
        # killed. The other order would end a run that has just begun.
        running = _running()
        return [] if is_held() else _end(running)


def _running() -> list[BulkRun]:
    return list(BulkRun.objects.select_for_update().filter(state=RunStatus.RUNNING))


def is_held() -> bool:
    """Return whether some process does bulk work now."""
    with connection.cursor() as cursor:
        cursor.execute(_IS_HELD, [KEY >> 32, KEY & 0xFFFFFFFF])
        return bool(cursor.fetchone()[0])


def _end(killed: list[BulkRun]) -> list[BulkRun]:
    """Store the end of killed runs: what a person asked for, else the worker goes on with its own.

    A run of the command line waits for `--resume`.
    """
    for run in killed:
        if run.source == Source.ADMIN and not run.requested:
            run.requeue(str(KILLED))
        else:
            run.interrupt(str(KILLED))
    return killed


class Lease:
    """The lock while it is held, by a transaction on its own connection that does nothing else.

    A lock of the session would be lost behind pgbouncer in transaction mode. `lost` is set once a
    check has found that the connection is gone: another process may hold the lock by now.
    """

    def __init__(self) -> None:
        self._connection = connections["default"].copy()
        self.lost = False

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
            self.lost = True
            raise BulkRefused(LOCK_LOST) from None

    def release(self) -> None:
        """Release the lock, and close its connection."""
        with suppress(DatabaseError):
            self._connection.rollback()
        self._connection.close()


@contextmanager
def one_at_a_time() -> Iterator[Lease]:
    """Hold the lock; runs that were killed end first.

    Raises `BulkRefused` naming the run that holds it.
    """
    lease = Lease()
    try:
        if not lease.take():
            raise BulkRefused(
                f"{_who_holds_it()} Only one runs at a time, so that Clerk's rate limit is kept. "
                "Run this again when it has ended."
            )
        # While the lock is held, no other run is alive.
        with transaction.atomic():
            killed = _end(_running())
        for run in killed:
            results.follow(run)
        yield lease
    finally:
        lease.release()


def _who_holds_it() -> str:
    run = BulkRun.objects.filter(state=RunStatus.RUNNING).select_related("actor").first()
    if run is None:
        return "Another command is scanning Clerk right now."
    by = f" by {run.actor}" if run.actor else ""
    return f"Run {run.pk} ({run.command}{by}, since {time_text(run.started_at)}) is at work."
