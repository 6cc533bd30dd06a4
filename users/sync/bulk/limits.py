"""What stops bulk work before it is an accident."""

from __future__ import annotations

from users.errors import BulkRefused
from users.models import BuilderUser
from users.sync.bulk.plan import Plan

SHARE, AT_LEAST = 0.05, 50
IN_A_ROW, FAILED_SHARE, SHARE_COUNTS_FROM = 20, 0.10, 100


def check_size(plan: Plan, limit: int | None = None) -> None:
    """Raises `BulkRefused` for more changes of one kind than `limit`: by default 5 % of the
    users, or 50, whichever is more."""
    most = limit if limit is not None else max(AT_LEAST, int(BuilderUser.objects.count() * SHARE))
    over = {kind: count for kind, count in plan.counts().items() if count > most}
    if over:
        named = ", ".join(f"{count} of “{kind}”" for kind, count in over.items())
        raise BulkRefused(
            f"The plan has {named}, and {most} of a kind is the limit. Nothing was changed. If "
            f"that many are meant, say --max-changes {max(over.values())}."
        )


class FailureBrake:
    """Counts failures; `reason` says why the run must stop, "" while it need not: 20 in a row,
    or over 10 % once 100 rows are done."""

    def __init__(self, *, on: bool = True) -> None:
        self._on = on
        self._done = self._failed = self._in_a_row = 0
        self.reason = ""

    def count(self, *, failed: bool) -> None:
        self._done += 1
        self._failed += failed
        self._in_a_row = self._in_a_row + 1 if failed else 0
        if not self._on or self.reason:
            return
        many = self._done >= SHARE_COUNTS_FROM and self._failed > FAILED_SHARE * self._done
        if self._in_a_row >= IN_A_ROW:
            self.reason = f"{self._in_a_row} rows in a row failed."
        elif many:
            self.reason = f"{self._failed} of {self._done} rows failed, which is over 10 %."
