"""Add Clerk's value to a plan of edits where it is not the row's value.

The plan shows it beside the change. So people who approve the plan see what Clerk loses, and a row
is skipped if its account holds something else by the time it is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from users.changes import Change, Changes
from users.clerk import names
from users.models import ClerkAccount, OperationKind
from users.sync.bulk.plan import Plan, Planned
from users.version import same

CHUNK = 1000
FIELDS = {OperationKind.UPDATE: "name", OperationKind.REPLACE_EMAIL: "email"}
"""Kinds of change that are planned from the row, each with the field that Clerk has as well."""

_HELD: Mapping[str, Callable[[ClerkAccount], str]] = {
    "name": lambda account: names.join(account.first_name, account.last_name),
    "email": lambda account: account.email,
}


def with_clerk_values(plan: Plan) -> Plan:
    """Return the plan with Clerk's value added wherever it differs from the row's."""
    rows: list[Planned] = []
    for start in range(0, len(plan.rows), CHUNK):
        chunk = plan.rows[start : start + CHUNK]
        accounts = ClerkAccount.objects.in_bulk([row.clerk_id for row in chunk if _field_of(row)])
        rows += [_with_value(row, accounts.get(row.clerk_id)) for row in chunk]
    return replace(plan, rows=tuple(rows))


def apart(row_changes: Changes) -> tuple[Changes, dict[str, object]]:
    """Separate the changes of a planned edit from the values that Clerk held.

    Return the changes, and the values that Clerk held at the time of the plan, for an operation's
    `details`: one for each field of `FIELDS` that changes.
    """
    changes = {field: change for field, change in row_changes.items() if field not in _KEYS}
    held = {
        key: row_changes.get(key, changes[field]).before
        for key, field in _KEYS.items()
        if field in changes
    }
    return changes, held


_KEYS = {f"clerk_{field}": field for field in _HELD}


def _field_of(row: Planned) -> str:
    field = FIELDS.get(OperationKind(row.operation), "")
    return field if row.clerk_id and field in row.changes else ""


def _with_value(row: Planned, account: ClerkAccount | None) -> Planned:
    field = _field_of(row)
    if not field or account is None:
        return row
    before, after = row.changes[field]
    held = _HELD[field](account)
    if same(field, before, held):
        return row
    return replace(row, changes=row.changes | {f"clerk_{field}": Change(held, after)})
