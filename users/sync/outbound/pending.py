"""Find attempts that are pending, or whose request may still arrive (in flight).

"Clerk does not have it" is true at one moment. It says nothing about a request that is under way.
So a request counts as possible until `late_until` of its attempt, by the database's clock.
Locks and earlier reads of Clerk do not change that.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Case, DateTimeField, F, QuerySet, When
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from users.models import CREATES, OperationKind, Source, Status, SyncAttempt
from users.sync.operations import Operation, from_attempt
from users.sync.outbound import journal

PAUSE = timedelta(minutes=2)
TRIES = 5
"""How often a name, a ban or an unlock is sent.

With pauses of 0, 2, 4 and 6 minutes after each `late_until`, the last try is over within 30
minutes.
"""


def in_flight(user_id: uuid.UUID, *, apart_from: SyncAttempt | None = None) -> list[SyncAttempt]:
    """List the attempts of a user that are pending or may still arrive, oldest first.

    The row may not exist yet, or no longer exist.
    """
    attempts = SyncAttempt.objects.in_flight().filter(user=user_id).order_by("id")
    return list(attempts.exclude(pk=apart_from.pk) if apart_from else attempts)


def not_confirmed() -> QuerySet[SyncAttempt]:
    """Select the pending attempts that no process is working on.

    A process stores a message on an attempt that it leaves pending.
    """
    return SyncAttempt.objects.pending().exclude(message="")


def next_checks(
    attempts: QuerySet[SyncAttempt],
) -> list[tuple[SyncAttempt, datetime | None]]:
    """List attempts, each with the time when Clerk is asked again.

    It is None once the request can no longer arrive.
    """
    still = When(late_until__gt=Now(), then=F("late_until"))
    checked = attempts.annotate(checked_at=Case(still, output_field=DateTimeField()))
    return [(attempt, attempt.checked_at) for attempt in checked]


def create_of(email: str) -> SyncAttempt | None:
    """Find the pending attempt that creates a user with this email."""
    wanted = SyncAttempt.objects.pending().filter(operation__in=CREATES, changes__email__1=email)
    return wanted.order_by("id").first()


def invite_of(user_id: uuid.UUID, email: str) -> SyncAttempt | None:
    """Find the pending attempt that invites this user to this email."""
    wanted = SyncAttempt.objects.pending().filter(operation=OperationKind.INVITE, user=user_id)
    return wanted.filter(changes__invitation__1=email).order_by("id").first()


def in_the_way(operation: Operation, others: Iterable[SyncAttempt]) -> list[SyncAttempt]:
    """List the attempts that the operation must wait for.

    They want other values. A late request of one of them would overwrite the operation's value.
    """
    return [other for other in others if _excludes(other, operation)]


def _excludes(other: SyncAttempt, operation: Operation) -> bool:
    """Tell whether the operation must wait for the other attempt."""
    earlier = from_attempt(other)
    if operation.needs_nothing_in_flight:
        return True
    if other.pending and _differ_here(earlier, operation):
        return True
    if not operation.claims:
        return False
    theirs, mine = earlier.claims, operation.claims
    if "account" in theirs:  # whether the account exists at all is not certain before its end
        return theirs != mine
    return any(theirs[thing] != mine[thing] for thing in theirs.keys() & mine.keys())


def _differ_here(earlier: Operation, operation: Operation) -> bool:
    """Tell whether the two write different values into one column of the row."""
    if not (earlier.changes_row and operation.changes_row):
        return False
    shared = earlier.changes.keys() & operation.changes.keys()
    return any(earlier.changes[field].after != operation.changes[field].after for field in shared)


def same_again(operation: Operation, others: Iterable[SyncAttempt]) -> list[SyncAttempt]:
    """List the pending attempts that the operation supersedes.

    The operation brings every value that these attempts want.
    """
    return [other for other in others if other.pending and _includes(operation, other)]


def _includes(operation: Operation, other: SyncAttempt) -> bool:
    earlier = from_attempt(other)
    return (
        bool(operation.claims)
        and operation.claims == earlier.claims
        and all(
            field in operation.changes and operation.changes[field].after == change.after
            for field, change in earlier.changes.items()
        )
    )


def supersede(earlier: Iterable[SyncAttempt], by: SyncAttempt, status: Status) -> None:
    """Resolve attempts whose values another attempt brings as well.

    Their own requests may still arrive, so they count as in flight until then.
    """
    words = (
        _("The same was also sent as change {number}, and was saved with it.")
        if status == Status.APPLIED
        else _("The same was also sent as change {number}, and is answered there.")
    )
    for attempt in earlier:
        journal.resolve(
            attempt,
            status,
            error_code="repeated",
            message=words.format(number=by.pk),
            still_late=True,
            unseen=status == Status.APPLIED and _author_is_untold(attempt, by),
        )


def _author_is_untold(attempt: SyncAttempt, by: SyncAttempt) -> bool:
    """Tell whether the attempt has another author than `by`, who does not learn how `by` ended."""
    return has_author(attempt) and attempt.actor_id != by.actor_id


def has_author(attempt: SyncAttempt) -> bool:
    """Tell whether a person must be told how it ended. A bulk run shows the end of its rows."""
    return (
        attempt.source == Source.ADMIN and attempt.actor_id is not None and attempt.run_id is None
    )


def is_over(attempt: SyncAttempt) -> bool:
    """Tell whether its request can no longer arrive.

    Call this before Clerk is read. Otherwise the request may arrive after the read.
    """
    return not SyncAttempt.objects.filter(pk=attempt.pk, late_until__gt=Now()).exists()


def is_due_again(attempt: SyncAttempt) -> bool:
    """Tell whether the pause before the next try is over."""
    pause = PAUSE * (tries_of(attempt) - 1)
    waiting = SyncAttempt.objects.filter(pk=attempt.pk, late_until__gt=Now() - pause)
    return not waiting.exists()


def tries_of(attempt: SyncAttempt) -> int:
    """Return how often it was sent."""
    return int(attempt.details.get("tries", 1))


def has_landed(operation: Operation, attempt: SyncAttempt) -> bool:
    """Tell whether the value in Clerk proves that the request of this attempt has arrived.

    It is proof if Clerk held another value before, if the attempt was sent only once, and if no
    other attempt in flight brings the same value. What Clerk held before counts as known only if it
    was read under the lock.
    """
    known = operation.held_is_read or not operation.reads_first
    if not known or not operation.moves or tries_of(attempt) > 1 or attempt.user_id is None:
        return False
    others = in_flight(attempt.user_id, apart_from=attempt)
    return not any(from_attempt(other).claims == operation.claims for other in others)
