"""The rate limiter of bulk work: it stays within Clerk's limits and leaves room for the forms."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

USER_WRITES, USER_SECONDS = 10, 10.0
"""Clerk accepts 10 writes in 10 seconds for one user."""
KEPT_USERS = 5000
BULK_SHARE = 0.9
"""The share of `CLERK_RATE_LIMIT` for bulk work. The rest is for people who use the forms."""
MADE_UP_FOR = 0.5
"""Burst allowance in seconds. The average rate stays the same; Clerk counts over ten seconds."""


class Pace:
    """One rate limiter for all threads: `rate` requests a second, evenly spaced.

    It also keeps Clerk's limit for each user. After a 429 all threads pause for as long as Clerk
    says. A `sleep` that returns True ends the wait.
    """

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
        """Take the next free slot and sleep until its time.

        Give `user_id` for a write to a user.
        """
        with self._lock:
            place = max(self._clock() - MADE_UP_FOR, self._next)
            self._next = place + self._interval
            if user_id:
                place = self._free_for(user_id, place)
        self._sleep_until(place)

    def count(self) -> None:
        """Count a request that is sent without waiting for a slot. The next one waits longer."""
        with self._lock:
            self._next += self._interval

    def pause(self, seconds: float) -> None:
        """Let no thread send anything for `seconds`."""
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
        """Forget users without recent writes: a run may write to a hundred thousand users."""
        for user_id in [user for user, writes in self._writes.items() if writes[-1] <= before]:
            del self._writes[user_id]

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            if self._sleep(left):
                return
