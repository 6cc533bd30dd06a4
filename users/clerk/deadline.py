"""One deadline for everything that a change asks of Clerk."""

from __future__ import annotations

import time


class Deadline:
    """A point in time `seconds` from now, by a clock that cannot be set."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the remaining seconds, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def expired(self) -> bool:
        """Return whether no time remains."""
        return self.remaining() == 0.0
