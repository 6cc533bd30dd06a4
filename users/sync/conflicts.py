"""A conflict told: what changed since the form was opened, and by whom."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from users.errors import Conflict, FieldConflict
from users.models import BuilderUser, Status, SyncAttempt
from users.sync.actors import name_of
from users.sync.operations import Operation
from users.version import differences, value_of, version_of


def check(operation: Operation, row: BuilderUser, base: dict[str, Any] | None) -> None:
    """Raise `Conflict` when fields of the locked row are not what the change starts from."""
    stale = operation.stale_fields(row) if base is None else differences(row, base)
    if stale:
        raise conflict(operation, row, stale, base or {})


def conflict(
    operation: Operation, row: BuilderUser, stale: list[str], base: dict[str, Any]
) -> Conflict:
    started_from = {field: before for field, (before, _) in operation.changes.items()} | base
    wanted = {field: after for field, (_, after) in operation.changes.items()}
    conflicts = tuple(
        FieldConflict(
            field=field,
            base=started_from.get(field),
            theirs=value_of(row, field),
            mine=wanted.get(field, started_from.get(field)),
        )
        for field in stale
    )
    latest = _latest_change(row, stale)
    who = _who(latest)
    named = ", ".join(field.replace("_", " ") for field in stale)
    by = f" by {who}" if who else ""
    return Conflict(
        f"This user was changed{by} since you opened the form ({named}). Nothing was saved, "
        "here or in Clerk. Choose for each field, then save again.",
        conflicts=conflicts,
        version=version_of(row),
        who=who,
        when=latest.settled_at if latest else row.updated_at,
    )


def _latest_change(row: BuilderUser, fields: list[str]) -> SyncAttempt | None:
    touching = Q()
    for field in fields:
        touching |= Q(changes__has_key=field)
    return (
        SyncAttempt.objects.filter(touching, user_id=row.pk, status=Status.APPLIED)
        .select_related("actor")
        .order_by("-settled_at")
        .first()
    )


def _who(attempt: SyncAttempt | None) -> str:
    if attempt is None:
        return ""
    return name_of(attempt.actor) or str(attempt.get_source_display())
