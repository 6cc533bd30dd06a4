"""Recognize the CSV files that our own commands write, when they come back as spreadsheets.

Such a file names users and holds no new values. Its other columns are left out only if it has all
columns of one export: a spreadsheet of somebody else may have a column “state”, too.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

RUN_COLUMNS = (
    "position", "line", "user_id", "label", "clerk_id", "operation", "state", "reason",
)  # fmt: skip
DIFF_COLUMNS = ("kind", "user_id", "label", "clerk_id", "ours", "theirs", "cause")
RESULT_COLUMNS = ("line", "key", "outcome", "reason")


@dataclass(frozen=True)
class Export:
    """One kind of file; `title` names it in messages.

    `key` is the one column that is read, as it names the user; "" if the file has no such column.
    The `clerk_id` of a difference may be an account that is not the user's.
    """

    title: str
    columns: tuple[str, ...]
    key: str = ""

    @property
    def left_out(self) -> set[str]:
        """Return the columns that are not read."""
        return set(self.columns) - {self.key}


EXPORTS = (
    Export("an export of “runs export”", RUN_COLUMNS, "user_id"),
    Export("an export of “clerk_diff --format csv”", DIFF_COLUMNS, "user_id"),
    Export("the result file of a run", RESULT_COLUMNS),
)


def export_with(headers: Collection[str]) -> Export | None:
    """Return the export that has written these headers; more columns may stand beside its own."""
    return next((one for one in EXPORTS if set(one.columns) <= set(headers)), None)
