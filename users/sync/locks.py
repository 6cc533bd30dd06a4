"""Row locks. The lock on a user's row orders its edits.

Always the user first, then the attempt, and never waiting: whoever meets a lock says so. A free
lock says nothing about a request that its owner may have sent: `users.sync.pending` does.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import OperationalError, connection

from users.errors import Busy, Gone
from users.models import BuilderUser, Status, SyncAttempt

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"


def lock_user(pk: uuid.UUID) -> BuilderUser:
    """Lock the user's row until the transaction ends. Raises `Busy` and `Gone`."""
    try:
        row = _locked("id = %s", [pk], nowait=True)
    except OperationalError as error:
        raise_unless_locked(error)
        raise busy() from None
    if row is None:
        raise Gone("This user was deleted in the meantime. Nothing was saved.")
    return row


def lock_for_event(*, pk: uuid.UUID | None = None, clerk_id: str = "") -> BuilderUser | None:
    """The row of that key, locked as by `lock_user`; but an event waits for a save of it, for as
    long as the transaction's `lock_timeout` says."""
    row = _locked("id = %s", [pk]) if pk else _locked("clerk_id = %s", [clerk_id])
    if row is not None and has_unfinished(row):
        # As the statement saw it before it waited: the save may have settled its own since.
        row.unfinished = SyncAttempt.objects.filter(user=row, status=Status.STARTED).exists()  # type: ignore[attr-defined]
    return row


# In SQL: saves and events come by the thousand, and making the query took Django longer than
# PostgreSQL the answer. FOR NO KEY UPDATE: a scan that writes a row pointing at this user is no
# other editor.
_LOCKED = """
SELECT {columns},
    EXISTS (
        SELECT FROM users_syncattempt
        WHERE user_id = users.id AND status = 'started'
    ) AS unfinished
FROM users WHERE {{lookup}} FOR NO KEY UPDATE {{wait}}
""".format(columns=", ".join(f'"{field.column}"' for field in BuilderUser._meta.concrete_fields))


def _locked(lookup: str, params: list[Any], *, nowait: bool = False) -> BuilderUser | None:
    query = _LOCKED.format(lookup=lookup, wait="NOWAIT" if nowait else "")
    return next(iter(BuilderUser.objects.raw(query, params)), None)


def lock_account(clerk_id: str) -> None:
    """Nobody else makes an event of this account take effect until the transaction ends. It is
    no lock of a row: the account may not be known yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [clerk_id])


def has_unfinished(row: BuilderUser) -> bool:
    """Tell whether a row that `lock_for_event` locked has a pending attempt."""
    return bool(getattr(row, "unfinished", False))


def busy() -> Busy:
    return Busy(
        "This user is being saved by someone else right now. Nothing was saved; "
        "wait a moment and save again."
    )


def prepare_transaction(*, wait: float) -> None:
    """Constraints speak at each statement, not at the commit: Django's foreign keys are
    deferred, and at the commit Clerk has been told. And nothing waits longer than `wait`
    seconds for another transaction: rows are not waited for at all, but a unique key that
    another one has just taken is."""
    milliseconds = max(1, int(wait * 1000))
    with connection.cursor() as cursor:
        cursor.execute(f"SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL lock_timeout = {milliseconds}")


def lock_attempt(attempt: SyncAttempt) -> bool:
    """Lock the attempt; False when it is settled, gone or held by another process."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM users_syncattempt WHERE id = %s AND status = 'started' "
            "FOR UPDATE SKIP LOCKED",
            [attempt.pk],
        )
        return cursor.rowcount == 1


def raise_unless_locked(error: OperationalError) -> None:
    """Raise `error` again unless it says that another transaction has a lock, or that the two
    wait for one another."""
    if getattr(error.__cause__, "sqlstate", None) not in (LOCK_NOT_AVAILABLE, DEADLOCK):
        raise error
