"""The limit of failures and the circuit breaker stop a run by its rows, whatever the order in which
workers end them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from users.sync.bulk.circuit import OPENS_AT, PAUSES, CircuitBreaker, Signal
from users.sync.bulk.limits import FailureLimit
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


def with_workers(results: Results, data: st.DataObject, limit: FailureLimit) -> int:
    """How many rows start when sixteen workers end them in any order."""
    random = data.draw(st.randoms(use_true_random=False))
    in_flight: list[int] = []
    for row in range(len(results)):
        while in_flight and (limit.must_wait or len(in_flight) == WORKERS or random.random() < 0.6):
            ended = in_flight.pop(random.randrange(len(in_flight)))
            limit.end(ended, failed=results[ended])
        if limit.reason:
            break
        in_flight.append(limit.start())
        assert in_flight[-1] == row
    started = limit.start()
    for ended in in_flight:
        limit.end(ended, failed=results[ended])
    return started


@given(results=runs(), data=st.data())
def test_workers_stop_at_the_row_at_which_one_worker_stops(results, data):
    limit = FailureLimit()
    expected = one_after_the_other(results)
    assert with_workers(results, data, limit) == expected
    if expected < len(results):
        assert limit.reason


@given(results=runs(), data=st.data())
def test_a_limit_that_is_switched_off_stops_nothing(results, data):
    limit = FailureLimit(enabled=False)
    assert with_workers(results, data, limit) == len(results)
    assert limit.reason == ""


@pytest.mark.parametrize("slow", range(WORKERS))
def test_a_slow_row_does_not_hold_up_the_others(slow):
    """As many as 150 rows end while one does not."""
    limit = FailureLimit()
    for _ in range(150):
        assert not limit.must_wait
        number = limit.start()
        if number != slow:
            limit.end(number, failed=False)


def test_all_workers_are_busy_in_a_run_without_failures():
    """But around the hundredth row, where eleven failures would stop the run."""
    limit = FailureLimit()
    in_flight: deque[int] = deque()
    while (started := limit.start()) < 400:
        in_flight.append(started)
        if len(in_flight) == WORKERS or limit.must_wait:
            assert len(in_flight) == WORKERS or (100 <= started < 160 and len(in_flight) >= 10)
            limit.end(in_flight.popleft(), failed=False)


# --- The circuit breaker -------------------------------------------------------------------------


def ended(*signals: Signal) -> CircuitBreaker:
    """A circuit breaker after rows with these results, one after the other."""
    breaker = CircuitBreaker()
    for signal in signals:
        breaker.end(breaker.start(), signal=signal, reason=f"It is {signal.name}.")
    return breaker


def test_one_denied_row_stops_the_run_with_its_reason():
    assert ended(Signal.ANSWERED, Signal.DENIED).reason == "It is DENIED."


@pytest.mark.parametrize("last", [Signal.ANSWERED, Signal.FAILED])
def test_an_answer_closes_the_circuit(last):
    without_answer = [Signal.NOT_CONFIRMED] * OPENS_AT
    assert ended(*without_answer).is_open
    assert ended(*without_answer, Signal.NOTHING, Signal.ENDED).is_open
    assert not ended(*without_answer, last).is_open
    assert not ended(*without_answer[1:]).is_open


def test_pauses_grow_until_the_run_stops_and_start_again_after_an_answer():
    breaker = ended(*[Signal.NOT_CONFIRMED] * OPENS_AT)
    pauses = []
    while not breaker.reason:
        pauses.append(breaker.next_pause())
        breaker.end(breaker.start(), signal=Signal.NOT_CONFIRMED, reason="Clerk is down.")
    assert pauses == list(PAUSES) == sorted(PAUSES)
    assert "Clerk confirmed none of" in breaker.reason
    assert "Clerk is down." in breaker.reason
    again = ended(*[Signal.NOT_CONFIRMED] * OPENS_AT)
    again.next_pause()
    again.end(again.start(), signal=Signal.ANSWERED, reason="")
    assert again.next_pause() == PAUSES[0]
