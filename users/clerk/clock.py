"""Clerk's clock, which dates everything that we observe in Clerk.

Our own clock may be wrong, and may be set while we run. If it dated a newer state of an account,
that state could look older than the known one and be ignored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

_SECOND, _NONE = timedelta(seconds=1), timedelta(0)


@dataclass(frozen=True)
class _Ahead:
    """Bounds of how far Clerk's clock is ahead of ours, by all answers since a clock was set."""

    least: timedelta = timedelta.min
    most: timedelta = timedelta.max

    def joined(self, other: _Ahead) -> _Ahead:
        """Return the intersection of both bounds, or `other` if a clock was set in between."""
        least, most = max(self.least, other.least), min(self.most, other.most)
        return _Ahead(least, most) if least <= most else other

    @property
    def bounds(self) -> tuple[timedelta, timedelta]:
        """Return both bounds, or twice zero if the clocks may agree."""
        return (_NONE, _NONE) if self.least <= _NONE <= self.most else (self.least, self.most)


_ahead = _Ahead()


def now() -> datetime:
    """Return the time by Clerk's clock, at most a second early.

    An early time never makes a call look later than it was.
    """
    return timezone.now() + _ahead.bounds[0]


def latest() -> datetime:
    """Return the time by Clerk's clock, at most a second late.

    An ending that is dated late is later than all earlier answers.
    """
    return timezone.now() + _ahead.bounds[1]


class Call:
    """The start of one call to Clerk."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def asked_at(self) -> datetime:
        """Return when the call began, by Clerk's clock. The answer was true then or later."""
        return now() - self._taken()

    def learn(self, date: datetime | None) -> None:
        """Compare the clocks by the header `Date` of the answer.

        The header has whole seconds and was written at some time during the call.
        """
        global _ahead
        if date is None:
            return
        received = timezone.now()
        told = _Ahead(date - received, date + _SECOND - (received - self._taken()))
        _ahead = _ahead.joined(told)

    def _taken(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._started)
