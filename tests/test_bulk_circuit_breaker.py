"""The circuit breaker stops a run by its rows, whatever the order in which workers end them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from users.sync.bulk.limits import CircuitBreaker
from users.sync.bulk.workers import WORKERS

Results = Sequence[bool | None]
"""Whether each row of a run fails, in the order of the plan; None: it says nothing."""


@st.composite
def runs(draw: st.DrawFn) -> list[bool | None]:
    """Runs near both limits: stretches of rows that mostly fail, or mostly do not."""
    stretches = st.tuples(st.integers(1, 60), st.sampled_from([0.0, 0.08, 0.12, 0.9, 1.0]))
    random = draw(st.randoms(use_true_random=False))
    return [
        None if random.random() < 0.03 else random.random() < share
        for length, share in draw(st.lists(stretches, min_size=1, max_size=8))
        for _ in range(length)
    ]


def one_after_the_other(results: Results) -> int:
    """How many rows start when each row ends before the next one starts."""
    counted: list[bool] = []
    for started, failed in enumerate(results, start=1):
        if failed is not None:
            counted.append(failed)
        if counted[-20:] == [True] * 20 or (
            len(counted) >= 100 and sum(counted) * 10 > len(counted)
        ):
            return started
    return len(results)


def with_workers(results: Results, data: st.DataObject, breaker: CircuitBreaker) -> int:
    """How many rows start when sixteen workers end them in any order."""
    random = data.draw(st.randoms(use_true_random=False))
    in_flight: list[int] = []
    for row in range(len(results)):
        while in_flight and (
            breaker.must_wait or len(in_flight) == WORKERS or random.random() < 0.6
        ):
            ended = in_flight.pop(random.randrange(len(in_flight)))
            breaker.end(ended, failed=results[ended])
        if breaker.reason:
            break
        in_flight.append(breaker.start())
        assert in_flight[-1] == row
    started = breaker.start()
    for ended in in_flight:
        breaker.end(ended, failed=results[ended])
    return started


@given(results=runs(), data=st.data())
def test_workers_stop_at_the_row_at_which_one_worker_stops(results, data):
    breaker = CircuitBreaker()
    expected = one_after_the_other(results)
    assert with_workers(results, data, breaker) == expected
    if expected < len(results):
        assert breaker.reason


@given(results=runs(), data=st.data())
def test_a_breaker_that_is_switched_off_stops_nothing(results, data):
    breaker = CircuitBreaker(enabled=False)
    assert with_workers(results, data, breaker) == len(results)
    assert breaker.reason == ""


@pytest.mark.parametrize("slow", range(WORKERS))
def test_a_slow_row_does_not_hold_up_the_others(slow):
    """As many as 150 rows end while one does not."""
    breaker = CircuitBreaker()
    for _ in range(150):
        assert not breaker.must_wait
        number = breaker.start()
        if number != slow:
            breaker.end(number, failed=False)


def test_all_workers_are_busy_in_a_run_without_failures():
    """But around the hundredth row, where eleven failures would stop the run."""
    breaker = CircuitBreaker()
    in_flight: deque[int] = deque()
    while (started := breaker.start()) < 400:
        in_flight.append(started)
        if len(in_flight) == WORKERS or breaker.must_wait:
            assert len(in_flight) == WORKERS or (100 <= started < 160 and len(in_flight) >= 10)
            breaker.end(in_flight.popleft(), failed=False)
