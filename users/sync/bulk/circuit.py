"""Stop a run, or slow it down, because of the results of its rows."""

from __future__ import annotations

from enum import Enum

from users.sync.bulk.limits import FailureLimit

OPENS_AT = 5
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0, 60.0)
"""Seconds before each row that probes whether Clerk takes changes again.

Together with the calls themselves, Clerk has more than six minutes to recover.
"""


class Signal(Enum):
    """What the result of a row says about the other rows of its run."""

    ANSWERED = "Clerk took the change, so it answers"
    ENDED = "the row ended without asking Clerk"
    FAILED = "the row was refused for a reason of its own"
    NOT_CONFIRMED = "Clerk could not be reached, its outcome is not known, or it is busy"
    DENIED = "Clerk would refuse every row"
    NOTHING = "nothing"


FAILED = {Signal.ANSWERED: False, Signal.ENDED: False, Signal.FAILED: True}
"""Signals that count for the limit of failures; the other signals do not."""


class CircuitBreaker:
    """Decides after each row whether the next one may start.

    - DENIED stops the run at once: the key or the plan must be corrected first.
    - NOT_CONFIRMED five times in a row opens the circuit. Then one row at a time starts, each after
      a longer pause, until Clerk takes a change. After the last pause the run stops.
    - FAILED counts for the limit of failures, unless `failures` is switched off.
    """

    def __init__(self, failures: FailureLimit | None = None) -> None:
        self._failures = failures or FailureLimit()
        self._unconfirmed = 0
        self._probes = 0
        self._reason = ""

    def start(self) -> int:
        """Return the number of the next row, and count the row as started."""
        return self._failures.start()

    def end(self, number: int, *, signal: Signal, reason: str) -> None:
        """Record the result of a row that has started."""
        self._failures.end(number, failed=FAILED.get(signal))
        if signal is Signal.DENIED:
            self._reason = self._reason or reason
        elif signal is Signal.NOT_CONFIRMED:
            self._count_as_unconfirmed(reason)
        elif signal in (Signal.ANSWERED, Signal.FAILED):
            self._unconfirmed = self._probes = 0

    def _count_as_unconfirmed(self, reason: str) -> None:
        self._unconfirmed += 1
        if self._probes >= len(PAUSES):
            self._reason = self._reason or (
                f"Clerk confirmed none of {self._unconfirmed} changes in a row. The last one: "
                f"{reason}"
            )

    @property
    def reason(self) -> str:
        """Return why the run must stop; empty if it may go on."""
        return self._reason or self._failures.reason

    @property
    def must_wait(self) -> bool:
        """Return whether the rows in flight could still stop the run."""
        return self._failures.must_wait

    @property
    def is_open(self) -> bool:
        """Return whether Clerk takes no changes, so that only one row at a time may start."""
        return self._unconfirmed >= OPENS_AT

    def next_pause(self) -> float:
        """Count one more probe; return the seconds to wait before it."""
        pause = PAUSES[min(self._probes, len(PAUSES) - 1)]
        self._probes += 1
        return pause
