"""Add the options of the command line to texts that pages show, too.

A text for staff names no option: on a page there is none. The command line adds it here.
"""

from __future__ import annotations

from collections.abc import Mapping

from users.sync.bulk.actions import HAS_AN_ACCOUNT
from users.sync.bulk.lock import LOCK_LOST
from users.sync.bulk.plan import NOT_SEEN_YET
from users.sync.bulk.spreadsheet.csv_file import CANNOT_BE_TOLD, CHECK_THE_NAMES
from users.sync.bulk.spreadsheet.header import CAN_BE_LEFT_OUT
from users.sync.bulk.spreadsheet.updates import IN_ITS_COLUMN

_HINTS: Mapping[str, str] = {
    NOT_SEEN_YET: f"{NOT_SEEN_YET} (--no-refresh?)",
    HAS_AN_ACCOUNT: f"{HAS_AN_ACCOUNT} (see clerk_link)",
    LOCK_LOST: f"{LOCK_LOST} Go on with --resume.",
    CHECK_THE_NAMES: f"{CHECK_THE_NAMES}, or give --encoding",
    CANNOT_BE_TOLD: f"{CANNOT_BE_TOLD}, or give --encoding",
    CAN_BE_LEFT_OUT: "--ignore-unknown-columns leaves it out",
    IN_ITS_COLUMN: f"{IN_ITS_COLUMN}, or with --new-address",
}


def with_hints(text: str) -> str:
    """Return the text as the command line says it."""
    for plain, hinted in _HINTS.items():
        text = text.replace(plain, hinted)
    return text
