"""Time, for tests of outcomes that are not known yet: nobody sleeps."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from users.models import SyncAttempt

NOT_CONFIRMED = "Clerk has not confirmed this yet. It is checked again at"


def time_is_over(minutes: float = 0) -> None:
    """Let the time pass in which requests that were sent may still arrive, and then some."""
    SyncAttempt.objects.filter(late_until__isnull=False).update(
        late_until=Now() - timedelta(minutes=minutes, seconds=1)
    )


def minutes_pass(minutes: float) -> None:
    """Let time pass for every attempt, whether its time is over then or not."""
    SyncAttempt.objects.filter(late_until__isnull=False).update(
        late_until=F("late_until") - timedelta(minutes=minutes)
    )


def the_copy_is_old(user):
    """Let a minute pass since Clerk's side of the user was read."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE users_clerkaccount SET seen_at = seen_at - interval '1 minute' "
            "WHERE user_id = %s",
            [user.pk],
        )
