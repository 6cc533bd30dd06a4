"""The slots of Clerk's rate limit in PostgreSQL, one row for all processes and hosts."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.conf import settings
from django.db import connections
from django.dispatch import receiver

from users.clerk import BULK_SHARE, Pace, rate_limited
from users.clerk.pace import MADE_UP_FOR

# By the clock of the database, since those of the hosts differ.
_LEASE = """
INSERT INTO users_clerkrate AS rate (id, next_at)
VALUES (1, clock_timestamp() + make_interval(secs => %(length)s))
ON CONFLICT (id) DO UPDATE SET
    next_at = GREATEST(rate.next_at, clock_timestamp() - make_interval(secs => %(made_up_for)s))
        + make_interval(secs => %(length)s)
RETURNING extract(epoch FROM next_at - make_interval(secs => %(length)s) - clock_timestamp())
"""
_PAUSE = """
INSERT INTO users_clerkrate AS rate (id, next_at)
VALUES (1, clock_timestamp() + make_interval(secs => %(length)s))
ON CONFLICT (id) DO UPDATE SET
    next_at = GREATEST(rate.next_at, clock_timestamp() + make_interval(secs => %(length)s))
RETURNING 0
"""


def shared_pace(rate: float, *, sleep: Callable[[float], bool | None] = time.sleep) -> Pace:
    """Return a rate limiter of at most `rate`, whose slots no other process uses.

    Together all of them stay at 90 % of CLERK_RATE_LIMIT, unless one is told to be faster.
    """
    total = max(rate, settings.CLERK_RATE_LIMIT * BULK_SHARE)
    return Pace(rate, SharedSlots(total), sleep=sleep)


class SharedSlots:
    """Slots at `rate` a second.

    Each call is a transaction of its own, on a connection of its own: the caller may be in the
    transaction of a save, which would keep everybody else waiting for its end.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate

    def lease(self, count: int) -> list[float]:
        """Take the next free slots; return in how many seconds each of them is."""
        first = _execute(_LEASE, count * self._interval)
        return [first + number * self._interval for number in range(count)]

    def pause(self, seconds: float) -> None:
        """Let no slot be earlier than `seconds` from now, for anybody."""
        pause_all(seconds=seconds)


@receiver(rate_limited)
def pause_all(*, seconds: float, **kwargs: object) -> None:
    """Let bulk work of all processes and hosts wait after a 429 that a form met."""
    _execute(_PAUSE, seconds)


def _execute(statement: str, seconds: float) -> float:
    own = connections["default"].copy()
    try:
        with own.cursor() as cursor:
            cursor.execute(statement, {"length": seconds, "made_up_for": MADE_UP_FOR})
            return float(cursor.fetchone()[0])
    finally:
        own.close()
