"""A repeated POST: a double click, or a browser that sends a form again.

Each page that acts carries a one-time token, unique on the attempt. The second POST with it does
nothing: it waits for the first, without a transaction, and reports its outcome.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from users.clerk import Deadline
from users.errors import Busy, ChangeFailed, NotKnown, NotSaved, Refused
from users.models import BuilderUser, Status, SyncAttempt
from users.sync.exchange import Saved
from users.sync.operations import Operation

POLL = 0.1
"""Seconds between two looks at the first attempt."""


def first_of(
    token: uuid.UUID, operation: Operation, *, apart_from: SyncAttempt | None = None
) -> SyncAttempt | None:
    """Find the attempt that the same page has already made of the same change.

    A page that was opened again from the browser's history has the old token and new values:
    that is another change. Passwords cannot be compared, so only a repeat within the time of a
    save counts for them.
    """
    wanted = SyncAttempt.objects.filter(token=token, operation=operation.kind)
    if operation.has_secrets:
        since = timedelta(seconds=settings.CLERK_EDIT_DEADLINE)
        wanted = wanted.filter(started_at__gt=Now() - since)
    first = wanted.first()
    if first is None or first == apart_from or not _is_same(first, operation):
        return None
    return first


def _is_same(first: SyncAttempt, operation: Operation) -> bool:
    if not operation.creates_row and first.user_id not in (operation.user_id, None):
        return False
    return {field: after for field, (_, after) in first.changes.items()} == {
        field: after for field, (_, after) in operation.changes.items()
    }


def usable(token: uuid.UUID | None) -> uuid.UUID | None:
    """Give the token unless an attempt has it: then this one is recorded without."""
    used = token is not None and SyncAttempt.objects.filter(token=token).exists()
    return None if used else token


def outcome_of(first: SyncAttempt, deadline: Deadline) -> Saved:
    """Wait for the end of the first attempt, and report it. Raises the `ChangeFailed` family."""
    if _is_running(first) and not _may_wait(first, deadline):
        raise Busy("This change is already being saved. It was not sent a second time.")
    while _is_running(first) and not deadline.expired:
        time.sleep(POLL)
        first.refresh_from_db()
    if first.status == Status.APPLIED:
        return Saved(BuilderUser.objects.filter(pk__in=[first.user_id]).first(), first)
    raise _failure_of(first)


def _failure_of(first: SyncAttempt) -> ChangeFailed:
    kind: type[ChangeFailed] = NotSaved
    if first.status == Status.REFUSED:
        kind = Refused
    elif first.pending:
        kind = NotKnown
    message = first.message or "This change is still being saved."
    return kind(message, code=first.error_code, trace_id=first.trace_id)


def _is_running(first: SyncAttempt) -> bool:
    """Whether its own process is still at work: it says so when it leaves the attempt pending."""
    return first.pending and not first.message


def _may_wait(first: SyncAttempt, deadline: Deadline) -> bool:
    """Let one repeat wait, so that impatient clicks do not use up the server's threads."""
    free = Q(repeat_waits_until=None) | Q(repeat_waits_until__lt=Now())
    until = Now() + timedelta(seconds=deadline.remaining())
    return bool(SyncAttempt.objects.filter(free, pk=first.pk).update(repeat_waits_until=until))
