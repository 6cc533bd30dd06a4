"""The rate limiter of bulk work: it stays within Clerk's limits and leaves room for the forms.

All processes and hosts take slots from one source (`Slots`), a quarter of a second's worth at a
time. Forms take none and never wait. A 429 that anybody meets pauses all bulk work.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Protocol

from django.dispatch import Signal

rate_limited = Signal()
"""Sent with `seconds` when Clerk answers 429 to a request without a rate limiter."""

USER_WRITES, USER_SECONDS = 10, 10.0
"""Clerk accepts 10 writes in 10 seconds for one user."""
KEPT_USERS = 5000
BULK_SHARE = 0.9
"""The share of `CLERK_RATE_LIMIT` for bulk work. The rest is for people who use the forms."""
LEASE_SECONDS = 0.25
"""A process leases the slots of this time at once. It learns of a pause with its next lease."""
MADE_UP_FOR = 0.5
"""Burst allowance in seconds. The average rate stays the same; Clerk counts over ten seconds."""


def pause_bulk_work(pace: Pace | None, seconds: float) -> None:
    """After a 429, stop bulk work everywhere. A form has no `pace`, and does not wait itself.

    A form does not fail if the database cannot store the pause: it has Clerk's refusal to show.
    """
    if pace is not None:
        pace.pause(seconds)
    else:
        rate_limited.send_robust(Pace, seconds=seconds)


class Slots(Protocol):
    """The slots that all processes share."""

    def lease(self, count: int) -> list[float]:
        """Take the next free slots; return in how many seconds each of them is."""

    def pause(self, seconds: float) -> None:
        """Let no slot be earlier than `seconds` from now, for anybody."""


class Pace:
    """One rate limiter for all threads: at most `rate` requests a second, in slots of `slots`.

    It also keeps Clerk's limit for each user. After a 429 everybody pauses for as long as Clerk
    says. A `sleep` that returns True ends the wait.
    """

    def __init__(
        self,
        rate: float,
        slots: Slots,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], bool | None] = time.sleep,
    ) -> None:
        self._interval = 1.0 / rate
        self._at_once = max(1, int(rate * LEASE_SECONDS))
        self._slots = slots
        self._leased: deque[float] = deque()
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next = clock() - MADE_UP_FOR
        self._writes: dict[str, deque[float]] = defaultdict(deque)

    def wait(self, user_id: str = "") -> None:
        """Take the next free slot and sleep until its time.

        Give `user_id` for a write to a user.
        """
        with self._lock:
            slot = self._take()
            if user_id:
                slot = self._free_for(user_id, slot)
        self._sleep_until(slot)

    def count(self) -> None:
        """Count a request that is sent without waiting for its slot. The next one waits longer."""
        with self._lock:
            self._take()

    def pause(self, seconds: float) -> None:
        """Let nobody send anything for `seconds`: no thread, no other process, no other host."""
        with self._lock:
            self._slots.pause(seconds)
            self._leased.clear()
            self._next = max(self._next, self._clock() + seconds)

    def _take(self) -> float:
        """Return the time of the next slot. Slots that were not used in time are lost."""
        oldest = self._clock() - MADE_UP_FOR
        while self._leased and self._leased[0] < oldest:
            self._leased.popleft()
        if not self._leased:
            slots = self._slots.lease(self._at_once)
            now = self._clock()
            self._leased.extend(now + seconds for seconds in slots)
        slot = max(self._leased.popleft(), self._next, oldest)
        self._next = slot + self._interval
        return slot

    def _free_for(self, user_id: str, slot: float) -> float:
        if len(self._writes) > KEPT_USERS:
            self._forget(slot - USER_SECONDS)
        writes = self._writes[user_id]
        while writes and writes[0] <= slot - USER_SECONDS:
            writes.popleft()
        if len(writes) >= USER_WRITES:
            slot = writes[-USER_WRITES] + USER_SECONDS
        writes.append(slot)
        return slot

    def _forget(self, before: float) -> None:
        """Forget users without recent writes: a run may write to a hundred thousand users."""
        for user_id in [user for user, writes in self._writes.items() if writes[-1] <= before]:
            del self._writes[user_id]

    def _sleep_until(self, moment: float) -> None:
        while (left := moment - self._clock()) > 0:
            if self._sleep(left):
                return
