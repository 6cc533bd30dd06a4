"""A change of a value: what a field holds before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Change(NamedTuple):
    """The value of a field before and after, as JSON holds it. A secret is "(set)"."""

    before: object
    after: object


Changes = dict[str, Change]
StoredChanges = Mapping[str, Sequence[object]]
"""The same as the tables store it, in JSON: `{field: [before, after]}`."""


def changes_of(stored: StoredChanges) -> Changes:
    """Return the changes that an attempt or a row of a plan stores.

    Raises `TypeError` or `AttributeError` for anything else.
    """
    return {field: Change(*pair) for field, pair in stored.items()}
