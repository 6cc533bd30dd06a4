"""Threads that carry out rows, each with a connection of its own to the database."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from queue import SimpleQueue

from django.db import DatabaseError, connection
from django.db.models import Subquery

from users.clerk import Pace
from users.models import BulkRow, BulkRun
from users.sync.bulk import rows

logger = logging.getLogger(__name__)

State = BulkRow.State

WORKERS = 16
"""Calls in flight: enough for 100 a second at 150 ms, and fewer than the pool's connections."""


class Crew:
    """`problem` is what ended the work of one of them: the database does not answer."""

    def __init__(self, run: BulkRun, pace: Pace) -> None:
        self._run = run
        self._pace = pace
        self._rows: SimpleQueue[tuple[BulkRow, bool] | None] = SimpleQueue()
        self._finished: SimpleQueue[State] = SimpleQueue()
        self._hands = threading.Semaphore(WORKERS)
        self._users: set[uuid.UUID | None] = set()
        self.problem: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"bulk {number}", daemon=True)
            for number in range(WORKERS)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_hands(self) -> None:
        self._hands.acquire()
        self._hands.release()

    def has(self, user_id: uuid.UUID | None) -> bool:
        """Whether somebody is at work on this user."""
        return user_id in self._users

    def give(self, row: BulkRow, *, last: bool) -> None:
        """Somebody does the row; in the `last` round what is put off has failed."""
        self._hands.acquire()
        self._users.add(row.user_id)
        self._rows.put((row, last))

    def finished(self) -> Iterator[State]:
        while not self._finished.empty():
            yield self._finished.get()

    def wait_for_all(self) -> None:
        for _ in range(WORKERS):
            self._hands.acquire()
        for _ in range(WORKERS):
            self._hands.release()

    def dismiss(self) -> None:
        for _ in self._threads:
            self._rows.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            while (given := self._rows.get()) is not None:
                try:
                    self._take(*given)
                except BaseException as problem:  # the main thread raises it
                    self.problem = problem
                finally:
                    self._users.discard(given[0].user_id)
                    self._hands.release()
        finally:
            connection.close()

    def _take(self, row: BulkRow, last: bool) -> None:
        try:
            state, reason = rows.carry_out(row, self._pace)
        except rows.Later as later:
            if not last:
                return
            state, reason = State.FAILED, str(later)
        except DatabaseError:
            raise
        except Exception as problem:
            logger.exception("Row %s of run %s failed", row.position, self._run.pk)
            state, reason = State.FAILED, f"It failed with {type(problem).__name__}: see the log."
        attempts = self._run.attempts.filter(user_id=row.user_id, operation=row.operation)
        BulkRow.objects.filter(pk=row.pk).update(
            state=state,
            reason=reason,
            attempt=Subquery(attempts.order_by("-pk").values("pk")[:1]),
        )
        self._finished.put(state)
