"""Run the rows of a run in worker threads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Self

from django.db import DatabaseError, connection

from users.clerk import Pace
from users.models import BulkRow
from users.sync.bulk import rows
from users.sync.bulk.rows import Result

logger = logging.getLogger(__name__)

WORKERS = 16
"""Number of calls in flight.

That is enough for 100 calls a second at 150 ms each, and fewer than the connections of the pool.
"""


class Workers:
    """A pool of workers, for use by one thread.

    Leaving its context waits for the rows in flight.
    """

    def __init__(self, rate_limiter: Pace) -> None:
        self._rate_limiter = rate_limiter
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="bulk")
        self._in_flight: dict[Future[Result], tuple[int, BulkRow]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown()

    def can_take(self, row: BulkRow) -> bool:
        """Return whether a worker is free, and no other row of this user is in flight."""
        users = {other.user_id for _, other in self._in_flight.values()}
        return len(self._in_flight) < WORKERS and row.user_id not in users

    def take(self, number: int, row: BulkRow) -> None:
        """Start a row; `finished` returns its `number`."""
        future = self._executor.submit(_carry_out, row, self._rate_limiter)
        self._in_flight[future] = (number, row)

    def wait(self) -> None:
        """Wait until a row in flight has finished."""
        wait(self._in_flight, return_when=FIRST_COMPLETED)

    def finished(self, *, all_of_them: bool = False) -> Iterator[tuple[int, Result]]:
        """Yield the results since the last call, with their numbers. Raises what stopped a worker.

        With `all_of_them`, wait for all rows in flight first.
        """
        if all_of_them:
            wait(self._in_flight)
        for future in [future for future in self._in_flight if future.done()]:
            number, _ = self._in_flight.pop(future)
            yield number, future.result()


def _carry_out(row: BulkRow, rate_limiter: Pace) -> Result:
    """Carry out a row and store its result. Raises `DatabaseError`."""
    try:
        result = _result(row, rate_limiter)
        rows.store(row, result)
        return result
    finally:
        connection.close()  # back to the pool: a waiting worker must not hold one


def _result(row: BulkRow, rate_limiter: Pace) -> Result:
    try:
        return rows.carry_out(row, rate_limiter)
    except DatabaseError:
        raise
    except Exception as problem:
        logger.exception("Row %s of run %s failed", row.position, row.run_id)
        return rows.crashed(row, problem)
