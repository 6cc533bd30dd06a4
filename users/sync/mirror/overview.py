"""Count users by their state, and edits by their outcome, from the tables alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.contrib.postgres.fields import ArrayField
from django.db.models import Count, DateTimeField, Func, IntegerField, Q, QuerySet, Value
from django.utils import timezone

from users.models import BuilderUser, ListEntry, OperationKind, Status, SyncAttempt
from users.sync.mirror import listing
from users.sync.mirror.status import UserStatus


def state_of(user: BuilderUser) -> UserStatus:
    """Return the state of one user against its account."""
    entry = ListEntry.objects.filter(pk=user.pk).first()
    if entry is None or listing.written_since([user.pk]):
        return UserStatus.UNSEEN
    return UserStatus(entry.state)


def users_by_state() -> dict[UserStatus, int]:
    """Count the users in each state, in the order of `UserStatus`. States without users count 0."""
    states = ListEntry.objects.order_by().values("state").annotate(users=Count("pk"))
    counts = {row["state"]: row["users"] for row in states}
    return {state: counts.get(state, 0) for state in UserStatus}


MOVED_LATELY = timedelta(days=7)


def moved_links() -> QuerySet[SyncAttempt]:
    """Select the links that lately moved from one account to another without a decision of staff.

    An earlier claim or an accepted invitation moves a link.
    """
    return SyncAttempt.objects.derived().filter(
        operation=OperationKind.LINK,
        status=Status.APPLIED,
        started_at__gte=timezone.now() - MOVED_LATELY,
        changes__clerk_id__0__startswith="user_",
    )


@dataclass(frozen=True)
class Day:
    """The edits that were started on one day, by outcome. `open` ones are not certain yet."""

    date: date
    saved: int = 0
    not_saved: int = 0
    open: int = 0


def edits_by_day(days: int) -> list[Day]:
    """Count the edits of the last days, today included, by outcome.

    The days are those of the viewer's zone. What this site did by itself does not count, such as
    following a change that was made in Clerk.
    """
    today = timezone.localdate()
    first = today - timedelta(days=days - 1)
    every = [first + timedelta(days=index) for index in range(days)]
    zone = timezone.get_current_timezone()
    midnights = [datetime.combine(day, time.min, tzinfo=zone) for day in every]
    edits = SyncAttempt.objects.asked_for().filter(started_at__gte=midnights[0])
    open_ones = Q(status__in=[Status.STARTED, Status.UNPROVEN])
    counted = (
        edits.order_by()
        .values(day=_bucket("started_at", midnights))
        .annotate(
            saved=Count("pk", filter=Q(status=Status.APPLIED)),
            not_saved=Count("pk", filter=Q(status__in=[Status.REFUSED, Status.DROPPED])),
            open=Count("pk", filter=open_ones),
        )
    )
    shown = {day: Day(day) for day in every}
    for row in counted:
        day = every[row["day"] - 1]
        shown[day] = Day(day, row["saved"], row["not_saved"], row["open"])
    return list(shown.values())


def _bucket(field: str, starts: list[datetime]) -> Func:
    """Return the number of the last start that is not after the field's time, from 1.

    The database is not given the name of a zone: it may not know each one that Python knows.
    """
    bounds = Value(starts, output_field=ArrayField(DateTimeField()))
    return Func(field, bounds, function="width_bucket", output_field=IntegerField())
