"""Store a plan in a file, so that it can be reviewed and applied later exactly as it is.

The format is JSON with one row a line. The last key is a hash of all others, keyed with SECRET_KEY:
a file that was edited, or that comes from another installation, is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.dateparse import parse_datetime

from users.changes import changes_of
from users.errors import BulkRefused
from users.models import OperationKind
from users.sync.bulk import files
from users.sync.bulk.plan import Plan, Planned
from users.validation import CONTROL

MAX_AGE = timedelta(hours=24)
SALT = "users.sync.bulk.plan_file"


def write(plan: Plan, file: Path) -> None:
    """Write the plan. Raises `BulkRefused` when the file cannot be written."""
    document = _document(plan)
    del document["rows"]  # each on a line of its own
    rows = ",\n  ".join(json.dumps(asdict(row), ensure_ascii=False) for row in plan.rows)
    head = "".join(
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n"
        for key, value in document.items()
    )
    text = f'{{\n{head} "rows": [\n  {rows}\n ],\n "hash": "{hash_of(plan)}"\n}}\n'
    with files.written(file) as output:
        # JSON escapes only some control characters: those below U+0020.
        output.write(CONTROL.sub(_escaped, text))


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}"


def read(file: Path, *, command: str) -> Plan:
    """Read a plan.

    Raises `BulkRefused` for a file that is not a plan, was edited, is too old, or belongs to
    another command.
    """
    document = _load(file)
    try:
        plan = Plan(
            command=document["command"],
            rows=tuple(_row(row) for row in document["rows"]),
            notes=tuple(document["notes"]),
            undo_of=document["undo_of"],
            options=document["options"],
            made_at=_time(document["made_at"]),
        )
        known = all(row.operation in OperationKind.values for row in plan.rows)
        hashed = document["hash"]
    except (AttributeError, KeyError, TypeError, ValueError):
        known, hashed = False, ""
    if not known or not constant_time_compare(str(hashed), hash_of(plan)):
        raise BulkRefused(
            f"{file} is not a plan as this installation wrote it: it was edited, cut off, or comes "
            "from elsewhere. Make the plan again."
        )
    if plan.command != command:
        raise BulkRefused(f"{file} is a plan of {plan.command}: apply it with that command.")
    if timezone.now() - plan.made_at > MAX_AGE:
        raise BulkRefused(f"{file} is older than 24 hours. Make the plan again.")
    return plan


def _row(stored: dict[str, Any]) -> Planned:
    return Planned(**stored | {"changes": changes_of(stored["changes"])})


def hash_of(plan: Plan) -> str:
    """Return the keyed hash of a plan, which does not depend on the layout of the file."""
    canonical = json.dumps(_document(plan), sort_keys=True, separators=(",", ":"))
    return salted_hmac(SALT, canonical, algorithm="sha256").hexdigest()


def _document(plan: Plan) -> dict[str, object]:
    return {
        "command": plan.command,
        "made_at": plan.made_at.isoformat(),
        "undo_of": plan.undo_of,
        "options": dict(plan.options),
        "notes": list(plan.notes),
        "rows": [asdict(row) for row in plan.rows],
    }


def _load(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BulkRefused(f"{file} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise BulkRefused(f"{file} is no plan. Make one with --plan-out.")
    return document


def _time(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None:
        raise ValueError("no time")
    return moment
