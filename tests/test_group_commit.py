"""Items of many threads, processed in groups: each once, in its order, and none for another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from tests.support.patience import PATIENCE, wait_until
from users.sync.inbound.group_commit import GroupCommit, TurnNotReached


class Poisoned(Exception):
    pass


class Outage(Exception):
    pass


class Writer:
    """It writes batches whole or not at all, as a transaction does."""

    def __init__(self):
        self.batches = []
        self.together = GroupCommit(self.process, alone=lambda end: isinstance(end, Poisoned))

    @property
    def written(self):
        return list(chain(*self.batches))

    def process(self, batch):
        if "outage" in batch:
            raise Outage(len(batch))
        if "poison" in batch:
            raise Poisoned(len(batch))
        self.batches.append(batch)

    def submit(self, item, *, key=None, wait=PATIENCE):
        try:
            self.together.submit(item, key=item if key is None else key, wait=wait)
        except Exception as problem:
            return problem
        return "done"

    def at_once(self, items, *, key=None):
        """All items wait before one of them has the turn."""
        with ThreadPoolExecutor(len(items)) as pool:
            with self.together._turn:
                ends = []
                for number, item in enumerate(items):
                    ends.append(pool.submit(self.submit, item, key=key))
                    wait_until(lambda: len(self.together._waiting) == number + 1, "it waits")  # noqa: B023
            return [end.result() for end in ends]


def test_what_waits_together_is_written_together():
    writer = Writer()
    assert writer.at_once(list("abcdef")) == ["done"] * 6
    assert [sorted(batch) for batch in writer.batches] == [list("abcdef")]


def test_a_batch_is_limited():
    writer = Writer()
    writer.together.largest = 4
    assert writer.at_once(list("abcdef")) == ["done"] * 6
    assert writer.batches == [list("abcd"), list("ef")]


def test_items_of_one_key_keep_their_order_and_are_never_in_one_batch():
    writer = Writer()
    assert writer.at_once(list("abc"), key="same account") == ["done"] * 3
    assert writer.batches == [["a"], ["b"], ["c"]]


def test_one_poisoned_item_fails_alone():
    writer = Writer()
    ends = writer.at_once(["a", "poison", "b"])
    assert ends[0] == ends[2] == "done"
    assert isinstance(ends[1], Poisoned)
    assert sorted(writer.written) == ["a", "b"]


def test_an_outage_is_told_to_all_and_not_met_again_for_each():
    writer = Writer()
    ends = writer.at_once(["a", "outage", "b"])
    assert [end.args for end in ends] == [(3,)] * 3
    assert writer.batches == []


def test_an_outage_while_items_are_tried_alone_ends_it():
    writer = Writer()
    original, tried = writer.process, []

    def process(batch):
        tried.append(list(batch))
        if batch == ["b"]:
            raise Outage
        original(batch)

    writer.together.process = process
    ends = writer.at_once(["a", "b", "poison", "c"])
    assert ends[0] == "done"
    assert [type(end) for end in ends[1:]] == [Outage] * 3
    assert tried == [["a", "b", "poison", "c"], ["a"], ["b"]]


def test_who_does_not_get_the_turn_in_time_leaves():
    writer = Writer()
    with writer.together._turn:
        assert isinstance(writer.submit("late", wait=0.01), TurnNotReached)
    assert writer.submit("next") == "done"
    assert writer.batches == [["next"]]


@pytest.mark.parametrize("threads", [2, 16])
def test_each_item_of_many_threads_is_written_once(threads):
    writer, gate = Writer(), threading.Barrier(threads)

    def send(number):
        gate.wait(PATIENCE)
        return [writer.submit((number, step), key=step % 3) for step in range(50)]

    with ThreadPoolExecutor(threads) as pool:
        assert set(chain(*pool.map(send, range(threads)))) == {"done"}
    written = writer.written
    assert sorted(written) == [(number, step) for number in range(threads) for step in range(50)]
    for number in range(threads):
        steps = [step for one, step in written if one == number]
        assert steps == sorted(steps)
    assert all(len({step % 3 for _, step in batch}) == len(batch) for batch in writer.batches)
