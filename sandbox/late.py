"""Apply requests late: the caller has its answer before Clerk applies the change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class _Late:
    apply: Callable[[], object]
    timer: threading.Timer | None = None


class LateRequests:
    """Apply each request once: after its seconds, or by `apply_all` if that comes first.

    The lock is held while a request is applied. So no request is half applied when `apply_all` or
    `drop` returns.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Late] = []

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting)

    def add(self, apply: Callable[[], object], seconds: float | None) -> None:
        """Store a request. Without `seconds` it waits for `apply_all`."""
        late = _Late(apply)
        if seconds is not None:
            late.timer = threading.Timer(seconds, self._apply, [late])
            late.timer.daemon = True
        with self._lock:
            self._waiting.append(late)
        if late.timer:
            late.timer.start()

    def apply_all(self) -> None:
        """Apply the waiting requests in the order of their arrival."""
        with self._lock:
            waiting = self._take_all()
            for late in waiting:
                late.apply()

    def drop(self) -> None:
        """Discard the waiting requests, so that they are never applied."""
        with self._lock:
            self._take_all()

    def _apply(self, late: _Late) -> None:
        with self._lock:
            if late in self._waiting:
                self._waiting.remove(late)
                late.apply()

    def _take_all(self) -> list[_Late]:
        waiting, self._waiting = self._waiting, []
        for late in waiting:
            if late.timer:
                late.timer.cancel()
        return waiting
