"""The one JSON document of the bulk commands and of `runs`; docs/json.md is its schema."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from users.models import BulkRow, BulkRun
from users.sync.bulk.plan import Plan
from users.sync.bulk.spreadsheet.reading import FileRefused

VERSION = 1


def document(
    command: str,
    *,
    plan: Plan | None = None,
    run: BulkRun | None = None,
    error: str = "",
    refused: FileRefused | None = None,
) -> dict[str, Any]:
    """Tell a plan, a run and what kept the command from going on, each None if there is none;
    of a spreadsheet that is refused all its faults as well."""
    told = {
        "version": VERSION,
        "command": command,
        "plan": _plan(plan) if plan is not None else None,
        "run": result_of(run) if run is not None else None,
        "error": error or None,
    }
    return told | _faults(refused) if refused is not None else told


def _faults(refused: FileRefused) -> dict[str, Any]:
    errors = [asdict(fault) for fault in refused.faults]
    return {"notes": list(refused.notes), "errors": errors}


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "command": plan.command,
        "counts": plan.counts(),
        "notes": list(plan.notes),
        "rows": [asdict(row) for row in plan.rows],
    }


def counts_of(run: BulkRun) -> dict[str, int]:
    """Count the rows of a run by their state, in words; states without rows are left out."""
    counts = {str(state.label): run.rows.filter(state=state).count() for state in BulkRow.State}
    return {state: count for state, count in counts.items() if count}


def result_of(run: BulkRun) -> dict[str, Any]:
    """Tell how a run stands. `message` names what stopped it."""
    not_done = run.rows.exclude(state=BulkRow.State.DONE)
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
                "state": str(row.get_state_display()),
                "reason": row.reason or "Not tried yet.",
            }
            for row in not_done.order_by("position")
        ],
    }
