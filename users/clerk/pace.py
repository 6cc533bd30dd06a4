"""The pace of bulk work: within Clerk's limits, so that people at the form always get through."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

USER_WRITES, USER_SECONDS = 10, 10.0
"""Clerk takes 10 writes in 10 seconds of one user."""
KEPT_USERS = 5000
BULK_SHARE = 0.9
"""The share of `CLERK_RATE_LIMIT` that bulk work takes; people at the form have the rest."""
MADE_UP_FOR = 0.5
"""Seconds by which one may be late without losing a place: the rate is kept on average, and Clerk
counts over ten seconds."""


class Pace:
    """One limiter for all threads: `rate` requests a second, evenly spaced, and Clerk's limit
    a user. After a 429 everybody pauses for as long as Clerk says. A `sleep` that returns True
    ends the wait."""

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], bool | None] = time.sleep,
    ) -> None:
        self._interval = 1.0 / rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = clock()
        self._writes: dict[str, deque[float]] = defaultdict(deque)

    def wait(self, user_id: str = "") -> None:
        """Take the next free place, and sleep until it comes. `user_id` for a user's write."""
        with self._lock:
            place = max(self._clock() - MADE_UP_FOR, self._next)
            self._next = place + self._interval
            if user_id:
                place = self._free_for(user_id, place)
        self._sleep_until(place)

    def count(self) -> None:
        """Count a request that is sent without waiting for a place: the next one waits for it."""
        with self._lock:
            self._next += self._interval

    def pause(self, seconds: float) -> None:
        """Nobody sends anything for `seconds`."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def _free_for(self, user_id: str, place: float) -> float:
        if len(self._writes) > KEPT_USERS:
            self._forget(place - USER_SECONDS)
        writes = self._writes[user_id]
        while writes and writes[0] <= place - USER_SECONDS:
            writes.popleft()
        if len(writes) >= USER_WRITES:
            place = writes[-USER_WRITES] + USER_SECONDS
        writes.append(place)
        return place

    def _forget(self, before: float) -> None:
        """A run may write to a hundred thousand users; those of long ago are of no interest."""
        for user_id in [user for user, writes in self._writes.items() if writes[-1] <= before]:
            del self._writes[user_id]

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            if self._sleep(left):
                return
