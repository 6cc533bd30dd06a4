"""Write the result file of a spreadsheet: the outcome and reason of each of its lines."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from django.db.models import Count

from users.errors import BulkRefused
from users.models import BulkRow, BulkRun, OperationKind, RowStatus
from users.sync.bulk import files
from users.sync.bulk.attempts import follow_attempts
from users.sync.bulk.exports import RESULT_COLUMNS, RUN_COLUMNS
from users.sync.display import visible

FORMULA = re.compile(r"'*[=+\-@\t]")
"""How a text begins that a spreadsheet takes for a formula, or that would lose its own quote."""

OUTCOMES: Mapping[str, str] = {
    RowStatus.DONE: "changed",
    RowStatus.SKIPPED: "skipped",
    RowStatus.FAILED: "failed",
    RowStatus.WAITING: "waiting",
}
READ = "read"
"""The outcome of a row whose account was read again."""
CANCELLED = "cancelled"
"""The outcome of a row that a cancelled run left."""
WORST_FIRST = ("failed", CANCELLED, "waiting", "skipped", "changed", READ, "unchanged")
"""Outcomes in order: a line with two changes gets the worse outcome of both."""


@dataclass(frozen=True)
class Result:
    """Result of one line; `key` is the text by which the line names its user."""

    key: str
    outcome: str = "unchanged"
    reason: str = ""


def path_for(file: Path, run: BulkRun | None = None) -> Path:
    """Return the path of a new result file of a spreadsheet, with the number of the run if given.

    Two spreadsheets may differ only in their suffix, so the first name may be taken.
    """
    result = f".result.{run.pk}" if run else ".result"
    names = chain([f"{result}.csv"], (f"{result}-{number}.csv" for number in count(2)))
    return next(path for path in map(file.with_suffix, names) if not os.path.lexists(path))


def follow(run: BulkRun) -> None:
    """Update a run's rows, and its result file if it is on this machine, with its attempts."""
    follow_attempts(run)
    file = Path(run.options.get("result", ""))
    if file.is_file():
        with suppress(BulkRefused):  # the file may belong to another user, as for the worker
            written = read(file)
            if (followed := of_run(written, run)) != written:
                write(file, followed)


def write(file: Path, results: Mapping[int, Result]) -> None:
    """Write a result file. Raises `BulkRefused` when the file cannot be written."""
    with files.written(file) as text:
        writer = csv.writer(text)
        writer.writerow(RESULT_COLUMNS)
        for line, result in sorted(results.items()):
            writer.writerow([line, *map(safe, (result.key, result.outcome, result.reason))])


def read(file: Path) -> dict[int, Result]:
    """Read the result file of an interrupted run. Raises `BulkRefused`."""
    try:
        with file.open(encoding="utf-8", newline="") as text:
            rows = list(csv.reader(text))[1:]
        return {int(line): Result(key, outcome, reason) for line, key, outcome, reason in rows}
    except (OSError, ValueError, csv.Error):
        raise BulkRefused(f"{file}, the result file of this run, cannot be read.") from None


def of_run(results: Mapping[int, Result], run: BulkRun) -> dict[int, Result]:
    """Return `results` updated with the results of the run's rows."""
    merged = dict(results)
    seen: set[int] = set()
    rows = run.rows.filter(line__isnull=False).order_by("position")
    for row in rows:
        line = row.line or 0
        result = merged.get(line, Result(row.label))
        if line not in seen:
            result = Result(result.key)
            seen.add(line)
        outcome = min(_outcome_of(row, run), result.outcome, key=WORST_FIRST.index)
        reason = " ".join(filter(None, [result.reason, row.reason]))
        merged[line] = replace(result, outcome=outcome, reason=reason)
    return merged


def _outcome_of(row: BulkRow, run: BulkRun) -> str:
    if run.has_cancelled(row.state):
        return CANCELLED
    if row.state == RowStatus.DONE and row.operation == OperationKind.REFRESH:
        return READ
    return OUTCOMES[row.state]


def export(run: BulkRun) -> Iterator[Sequence[str]]:
    """Yield the cells of a CSV file of a run, with the outcome of each row; the header first."""
    yield RUN_COLUMNS
    for row in run.rows.order_by("position").values(*RUN_COLUMNS).iterator():
        if run.has_cancelled(row["state"]):
            row["state"] = CANCELLED
        yield [safe("" if row[column] is None else str(row[column])) for column in RUN_COLUMNS]


def counts_of(run: BulkRun) -> dict[str, int]:
    """Count the rows of a run by the names of their statuses."""
    counted = dict(run.rows.order_by().values_list("state").annotate(Count("pk")))
    return {run.label_of(state): counted[state] for state in RowStatus if state in counted}


def safe(cell: str) -> str:
    """Return the text of a cell without control characters and safe from formulas.

    A text that a spreadsheet would take for a formula is quoted (OWASP, "CSV injection").
    """
    text = visible(cell)
    return f"'{text}" if FORMULA.match(text) else text
