"""Connect to PostgreSQL through a pool, and limit how long a request waits.

A database can hang instead of being down, for example if its process is stopped or its disk does
not answer. `statement_timeout` and `lock_timeout` do not help then, because the hanging process
enforces them. `tcp_user_timeout` does not help, because the kernel of a hanging machine still
acknowledges packets. So a request limits its own wait. Commands and the worker wait without a
limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LONG_WAIT = 1.0
"""Seconds. Shorter waits are normal in a request and do not count."""
LAST_WORDS = 2.0
"""Seconds that remain after the limit, so that another connection can record the outcome."""


class WaitLimit:
    """The seconds that one request may still wait for the database, for all long waits together.

    `LAST_WORDS` seconds remain after the limit: the server process of one connection may hang while
    other connections still work.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last_words = LAST_WORDS

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Yield the seconds that a wait may take, and subtract a long wait from them."""
        allowed, started = self._left, time.monotonic()
        try:
            yield allowed
        finally:
            waited = time.monotonic() - started
            if waited >= min(LONG_WAIT, allowed):
                self._count(waited)

    def _count(self, waited: float) -> None:
        self._left -= waited
        if self._left <= 0:
            self._left, self._last_words = self._last_words, 0.0


_current: ContextVar[WaitLimit | None] = ContextVar("wait_limit", default=None)


def current_limit() -> WaitLimit | None:
    """Return the limit of the request that this thread answers, or None outside requests."""
    return _current.get()


@contextmanager
def waiting_at_most(seconds: float) -> Iterator[None]:
    """Limit how many seconds the statements in the block wait for the database, together.

    A wait that reaches the limit closes its connection and raises `OperationalError`.
    """
    token = _current.set(WaitLimit(seconds))
    try:
        yield
    finally:
        _current.reset(token)
