"""Slots of the rate limit for one test, by a clock of the test."""

from __future__ import annotations

from collections.abc import Callable

from users.clerk.pace import MADE_UP_FOR


class Slots:
    """What PostgreSQL does for all processes, in memory."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._interval = 1.0 / rate
        self._clock = clock
        self._next = clock()

    def lease(self, count: int) -> list[float]:
        first = max(self._next, self._clock() - MADE_UP_FOR)
        self._next = first + count * self._interval
        return [first - self._clock() + number * self._interval for number in range(count)]

    def pause(self, seconds: float) -> None:
        self._next = max(self._next, self._clock() + seconds)
