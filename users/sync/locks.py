"""Row locks. The lock on a user's row orders its edits, and it is the sign of life: an attempt
that is open and whose rows can be locked belongs to a dead process.

Always the user first, then the attempt, and never waiting: who finds a lock says so.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import OperationalError, connection
from django.db.models import Exists, OuterRef, QuerySet

from users.errors import Busy, Gone
from users.models import BuilderUser, Status, SyncAttempt

LOCK_NOT_AVAILABLE = "55P03"


def lock_user(pk: uuid.UUID, *, mine: SyncAttempt | None = None) -> BuilderUser:
    """The user's row, locked until the transaction ends. Raises `Busy` and `Gone`.

    `has_unfinished(row)` then says whether an attempt other than `mine` is open.
    """
    try:
        return _locking(mine, nowait=True).get(pk=pk)
    except BuilderUser.DoesNotExist:
        raise Gone(
            "This user was deleted in the meantime. Nothing was saved.",
        ) from None
    except OperationalError as error:
        raise_unless_locked(error)
        raise busy() from None


def lock_for_event(**lookup: Any) -> BuilderUser | None:
    """The one row of `lookup`, locked as by `lock_user`; but an event waits for a save of it,
    for as long as the transaction's `lock_timeout` says."""
    return _locking(None, nowait=False).filter(**lookup).first()


def _locking(mine: SyncAttempt | None, *, nowait: bool) -> QuerySet[BuilderUser]:
    open_attempts = SyncAttempt.objects.filter(user=OuterRef("pk"), status=Status.STARTED)
    if mine is not None:
        open_attempts = open_attempts.exclude(pk=mine.pk)
    # FOR NO KEY UPDATE: a scan that writes a row pointing at this user is no other editor.
    return BuilderUser.objects.select_for_update(nowait=nowait, of=("self",), no_key=True).annotate(
        unfinished=Exists(open_attempts)
    )


def has_unfinished(row: BuilderUser) -> bool:
    """Whether a row that is locked here has an open attempt. As the lock is ours, it belongs to
    a dead process."""
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
    still_open = SyncAttempt.objects.select_for_update(skip_locked=True).filter(
        pk=attempt.pk, status=Status.STARTED
    )
    return len(still_open.values_list("pk")) == 1


def raise_unless_locked(error: OperationalError) -> None:
    """Raise `error` again unless it says that a row is locked by another transaction."""
    if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
        raise error
