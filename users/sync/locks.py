"""Row locks. The lock on a user's row orders its edits.

Always the user first, then the attempt, and never waiting: whoever meets a lock says so. A free
lock says nothing about a request that its owner may have sent: `users.sync.pending` does.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import OperationalError, connection

from users.errors import Busy, Gone
from users.models import BuilderUser, SyncAttempt

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"


def lock_user(pk: uuid.UUID) -> BuilderUser:
    """Lock the user's row until the transaction ends. Raises `Busy` and `Gone`."""
    try:
        row = _locked("id = %s", [pk], wait="NOWAIT")
    except OperationalError as error:
        raise_unless_locked(error)
        raise busy() from None
    if row is None:
        raise Gone("This user was deleted in the meantime. Nothing was saved.")
    return row


def lock_free_user(pk: uuid.UUID) -> BuilderUser | None:
    """Lock the user's row; None when it is gone or somebody else has it."""
    return _locked("id = %s", [pk], wait="SKIP LOCKED")


# In SQL: saves and events come by the thousand, and making the query took Django longer than
# PostgreSQL the answer. FOR NO KEY UPDATE: a scan that writes a row pointing at this user is no
# other editor.
_LOCKED = """
SELECT {columns} FROM users WHERE {{lookup}} FOR NO KEY UPDATE {{wait}}
""".format(columns=", ".join(f'"{field.column}"' for field in BuilderUser._meta.concrete_fields))


def _locked(lookup: str, params: list[Any], *, wait: str) -> BuilderUser | None:
    query = _LOCKED.format(lookup=lookup, wait=wait)
    return next(iter(BuilderUser.objects.raw(query, params)), None)


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
