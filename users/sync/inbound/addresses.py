"""Solve which address each row of a group gets; two rows never get the same one.

People swap addresses, pass them on and move in chains, so a row cannot be decided alone. Each row
states its wishes, and all wishes are solved together.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Wishes:
    """The addresses that one row may have, in order of preference.

    The row keeps the last one if no other is free. If two rows wish for the same address, the row
    with the greater `version` gets it: its account took the address later.
    """

    version: str
    addresses: Sequence[str]


def solve(
    wishes: Mapping[uuid.UUID, Wishes], *, taken: Mapping[uuid.UUID, str]
) -> dict[uuid.UUID, str] | None:
    """Return an address for each row that has wishes, or None if there is no solution.

    `taken` holds the addresses of the rows that stay as they are; no other row gets one of them. If
    none of a row's wishes is free, the row keeps its last one, and no other row may have that
    address. There is no solution if two rows would have to keep the same address.
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
    """Return the text by which the unique index of the table compares addresses."""
    return email.lower()


def _give(
    wishes: Mapping[uuid.UUID, Wishes],
    staying: Mapping[uuid.UUID, str],
    taken: Collection[str],
) -> tuple[dict[uuid.UUID, str], uuid.UUID | None]:
    """Give addresses in the order of the versions, the greatest first.

    Return the addresses given so far, and the first row that gets none (None if every row got one).
    """
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
