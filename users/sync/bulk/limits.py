"""Limit the size of a plan and the failures of a run.

So a mistake does not reach many users.
"""

from __future__ import annotations

from dataclasses import dataclass

from users.errors import BulkRefused
from users.models import BuilderUser
from users.sync.bulk.plan import Plan, counted

SHARE, AT_LEAST = 0.05, 50
IN_A_ROW, FAILED_SHARE, SHARE_COUNTS_FROM = 20, 0.10, 100


def most_changes() -> int:
    """Return how many changes of one type a plan may have: 5 % of the users, or 50 if more."""
    return max(AT_LEAST, int(BuilderUser.objects.count() * SHARE))


def check_size(plan: Plan, limit: int | None = None) -> None:
    """Raise `BulkRefused` for more than `limit` changes of one type, by default `most_changes`."""
    most = limit if limit is not None else most_changes()
    over = {kind: count for kind, count in plan.counts().items() if count > most}
    if over:
        named = ", ".join(
            f"{counted(count, 'change')} of type “{kind}”" for kind, count in over.items()
        )
        raise BulkRefused(
            f"The plan has {named}; the limit is {most} of each type. Nothing was changed. Use "
            f"--max-changes {max(over.values())} to allow them."
        )


def check_deletions(plan: Plan, confirmed: int | None) -> None:
    """Raise `BulkRefused` unless the number of users that the plan deletes was typed."""
    count = plan.deletions
    if (confirmed or 0) == count:
        return
    typed = f", not {confirmed}" if confirmed is not None else ""
    allow = f"Use --confirm {count} to allow that." if count else "Leave out --confirm."
    raise BulkRefused(
        f"The plan deletes {counted(count, 'user')}{typed}. Nothing was changed. {allow}"
    )


def apply_flags(deletions: int) -> str:
    """Return the flags that carry out a plan with so many deletions."""
    return f"--apply --confirm {deletions}" if deletions else "--apply"


@dataclass(frozen=True)
class Tally:
    """Count of the rows that ended, in their order."""

    ended: int = 0
    failed: int = 0
    in_a_row: int = 0

    def after(self, failed: bool | None) -> Tally:
        """Return the count with one more row.

        None says nothing about the run: somebody is editing that user.
        """
        if failed is None:
            return self
        return Tally(self.ended + 1, self.failed + failed, self.in_a_row + 1 if failed else 0)

    @property
    def problem(self) -> str:
        """Return why the run must stop after these rows; empty if it may go on."""
        if self.in_a_row >= IN_A_ROW:
            return f"{self.in_a_row} rows in a row failed."
        if self.ended >= SHARE_COUNTS_FROM and self.failed > FAILED_SHARE * self.ended:
            return f"{self.failed} of {self.ended} rows failed, which is over 10 %."
        return ""


class FailureLimit:
    """Stops a run at 20 failures in a row, or at over 10 % failures once 100 rows have ended.

    Rows count in the order in which they start. The result of a row is buffered until every earlier
    row has ended, so that `reason` depends on the results alone: a run with sixteen workers stops
    at the same row as a run with one.

    For this, no row may start while the rows in flight could still stop the run: `must_wait` counts
    each of them as a failure. A healthy run has fewer rows in flight than `IN_A_ROW`. It waits only
    around its hundredth row, where ten rows may be in flight; the rate limiter makes up for that
    moment. A run that comes near a limit has fewer rows in flight.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._tally = Tally()
        self._started = self._counted = 0
        self._results: dict[int, bool | None] = {}
        self.reason = ""

    def start(self) -> int:
        """Return the number of the next row, and count the row as started."""
        number = self._started
        self._started += 1
        return number

    def end(self, number: int, *, failed: bool | None) -> None:
        """Record the result of a row that has started."""
        self._results[number] = failed
        while self._counted in self._results:
            self._tally = self._tally.after(self._results.pop(self._counted))
            self._counted += 1
            if self._enabled and not self.reason:
                self.reason = self._tally.problem

    @property
    def must_wait(self) -> bool:
        """Return whether the rows in flight could still stop the run."""
        tally = self._tally
        for number in range(self._counted, self._started):
            tally = tally.after(self._results.get(number, True))
            if self._enabled and tally.problem:
                return True
        return False
