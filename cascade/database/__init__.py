"""The database backend: PostgreSQL through a pool, with a limit on how long a request waits.

A database can hang instead of being down: a process that is stopped, a disk that does not answer.
`statement_timeout` and `lock_timeout` do not help then, because the hanging process would have to
fire them; `tcp_user_timeout` does not, because the kernel of a hanging machine still acknowledges
what it is sent. So a request limits its own wait. Commands and the worker wait without a limit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LONG_WAIT = 1.0
"""Seconds. Shorter waits are the normal work of a request, and do not count."""
LAST_WORDS = 2.0
"""Seconds in which a request may still use another connection, to tell its end."""


class WaitLimit:
    """The seconds that one request may still wait for the database, all long waits together.

    When they are used up, `LAST_WORDS` are left: the process behind one connection may hang
    while the others work.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._last_words = LAST_WORDS

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Give the seconds that a wait may take, and count the wait."""
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
    """Give the limit of the request that this thread answers; None outside of requests."""
    return _current.get()


@contextmanager
def waiting_at_most(seconds: float) -> Iterator[None]:
    """Limit how long the statements inside wait for the database, together.

    A wait that reaches the limit closes its connection and raises `OperationalError`.
    """
    token = _current.set(WaitLimit(seconds))
    try:
        yield
    finally:
        _current.reset(token)
