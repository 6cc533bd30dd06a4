"""Decide about conflicts under the row lock.

A conflict says what changed since the form was opened, and by whom.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db.models import Q
from django.utils.translation import gettext as _

from users.errors import Conflict, FieldConflict, NothingToChange, NotSaved
from users.models import BuilderUser, OperationKind, Status, SyncAttempt
from users.sync.actors import author_of
from users.sync.display import field_word, joined
from users.sync.operations import Operation
from users.version import differences, same, value_of


def check(operation: Operation, row: BuilderUser, base: dict[str, object] | None) -> None:
    """Compare the locked row with what the change starts from.

    `base` holds the values that the form was opened with. Without it, the earlier values in the
    change are compared. Fields that the row already holds as wanted are removed from an edit: two
    people who type the same value are not in conflict.

    Raises `Conflict` for every other compared field that changed, also for one that the edit does
    not touch, `NothingToChange` if the row holds the whole edit, `NotSaved` if an invitation was
    sent meanwhile that no user would own after the change, and what `Operation.check` raises.
    """
    stale = operation.stale_fields(row) if base is None else differences(row, base)
    if operation.kind == OperationKind.UPDATE:
        held = _held(operation, row)
        operation.changes = {
            field: change for field, change in operation.changes.items() if field not in held
        }
        if not operation.changes:
            raise NothingToChange
        stale = [field for field in stale if field not in held]
    if stale:
        raise _changed(operation, row, stale, base or {})
    if ownerless := operation.ownerless(row):
        raise _still_invited(ownerless)
    operation.check(row)


def check_without_base(user: BuilderUser, wanted: dict[str, object]) -> None:
    """Compare the typed values of a form with the stored ones.

    Used if the edit token cannot be read: the values that the form was opened with are not known.

    Raises `Conflict` for every value that is not stored yet.
    """
    conflicts = tuple(
        FieldConflict(field=field, base=None, theirs=value_of(user, field), mine=mine)
        for field, mine in wanted.items()
        if not same(field, value_of(user, field), mine)
    )
    if not conflicts:
        return
    raise Conflict(
        _(
            "This form cannot be compared with what is stored now. Nothing was saved, here or in "
            "Clerk. The form shows what is stored; choose what you want to keep of yours, then "
            "save again."
        ),
        conflicts=conflicts,
    )


def _held(operation: Operation, row: BuilderUser) -> set[str]:
    """Return the fields that the row already holds as wanted."""
    return {
        field
        for field, change in operation.changes.items()
        if same(field, value_of(row, field), change.after)
    }


def _changed(
    operation: Operation, row: BuilderUser, stale: list[str], base: dict[str, object]
) -> Conflict:
    started_from = {field: change.before for field, change in operation.changes.items()} | base
    wanted = {field: change.after for field, change in operation.changes.items()}
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
    named = ", ".join(map(field_word, stale))
    changed = (
        _("This user was changed by {who} since you opened the form ({fields}).")
        if who
        else _("This user was changed since you opened the form ({fields}).")
    ).format(who=who, fields=named)
    compare = _("Nothing was saved, here or in Clerk. Compare the values, then save again.")
    return Conflict(
        f"{changed} {compare}",
        conflicts=conflicts,
        who=who,
        when=latest.settled_at if latest else row.updated_at,
    )


def _still_invited(ownerless: Mapping[str, str]) -> NotSaved:
    emails = joined(list(ownerless.values()))
    return NotSaved(
        _(
            "The invitation to {emails} is still open: it was sent meanwhile, or not revoked yet. "
            "Nothing was deleted, here or in Clerk. Delete again: then the invitation is revoked "
            "first."
        ).format(emails=emails),
        code="still_invited",
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
    return author_of(attempt)
