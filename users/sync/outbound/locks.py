"""Lock rows. The lock on a user's row orders its edits.

The user is always locked first, then the attempt. Nothing waits for a row lock: a process that
meets one reports it. A free lock says nothing about a request that its owner may have sent; see
`users.sync.outbound.pending` for that.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from django.db import OperationalError, connection
from django.db.backends.utils import CursorWrapper
from django.utils.translation import gettext as _

from users.errors import Busy, Gone
from users.models import BuilderUser, SyncAttempt

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"


class LockedBoth(NamedTuple):
    """The locked row; whether the attempt is locked, too; whether no other is in flight."""

    row: BuilderUser
    held: bool
    alone: bool


def lock_user(pk: uuid.UUID, *, wait: float) -> BuilderUser:
    """Prepare the transaction, and lock the user's row until it ends, in one round trip.

    `wait` is that of `prepare_transaction`. Raises `Busy` if another transaction has the lock, and
    `Gone` if the row was deleted.
    """
    return _lock(wait, f"{_LOCKED} NOWAIT", [pk])[0]


def lock_both(pk: uuid.UUID, attempt: SyncAttempt, *, wait: float) -> LockedBoth:
    """Lock the row as `lock_user` does, and its attempt as `lock_attempt`, in one round trip.

    Raises `Busy` and `Gone`.
    """
    locking = f"{_LOCKED} NOWAIT; {_LOCKED_ATTEMPT}; {_OTHER_ATTEMPTS}"
    row, (held, others) = _lock(wait, locking, [pk, attempt.pk, pk, attempt.pk])
    return LockedBoth(row, bool(held), alone=not others)


def lock_free_user(pk: uuid.UUID) -> BuilderUser | None:
    """Lock the user's row. Return None if it is gone or another transaction has it."""
    with connection.cursor() as cursor:
        cursor.execute(f"{_LOCKED} SKIP LOCKED", [pk])
        return _row_of(cursor)


# In SQL: saves and events come by the thousand, and Django took longer to build the query than
# PostgreSQL to answer it. FOR NO KEY UPDATE: a scan may meanwhile write rows that refer to this
# user.
_NAMES = [field.attname for field in BuilderUser._meta.concrete_fields]
_COLUMNS = ", ".join(f'"{field.column}"' for field in BuilderUser._meta.concrete_fields)
_LOCKED = f"SELECT {_COLUMNS} FROM users WHERE id = %s FOR NO KEY UPDATE"
_LOCKED_ATTEMPT = (
    "SELECT FROM users_syncattempt WHERE id = %s AND status = 'started' FOR UPDATE SKIP LOCKED"
)


# The attempts that `SyncAttemptQuerySet.in_flight` selects.
_OTHER_ATTEMPTS = """
SELECT FROM users_syncattempt
WHERE user_id = %s AND id <> %s AND (status = 'started' OR late_until > statement_timestamp())
LIMIT 1
"""


def _lock(
    wait: float, locking: str, ids: Sequence[uuid.UUID | int]
) -> tuple[BuilderUser, list[int]]:
    """Prepare the transaction and lock the row; return it.

    The second value is how many rows each further statement of `locking` has found.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"{_settings(wait)}; {locking}", ids)
            for _ in _SETTINGS:  # they have no rows
                cursor.nextset()
            row, counts = _row_of(cursor), []
            while cursor.nextset():
                counts.append(cursor.rowcount)
    except OperationalError as error:
        raise_unless_locked(error)
        raise busy() from None
    if row is None:
        raise Gone(_("This user was deleted in the meantime. Nothing was saved."))
    return row, counts


def _row_of(cursor: CursorWrapper) -> BuilderUser | None:
    values = cursor.fetchone()
    return BuilderUser.from_db(connection.alias, _NAMES, values) if values else None


def busy() -> Busy:
    """Return the failure for a row that another transaction has locked."""
    return Busy(
        _(
            "This user is being saved by someone else right now. Nothing was saved; "
            "wait a moment and save again."
        )
    )


def prepare_transaction(*, wait: float) -> None:
    """Check constraints at each statement, and wait at most `wait` seconds for a lock.

    Django defers foreign keys to the commit, but then it is too late: Clerk has the change. No
    statement waits for a row. But a statement waits for a unique key that another transaction has
    just taken.
    """
    with connection.cursor() as cursor:
        cursor.execute(_settings(wait))


_SETTINGS = ("SET CONSTRAINTS ALL IMMEDIATE", "SET LOCAL lock_timeout = {milliseconds}")


def _settings(wait: float) -> str:
    return "; ".join(_SETTINGS).format(milliseconds=max(1, int(wait * 1000)))


def lock_attempt(attempt: SyncAttempt) -> bool:
    """Lock a pending attempt. Return False if it is resolved, gone or locked elsewhere."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCKED_ATTEMPT, [attempt.pk])
        return cursor.rowcount == 1


def raise_unless_locked(error: OperationalError) -> None:
    """Raise `error` again, unless it reports a lock of another transaction or a deadlock."""
    if getattr(error.__cause__, "sqlstate", None) not in (LOCK_NOT_AVAILABLE, DEADLOCK):
        raise error
