"""Process items that arrive at the same time in one transaction, as databases commit in groups.

Facts have one writer at a time. So while one thread writes, others wait, and the next one may as
well process everything that is waiting: the cost of a transaction is then shared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


class TurnNotReached(Exception):
    """Another thread of this process was busy for the whole time that the item could wait."""


@dataclass(eq=False)
class _Ticket(Generic[Item]):
    item: Item
    key: Hashable
    done: bool = False
    problem: BaseException | None = None


@dataclass
class GroupCommit(Generic[Item]):
    """Process the items that threads submit, in batches.

    The thread that has the turn processes the waiting items of all threads. `process` gets a batch
    and raises if it processed nothing. `largest` limits a batch. Two items with the same key are
    never in one batch, and keep their order.
    """

    process: Callable[[list[Item]], None]
    alone: Callable[[BaseException], bool]
    """Tells whether to process the items of a failed batch one by one, by its failure."""
    largest: int = 50
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _waiting: list[_Ticket[Item]] = field(default_factory=list)

    def submit(self, item: Item, *, key: Hashable, wait: float) -> None:
        """Return when the item is processed, by this thread or by another one.

        Wait at most `wait` seconds for the turn. Raises `TurnNotReached` if they are over, and what
        `process` raised for the item.
        """
        ticket = _Ticket(item, key)
        with self._mutex:
            self._waiting.append(ticket)
        if not self._turn.acquire(timeout=wait):
            self._withdraw(ticket)
            raise TurnNotReached
        try:
            while not ticket.done:
                self._process(self._next_batch())
        finally:
            self._turn.release()
        if ticket.problem is not None:
            raise ticket.problem

    def _withdraw(self, ticket: _Ticket[Item]) -> None:
        with self._mutex:
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def _next_batch(self) -> list[_Ticket[Item]]:
        batch: dict[Hashable, _Ticket[Item]] = {}
        with self._mutex:
            for ticket in self._waiting:
                if len(batch) < self.largest:
                    batch.setdefault(ticket.key, ticket)
            taken = set(map(id, batch.values()))
            self._waiting = [ticket for ticket in self._waiting if id(ticket) not in taken]
        return list(batch.values())

    def _process(self, batch: list[_Ticket[Item]]) -> None:
        try:
            self.process([ticket.item for ticket in batch])
        except BaseException as problem:
            if len(batch) > 1 and self.alone(problem):
                self._process_alone(batch)
                return
            for ticket in batch:
                ticket.problem = problem
        for ticket in batch:
            ticket.done = True

    def _process_alone(self, batch: list[_Ticket[Item]]) -> None:
        """Process the items one by one. Stop at an outage: each item would wait for it again."""
        for position, ticket in enumerate(batch):
            self._process([ticket])
            if ticket.problem is not None and not self.alone(ticket.problem):
                for later in batch[position + 1 :]:
                    later.problem, later.done = ticket.problem, True
                return
