"""The journal: attempts recorded before Clerk is asked and settled afterwards, and Django's
LogEntry for each change that was applied."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.utils import timezone
from psycopg.types.json import Jsonb

from users.models import BuilderUser, BulkRun, Source, Status, SyncAttempt
from users.sync.actors import SERVICE_USERNAME, Actor, service_user
from users.sync.operations import Operation

MESSAGE_LENGTH = 2000


def record(
    operation: Operation,
    *,
    actor: Actor,
    source: Source,
    status: Status = Status.STARTED,
    run: BulkRun | None = None,
) -> SyncAttempt:
    """Write the attempt. Outside a transaction it is committed when this returns."""
    return SyncAttempt.objects.create(
        user_id=operation.user_id,
        label=operation.label,
        clerk_id=operation.clerk_id,
        operation=operation.kind,
        source=source,
        actor_id=actor.pk if actor else None,
        changes=operation.changes,
        details=operation.details,
        status=status,
        run=run,
        settled_at=None if status == Status.STARTED else timezone.now(),
    )


_RECORD_OF_EVENT = """
WITH attempt AS (
    INSERT INTO users_syncattempt
        (user_id, label, clerk_id, operation, source, changes, details, status, error_code,
         message, trace_id, started_at, settled_at)
    VALUES (%(user)s, %(label)s, %(clerk_id)s, %(kind)s, %(source)s, %(changes)s, %(details)s,
            %(status)s, '', '', '', %(now)s, %(now)s)
)
INSERT INTO django_admin_log
    (action_time, user_id, content_type_id, object_id, object_repr, action_flag, change_message)
SELECT %(now)s, auth_user.id, %(type)s, %(user)s, %(repr)s, %(flag)s, %(message)s
FROM auth_user WHERE username = %(actor)s AND %(logged)s
"""


def record_event(operation: Operation) -> None:
    """What an event did, as `record` and, where the row changed, `log` do it for the service
    user; in one statement, as events come by the thousand."""
    parameters: dict[str, Any] = {
        "user": operation.user_id,
        "label": operation.label,
        "clerk_id": operation.clerk_id,
        "kind": operation.kind,
        "source": Source.WEBHOOK,
        "changes": Jsonb(operation.changes),
        "details": Jsonb(operation.details),
        "status": Status.APPLIED,
        "now": timezone.now(),
        "type": ContentType.objects.get_for_model(BuilderUser).pk,
        "repr": operation.label[:200],
        "flag": operation.log_flag,
        "message": _change_message(operation),
        "actor": SERVICE_USERNAME,
        "logged": operation.changes_row,
    }
    with connection.cursor() as cursor:
        cursor.execute(_RECORD_OF_EVENT, parameters)
        logged = cursor.rowcount == 1
    if operation.changes_row and not logged:  # there is no service user yet
        log(operation, actor_id=None)


def settle(
    attempt: SyncAttempt,
    status: Status,
    *,
    error_code: str = "",
    message: str = "",
    trace_id: str = "",
) -> bool:
    """Settle an open attempt; False when another process has settled it already."""
    attempt.status = status
    attempt.settled_at = timezone.now()
    return _update(attempt, status, attempt.settled_at, error_code, message, trace_id)


def leave_open(
    attempt: SyncAttempt, *, error_code: str = "", message: str = "", trace_id: str = ""
) -> None:
    """Say on an open attempt why it could not be settled."""
    _update(attempt, Status.STARTED, None, error_code, message, trace_id)


def _update(
    attempt: SyncAttempt,
    status: Status,
    settled_at: Any,
    error_code: str,
    message: str,
    trace_id: str,
) -> bool:
    attempt.error_code = error_code
    attempt.message = message[:MESSAGE_LENGTH]
    attempt.trace_id = trace_id
    updated = SyncAttempt.objects.filter(pk=attempt.pk, status=Status.STARTED).update(
        status=status,
        settled_at=settled_at,
        error_code=error_code,
        message=attempt.message,
        trace_id=trace_id,
    )
    return updated == 1


def log(operation: Operation, *, actor_id: int | None) -> None:
    """Django's history of the object, for every source; the admin's own logging is silent."""
    LogEntry.objects.create(
        user_id=actor_id or service_user().pk,
        content_type_id=ContentType.objects.get_for_model(BuilderUser).pk,
        object_id=str(operation.user_id),
        object_repr=operation.label[:200],
        action_flag=operation.log_flag,
        change_message=_change_message(operation),
    )


def _change_message(operation: Operation) -> str:
    """In the JSON that Django's history page translates."""
    if operation.log_flag == ADDITION:
        return json.dumps([{"added": {}}])
    if operation.log_flag == DELETION:
        return json.dumps([{"deleted": {"name": "builder user", "object": operation.label}}])
    if operation.changes_row:
        fields = [
            str(getattr(BuilderUser._meta.get_field(field), "verbose_name", field)).capitalize()
            for field in operation.changes
        ]
        return json.dumps([{"changed": {"fields": fields}}])
    return f"{operation.kind.label}."
