"""What happens while a save has come to one of its named steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from tests.support.interruptions import lose_backend
from tests.support.patience import PATIENCE
from users.sync.outbound import checkpoints, recovery


@contextmanager
def at(step: str, work: Callable[[], object]) -> Iterator[None]:
    """Do `work` once, when a save of this thread comes to `step`."""
    todo, own = [work], threading.get_ident()

    def reached(sender: Any, **fields: Any) -> None:
        if fields["step"] == step and todo and threading.get_ident() == own:
            todo.pop()()

    checkpoints.reached.connect(reached)
    try:
        yield
    finally:
        checkpoints.reached.disconnect(reached)


def elsewhere(step: str, work: Callable[[], object]) -> Any:
    """Another process does `work` from beginning to end while a save has come to `step`."""

    def do() -> None:
        _joined(_started(work))

    return at(step, do)


@contextmanager
def in_background(step: str, work: Callable[[], object]) -> Iterator[None]:
    """Another process begins `work` when a save comes to `step`, and ends it after that."""
    running: list[_Work] = []
    with at(step, lambda: running.append(_started(work))):
        yield
    for one in running:
        _joined(one)


def recovery_runs(step: str) -> Any:
    return elsewhere(step, lambda: list(recovery.recover_all()))


def lost_backend(step: str, *, then: Callable[[], object] = lambda: None) -> Any:
    """The database ends the connection of the save; `then` another process does something."""

    def do() -> None:
        lose_backend()
        _joined(_started(then))

    return at(step, do)


class _Work(threading.Thread):
    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            # The save waits for this thread: so this thread must not wait for its locks for ever.
            _set_lock_timeout("2s")
            self._work()
            _set_lock_timeout("0")  # the connection goes back to the pool
        except BaseException as problem:
            self.problem = problem
        finally:
            connection.close()


def _set_lock_timeout(timeout: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{timeout}'")


def _started(work: Callable[[], object]) -> _Work:
    thread = _Work(work)
    thread.start()
    return thread


def _joined(thread: _Work) -> None:
    thread.join(PATIENCE)
    assert not thread.is_alive()
    if thread.problem:
        raise thread.problem
