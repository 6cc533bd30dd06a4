"""Record in the journal what changed about accounts in Clerk, whoever told of it first.

Without it, a ban that a scan or an answer shows before its event comes would be in no timeline.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping

from django.utils import timezone

from users.changes import Changes
from users.models import BuilderUser, OperationKind, Source, Status, SyncAttempt

RECORDED = {
    "banned": "banned",
    "locked": "locked",
    "image_url": "image_url",
    "two_factor_enabled": "two-factor sign-in",
}
"""Columns of the mirror whose changes are recorded, each with the name that changes of it have.

A change of the name or email is recorded when the row follows it.
"""

DELETED = "deleted in Clerk"
"""The name that the deletion of an account has among its changes."""

FOLLOWED = "The Clerk account has this."


def record(changes: Mapping[str, Changes], *, source: Source) -> None:
    """Record changes of accounts, each by its Clerk id, that nobody has asked for here.

    What a pending change of the row asks for is recorded by that change.
    """
    if not changes:
        return
    rows = BuilderUser.objects.filter(clerk_id__in=changes).in_bulk()
    ours: dict[uuid.UUID | None, set[str]] = defaultdict(set)
    for attempt in SyncAttempt.objects.pending().filter(user__in=rows):
        ours[attempt.user_id] |= attempt.changes.keys()
        if attempt.operation == OperationKind.DELETE:  # its event may come before its commit
            ours[attempt.user_id].add(DELETED)
    now = timezone.now()
    SyncAttempt.objects.bulk_create(
        SyncAttempt(
            user_id=row.pk,
            label=str(row),
            clerk_id=row.account_id,
            operation=OperationKind.FOLLOW,
            changes=theirs,
            details={"reason": FOLLOWED},
            source=source,
            status=Status.APPLIED,
            settled_at=now,
        )
        for row in rows.values()
        if (theirs := _without(changes[row.account_id], ours[row.pk]))
    )


def _without(changes: Changes, fields: set[str]) -> Changes:
    return {field: change for field, change in changes.items() if field not in fields}
