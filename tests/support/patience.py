"""How long tests wait: never so short that the speed of the machine decides their result."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

PATIENCE = 300.0
"""Seconds after which a test gives up: no machine is so slow that it needs them."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that another thread or process does; fail by naming it."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"Gave up after {PATIENCE:.0f} s: {what}.")
        time.sleep(0.01)


def seconds_of(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def deadline_for(call: Callable[[], object], *, at_least: float) -> float:
    """Give a deadline for calls that nobody answers: ten times what `call` takes here and now.

    So the deadline passes because nobody answers, not because the machine is slow.
    """
    return max(at_least, 10 * seconds_of(call))
