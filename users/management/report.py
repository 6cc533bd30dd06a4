"""Parts of the JSON documents that several commands share. docs/json.md is their schema."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypedDict

from users.management.hints import with_hints
from users.models import BulkRun, RowStatus, RunStatus
from users.sync.bulk.plan import Plan
from users.sync.bulk.results import counts_of
from users.sync.bulk.spreadsheet.reading import FileRefused
from users.sync.inbound.deliveries import Outcome, Received


def plan_of(plan: Plan, *, would_stop: str = "") -> dict[str, object]:
    """Describe a plan. `would_stop` names the limit that would stop --apply."""
    return {
        "command": plan.command,
        "counts": plan.counts(),
        "notes": [with_hints(note) for note in plan.notes],
        "would_stop": would_stop or None,
        "rows": [asdict(row) for row in plan.rows],
    }


def faults_of(refused: FileRefused) -> dict[str, object]:
    """Describe how a spreadsheet was read, with all its errors."""
    errors = [asdict(fault) | {"message": with_hints(fault.message)} for fault in refused.faults]
    return {"notes": [with_hints(note) for note in refused.notes], "errors": errors}


def event_of(received: Received) -> dict[str, object]:
    """Describe the outcome of an event from Clerk."""
    return {
        "svix_id": received.svix_id,
        "done": received.done,
        "unusable": received.outcome is Outcome.UNUSABLE,
        "error": received.error,
    }


def cut_off(run: BulkRun) -> dict[str, object]:
    """Describe a run whose rows cannot be read any more, as the database does not answer."""
    return {
        "id": run.pk,
        "command": run.command,
        "state": RunStatus.INTERRUPTED.value,
        "message": f"It could not go on. See what is done: manage.py runs show {run.pk}",
        "started_at": run.started_at.isoformat(),
        "finished_at": None,
        "counts": None,
        "not_done": None,
    }


class NotDone(TypedDict):
    """A row of a run that is not done."""

    line: int | None
    user: str
    label: str
    operation: str
    state: str
    reason: str


class RunResult(TypedDict):
    """The state of a run; `counts` holds the numbers of rows by the label of their status."""

    id: int
    command: str
    state: str
    message: str
    started_at: str
    finished_at: str | None
    counts: dict[str, int]
    not_done: list[NotDone]


def result_of(run: BulkRun) -> RunResult:
    """Describe the state of a run. `message` names what stopped it."""
    not_done = run.rows.exclude(state=RowStatus.DONE)
    untried = "Not tried." if run.state == RunStatus.CANCELLED else "Not tried yet."
    return {
        "id": run.pk,
        "command": run.command,
        "state": run.state,
        "message": run.message,
        "started_at": run.started_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "counts": counts_of(run),
        "not_done": [
            {
                "line": row.line,
                "user": str(row.user_id or ""),
                "label": row.label,
                "operation": row.operation,
                "state": row.shown_state,
                "reason": row.reason or untried,
            }
            for row in not_done.order_by("position")
        ],
    }
