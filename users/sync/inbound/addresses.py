"""Which address each row of a group gets. Two rows never have the same one.

People swap addresses, pass them on, and move in chains, so no row can be decided alone: each
states its wishes, and all are solved at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wishes:
    """The addresses that a row may have, the dearest first, the one that it had by itself last.
    Of two rows that wish for the same, the one with the greater `version` gets it: its account
    took the address later."""

    version: str
    addresses: Sequence[str]


def solve(
    wishes: Mapping[uuid.UUID, Wishes], *, taken: Mapping[uuid.UUID, str]
) -> dict[uuid.UUID, str] | None:
    """Give each row that wishes its address, none of them in `taken`, which holds the addresses
    of the rows that stay as they are.

    A row for which none of its wishes is free has to keep its last one, and then nobody else
    may have that. None if even that cannot be.
    """
    staying: dict[uuid.UUID, str] = {}
    while True:
        given, stuck = _give(wishes, staying, {key(email) for email in taken.values()})
        if stuck is None:
            return given
        if stuck in staying or _is_taken(wishes[stuck].addresses[-1], taken, staying):
            return None
        staying[stuck] = wishes[stuck].addresses[-1]


def key(email: str) -> str:
    """The text by which the table's unique index compares addresses."""
    return email.lower()


def _give(
    wishes: Mapping[uuid.UUID, Wishes],
    staying: Mapping[uuid.UUID, str],
    taken: Collection[str],
) -> tuple[dict[uuid.UUID, str], uuid.UUID | None]:
    """Give in the order of the versions, the greatest first; name the first row that gets
    nothing."""
    given = dict(staying)
    used = {*taken, *map(key, staying.values())}
    for row in sorted(wishes, key=lambda row: (wishes[row].version, row), reverse=True):
        if row in staying:
            continue
        free = next((email for email in wishes[row].addresses if key(email) not in used), None)
        if free is None:
            return given, row
        given[row] = free
        used.add(key(free))
    return given, None


def _is_taken(email: str, taken: Mapping[uuid.UUID, str], staying: Mapping[uuid.UUID, str]) -> bool:
    return key(email) in {key(other) for other in (*taken.values(), *staying.values())}
