"""Read the accounts of the next rows from Clerk shortly before the rows are written.

One read for many rows costs little of the rate limit. A row whose account was read more than
`OLDEST` before its write reads Clerk again by itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from django.db import OperationalError

from users.clerk import Deadline, Pace, clerk
from users.errors import ClerkError
from users.models import BulkRow
from users.sync.bulk.rows import OLDEST, reads_first
from users.sync.mirror import store
from users.sync.outbound import locks

SECONDS, USED_FOR = 1.2, 1.5
"""How many seconds of the run one read covers, and how many seconds its answer is used.

Both are below `OLDEST`, as the row still has to wait for its worker.
"""
AT_ONCE = 100
"""The most ids that Clerk accepts in one read."""


class ReadAhead:
    """Reads the accounts of a run. Only one thread may call it."""

    def __init__(self, rate: float, rate_limiter: Pace) -> None:
        self._rate_limiter = rate_limiter
        self._rows = max(1, min(AT_ONCE, int(rate * SECONDS)))
        self._ids: frozenset[str] = frozenset()
        self._read_at = 0.0

    def before(self, upcoming: Sequence[BulkRow]) -> None:
        """Make the mirror fresh for the first of the rows, and for some rows that follow it."""
        first = upcoming[0]
        if not reads_first(first) or self._is_fresh(first.clerk_id):
            return
        self._read([row.clerk_id for row in upcoming if reads_first(row)][: self._rows])

    def _is_fresh(self, clerk_id: str) -> bool:
        return clerk_id in self._ids and time.monotonic() - self._read_at < USED_FOR

    def _read(self, clerk_ids: Sequence[str]) -> None:
        """Read accounts into the mirror; do not repeat a read that fails.

        Each row then reads by itself, and reports what is wrong.
        """
        self._ids, self._read_at = frozenset(clerk_ids), time.monotonic()
        try:
            client = clerk().paced(self._rate_limiter)
            page = client.get_users(clerk_ids, deadline=Deadline(OLDEST.total_seconds()))
            store.keep_all(page.users)
        except ClerkError:
            return
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != locks.DEADLOCK:
                raise
