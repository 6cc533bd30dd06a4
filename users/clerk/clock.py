"""Clerk's clock, by which everything is dated that we observe there.

Ours may be wrong, and may be set while we run. Dated by it, a newer state of an account would look
older than what is known, and would be ignored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

_SECOND, _NONE = timedelta(seconds=1), timedelta(0)


@dataclass(frozen=True)
class _Ahead:
    """Between which bounds Clerk's clock is ahead of ours, by all answers since one was set."""

    least: timedelta = timedelta.min
    most: timedelta = timedelta.max

    def joined(self, other: _Ahead) -> _Ahead:
        least, most = max(self.least, other.least), min(self.most, other.most)
        return _Ahead(least, most) if least <= most else other

    @property
    def bounds(self) -> tuple[timedelta, timedelta]:
        """None of both for clocks that may be the same."""
        return (_NONE, _NONE) if self.least <= _NONE <= self.most else (self.least, self.most)


_ahead = _Ahead()


def now() -> datetime:
    """Return the time by Clerk's clock as its answers told it, at most a second early: so nothing
    seems to have been asked later than it was."""
    return timezone.now() + _ahead.bounds[0]


def latest() -> datetime:
    """Return the time by Clerk's clock, at most a second late: what ends something is later than
    all that was answered before."""
    return timezone.now() + _ahead.bounds[1]


class Call:
    """The time of one call of Clerk."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def asked_at(self) -> datetime:
        """Return when the call began, by Clerk's clock: what it answers was true then or later."""
        return now() - self._taken()

    def learn(self, date: datetime | None) -> None:
        """Compare the clocks by the `Date` of the answer, which has whole seconds and was written
        at some time during the call."""
        global _ahead
        if date is None:
            return
        received = timezone.now()
        told = _Ahead(date - received, date + _SECOND - (received - self._taken()))
        _ahead = _ahead.joined(told)

    def _taken(self) -> timedelta:
        return timedelta(seconds=time.monotonic() - self._started)
