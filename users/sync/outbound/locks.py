"""Row locks. The lock on a user's row orders its edits.

Always the user first, then the attempt, and never waiting: whoever meets a lock says so. A free
lock says nothing about a request that its owner may have sent: `users.sync.outbound.pending` does.
"""

from __future__ import annotations

import uuid

from django.db import OperationalError, connection

from users.errors import Busy, Gone
from users.models import BuilderUser, SyncAttempt

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"


def lock_user(pk: uuid.UUID, *, wait: float) -> BuilderUser:
    """Prepare the transaction, as `prepare_transaction` does it, and lock the user's row until it
    ends, in one round trip. Raises `Busy` and `Gone`."""
    try:
        row = _locked(f"{_settings(wait)}; {_LOCKED} NOWAIT", pk)
    except OperationalError as error:
        raise_unless_locked(error)
        raise busy() from None
    if row is None:
        raise Gone("This user was deleted in the meantime. Nothing was saved.")
    return row


def lock_free_user(pk: uuid.UUID) -> BuilderUser | None:
    """Lock the user's row; None when it is gone or somebody else has it."""
    return _locked(f"{_LOCKED} SKIP LOCKED", pk)


# In SQL: saves and events come by the thousand, and making the query took Django longer than
# PostgreSQL the answer. FOR NO KEY UPDATE: a scan that writes a row pointing at this user is no
# other editor.
_NAMES = [field.attname for field in BuilderUser._meta.concrete_fields]
_COLUMNS = ", ".join(f'"{field.column}"' for field in BuilderUser._meta.concrete_fields)
_LOCKED = f"SELECT {_COLUMNS} FROM users WHERE id = %s FOR NO KEY UPDATE"


def _locked(statements: str, pk: uuid.UUID) -> BuilderUser | None:
    with connection.cursor() as cursor:
        cursor.execute(statements, [pk])
        while cursor.nextset():  # the last statement is the one that selects
            pass
        values = cursor.fetchone()
    return BuilderUser.from_db(connection.alias, _NAMES, values) if values else None


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
    with connection.cursor() as cursor:
        cursor.execute(_settings(wait))


def _settings(wait: float) -> str:
    milliseconds = max(1, int(wait * 1000))
    return f"SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL lock_timeout = {milliseconds}"


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
