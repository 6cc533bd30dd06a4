"""Find the attempts that a run made for its rows, and bring the rows up to date with them."""

from __future__ import annotations

from django.db.models import CharField, Exists, F, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from users.models import (
    BuilderUser,
    BulkRow,
    BulkRun,
    OperationKind,
    RowStatus,
    Status,
    SyncAttempt,
    SyncAttemptQuerySet,
)


def attempts_of(row: BulkRow) -> SyncAttemptQuerySet:
    """Select the attempts of a row.

    The attempt of a deletion names its user only in its details, as its reference to the user is
    deleted with the user.
    """
    attempts = row.run.attempts.filter(operation=row.operation)
    if row.operation == OperationKind.DELETE:
        return attempts.filter(details__user_id=str(row.user_id))
    return attempts.filter(user_id=row.user_id)


def follow_attempts(run: BulkRun | None = None) -> set[int]:
    """Mark rows as done whose attempt was applied after their run had given them up.

    Return the ids of the runs that have such rows. Recovery resolves an attempt without knowledge
    of runs, so call this before rows are shown, exported, resumed or undone. Without `run` it
    applies to the attempts of all runs.
    """
    behind = BulkRow.objects.exclude(state=RowStatus.DONE)
    if run is not None:
        behind = behind.filter(run=run)
    applied = SyncAttempt.objects.filter(
        run=OuterRef("run"), operation=OuterRef("operation"), status=Status.APPLIED
    )
    moved = _follow(behind, applied.filter(user_id=OuterRef("user_id")))
    deleted = applied.annotate(_user=KT("details__user_id")).filter(
        _user=Cast(OuterRef("user_id"), CharField())
    )
    moved |= _follow(_without_user(behind.filter(operation=OperationKind.DELETE)), deleted)
    # Also finish a run that ended after its last row: none of its rows was changed above.
    ended = BulkRun.objects.all() if run is None else BulkRun.objects.filter(pk=run.pk)
    ended.finish_complete()
    return moved


def _without_user(rows: QuerySet[BulkRow]) -> QuerySet[BulkRow]:
    """Select the few rows whose user is gone, as no index finds an attempt by its details."""
    there = BuilderUser.objects.filter(pk=OuterRef("user_id"))
    gone = rows.filter(~Exists(there)).values_list("pk", flat=True)
    return BulkRow.objects.filter(pk__in=list(gone))


def _follow(behind: QuerySet[BulkRow], applied: QuerySet[SyncAttempt]) -> set[int]:
    """Mark the rows that have an applied attempt as done. Return the ids of their runs."""
    newest = Subquery(applied.order_by("-pk").values("pk")[:1])
    behind = behind.annotate(applied=newest).filter(applied__isnull=False)
    moved = set(behind.values_list("run", flat=True))
    behind.filter(run__in=moved).update(state=RowStatus.DONE, reason="", attempt_id=F("applied"))
    return moved
