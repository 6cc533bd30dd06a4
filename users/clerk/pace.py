"""The pace of bulk work: within Clerk's limits, so that people at the form always get through."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

USER_WRITES, USER_SECONDS = 10, 10.0
"""Clerk takes 10 writes in 10 seconds of one user (FACTS §6)."""


class Pace:
    """One limiter for all threads: `rate` requests a second, evenly spaced, and Clerk's limit
    a user. After a 429 everybody pauses for as long as Clerk says."""

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1.0 / rate
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = 0.0
        self._writes: dict[str, deque[float]] = defaultdict(deque)

    def wait(self, user_id: str = "") -> None:
        """Take the next free place, and sleep until it comes. `user_id` for a user's write."""
        with self._lock:
            place = max(self._clock(), self._next)
            self._next = place + self._interval
            if user_id:
                place = self._free_for(user_id, place)
        self._sleep_until(place)

    def pause(self, seconds: float) -> None:
        """Nobody sends anything for `seconds`."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)

    def _free_for(self, user_id: str, place: float) -> float:
        writes = self._writes[user_id]
        while writes and writes[0] <= place - USER_SECONDS:
            writes.popleft()
        if len(writes) >= USER_WRITES:
            place = writes[-USER_WRITES] + USER_SECONDS
        writes.append(place)
        return place

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            self._sleep(left)
