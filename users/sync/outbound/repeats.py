"""Handle a repeated POST: a double click, or a browser that sends a form again.

Each page that acts carries a one-time token, which is unique among attempts. A second POST with it
changes nothing: it waits for the first, outside a transaction, and reports its outcome.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from django.conf import settings
from django.db import OperationalError, connection
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.changes import Changes, changes_of
from users.clerk import Deadline
from users.errors import (
    Busy,
    ChangeFailed,
    Conflict,
    InvitationAccepted,
    NotFoundInClerk,
    NotKnown,
    NotSaved,
    Refused,
    Repeated,
)
from users.models import BuilderUser, OperationKind, Status, SyncAttempt
from users.sync.operations import Operation
from users.sync.outbound import locks
from users.sync.outbound.exchange import Saved

POLL = 0.1
"""Seconds between two reads of the first attempt."""
ALREADY_BEING_SAVED = gettext_lazy(
    "This change is already being saved. It was not sent a second time."
)

# Django has no advisory locks, and there is no row yet that a first POST could lock.
_TAKE_TURN = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

_REFUSALS: Mapping[str, type[Refused]] = {
    kind.code: kind for kind in (NotFoundInClerk, InvitationAccepted)
}
"""Maps the stored code of a refusal to its class, for the classes that callers distinguish."""

waited_for: set[int] = set()
"""Ids of the attempts that a repeat waits for in this process."""
_lock = threading.Lock()


def attempt_of(token: uuid.UUID | None) -> SyncAttempt | None:
    """Find the attempt that the same page has already made, for any change."""
    return SyncAttempt.objects.filter(token=token).first() if token else None


def first_of(
    token: uuid.UUID | None, operation: Operation, *, apart_from: SyncAttempt | None = None
) -> SyncAttempt | None:
    """Find the attempt that the same page has already made for the same change."""
    first = attempt_of(token)
    if first is None or first == apart_from or not is_repeated(first, operation):
        return None
    return first


def is_repeated(first: SyncAttempt, operation: Operation) -> bool:
    """Tell whether the operation is the change of this attempt of the same page.

    A page that was opened again from the browser's history has the old token and new values: that
    is another change. Passwords cannot be compared, so for them only a repeat counts that comes
    while the first is at work, or within the time of a save after that.
    """
    if first.operation != operation.kind:
        return False
    if operation.has_secrets and not _was_just_made(first):
        return False
    if not operation.creates_row and first.user_id not in (operation.user_id, None):
        return False
    return _wanted(changes_of(first.changes)) == _wanted(operation.changes)


def _was_just_made(first: SyncAttempt) -> bool:
    since = Now() - timedelta(seconds=settings.CLERK_EDIT_DEADLINE)
    at_work = Q(status=Status.STARTED, message="")
    recent = Q(started_at__gt=since) | Q(settled_at__gt=since)
    return SyncAttempt.objects.filter(at_work | recent, pk=first.pk).exists()


def _wanted(changes: Changes) -> dict[str, object]:
    return {field: change.after for field, change in changes.items()}


def part_of(token: uuid.UUID | None, part: str) -> uuid.UUID | None:
    """Derive the token of one of several changes that a page makes."""
    return uuid.uuid5(token, part) if token else None


def take_turn(token: uuid.UUID | None, deadline: Deadline) -> None:
    """Make the POSTs of one page run one after the other, until the transaction ends.

    A database-only change has no attempt before its commit, so a repeat would meet the row lock of
    its own first POST. Raises `Repeated` if an attempt has the token, and `Busy`.
    """
    if token is None:
        return
    wait_for_turn(token, deadline)
    if SyncAttempt.objects.filter(token=token).exists():
        raise Repeated(_("This page was submitted before. Open it again to change more."))


def wait_for_turn(token: uuid.UUID, deadline: Deadline) -> None:
    """Wait until the transaction of an earlier POST of the same page is over.

    Raises `Busy` if that takes longer than the deadline.
    """
    locks.prepare_transaction(wait=deadline.remaining())
    try:
        with connection.cursor() as cursor:
            cursor.execute(_TAKE_TURN, [str(token)])
    except OperationalError as error:
        locks.raise_unless_locked(error)
        raise Busy(str(ALREADY_BEING_SAVED)) from None


def saved_by(first: SyncAttempt | None, user: BuilderUser) -> dict[str, object]:
    """Return the values that the same page has saved already.

    Its author typed them, so they do not conflict with what the author sends now.
    """
    if first is None or first.user_id != user.pk:
        return {}
    if first.operation != OperationKind.UPDATE or first.status != Status.APPLIED:
        return {}
    return _wanted(changes_of(first.changes))


def deletion_by(token: uuid.UUID | None, user_id: str) -> SyncAttempt | None:
    """Find the attempt by which the same page has deleted this user."""
    deletions = SyncAttempt.objects.filter(
        token=token,
        operation=OperationKind.DELETE,
        status=Status.APPLIED,
        details__user_id=user_id,
    )
    return deletions.first() if token else None


def outcome_of(first: SyncAttempt, deadline: Deadline) -> Saved:
    """Wait for the first attempt to end, at most until the deadline, and report its outcome.

    Raises the `ChangeFailed` family.
    """
    if _is_running(first):
        with _waiting_alone(first):
            _wait_for_end(first, deadline)
    if first.status == Status.APPLIED:
        return Saved(BuilderUser.objects.filter(pk__in=[first.user_id]).first(), first)
    raise _failure_of(first)


def _wait_for_end(first: SyncAttempt, deadline: Deadline) -> None:
    while _is_running(first) and not deadline.expired:
        time.sleep(POLL)
        first.refresh_from_db()


def _failure_of(first: SyncAttempt) -> ChangeFailed:
    message = first.message or _("This change is still being saved.")
    kind: type[ChangeFailed] = NotSaved
    if first.pending:
        kind = NotKnown
    elif first.status == Status.REFUSED:
        kind = _REFUSALS.get(first.error_code, Refused)
    elif first.error_code == Conflict.code:
        return Conflict(message)
    return kind(message, code=first.error_code, trace_id=first.trace_id)


def _is_running(first: SyncAttempt) -> bool:
    """Tell whether its own process is still working.

    A process stores a message on an attempt that it leaves pending.
    """
    return first.pending and not first.message


@contextmanager
def _waiting_alone(first: SyncAttempt) -> Iterator[None]:
    """Let only one repeat at a time wait for an attempt in this process.

    Otherwise impatient clicks would use up its threads. A mark on the attempt would not work,
    because its own process has that row locked. Raises `Busy`.
    """
    with _lock:
        if first.pk in waited_for:
            raise Busy(str(ALREADY_BEING_SAVED))
        waited_for.add(first.pk)
    try:
        yield
    finally:
        with _lock:
            waited_for.remove(first.pk)
