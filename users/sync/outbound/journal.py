"""Write the journal: attempts, and Django's LogEntry for each change that was applied.

Attempts are recorded before Clerk is asked, and resolved afterwards.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta

from django.conf import settings
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from users.clerk import Deadline
from users.errors import ChangeFailed, Repeated
from users.models import BuilderUser, BulkRun, Source, Status, SyncAttempt
from users.sync.actors import Actor, Person, service_user
from users.sync.operations import Operation

MESSAGE_LENGTH = 2000


def record(
    operation: Operation,
    *,
    actor: Actor,
    source: Source,
    status: Status = Status.STARTED,
    run: BulkRun | None = None,
    token: uuid.UUID | None = None,
    deadline: Deadline | None = None,
    failure: ChangeFailed | None = None,
) -> SyncAttempt:
    """Record an attempt. Outside a transaction it is committed when this returns.

    `deadline` is the time within which the request is sent: Clerk may take the request until
    CLERK_SETTLE_SECONDS after it. `failure` is the reason for an attempt that is refused at once.
    Raises `Repeated` if another attempt has the `token`.
    """
    person = actor if isinstance(actor, Person) else None
    with _as_repeated() if token else nullcontext():
        attempt = _attempt(
            operation,
            source=source,
            actor_id=actor.pk if actor else None,
            actor_name=person.name if person else "",
            actor_clerk_id=person.clerk_id if person else "",
            status=status,
            run=run,
            token=token,
            late_until=_late_after(deadline) if deadline else None,
            error_code=failure.code if failure else "",
            message=failure.full_message[:MESSAGE_LENGTH] if failure else "",
            settled_at=None if status == Status.STARTED else timezone.now(),
        )
        attempt.save(force_insert=True)
        return attempt


def _attempt(operation: Operation, **values: object) -> SyncAttempt:
    return SyncAttempt(
        user_id=operation.user_id,
        label=operation.label,
        clerk_id=operation.clerk_id,
        operation=operation.kind,
        changes=operation.changes,
        details=operation.details,
        **values,
    )


@contextmanager
def _as_repeated() -> Iterator[None]:
    """Raise `Repeated` for a one-time token that another attempt has.

    There is no savepoint: after the error, a transaction around this call must be rolled back.
    """
    try:
        yield
    except IntegrityError as error:
        constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", "") or ""
        if "token" not in constraint:
            raise
        raise Repeated(_("This page was submitted before. Open it again to change more.")) from None


def record_sending_again(attempt: SyncAttempt, deadline: Deadline) -> bool:
    """Record that a pending attempt is sent again, before that happens.

    Returns False if another process has just recorded the same, or resolved the attempt.
    """
    tries = int(attempt.details.get("tries", 1)) + 1
    recorded = SyncAttempt.objects.filter(
        pk=attempt.pk, status=Status.STARTED, late_until=attempt.late_until
    ).update(late_until=_late_after(deadline), details=attempt.details | {"tries": tries})
    attempt.refresh_from_db()
    return recorded == 1


def _late_after(deadline: Deadline) -> object:
    """Return the time after which nothing that is sent before `deadline` can arrive."""
    return Now() + timedelta(seconds=deadline.remaining() + settings.CLERK_SETTLE_SECONDS)


def record_derived(operations: Sequence[Operation], source: Source) -> None:
    """Record changes that were derived from facts, with the service user as their author.

    Writes all attempts in one statement, and all LogEntries of changed rows in another.
    """
    now = timezone.now()
    SyncAttempt.objects.bulk_create(
        _attempt(operation, source=source, status=Status.APPLIED, settled_at=now)
        for operation in operations
    )
    if logged := [operation for operation in operations if operation.changes_row]:
        actor_id = service_user().pk
        LogEntry.objects.bulk_create(
            _log_entry(operation, actor_id, _change_message(operation)) for operation in logged
        )


def resolve(
    attempt: SyncAttempt,
    status: Status,
    *,
    error_code: str = "",
    message: str = "",
    trace_id: str = "",
    still_late: bool = False,
    unseen: bool = False,
) -> bool:
    """Resolve a pending attempt. Return False if another process has resolved it already.

    `still_late` says that its request may still reach Clerk: until `late_until`, a different value
    for the same thing must wait. `unseen` says that its author was not told how it ended.
    """
    attempt.settled_at = timezone.now()
    attempt.unseen = unseen
    ends: dict[str, object] = {
        "settled_at": attempt.settled_at,
        "unseen": unseen,
        "changes": attempt.changes,
        "details": attempt.details,
    }
    if not still_late:
        attempt.late_until = ends["late_until"] = None
    return _update(attempt, status, error_code, message, trace_id, **ends)


def keep_what_clerk_held(attempt: SyncAttempt) -> None:
    """Store on a pending attempt what the save read in Clerk before its request."""
    SyncAttempt.objects.filter(pk=attempt.pk, status=Status.STARTED).update(
        changes=attempt.changes, details=attempt.details
    )


def leave_pending(
    attempt: SyncAttempt, *, error_code: str = "", message: str = "", trace_id: str = ""
) -> None:
    """Store on a pending attempt why it could not be resolved."""
    _update(attempt, Status.STARTED, error_code, message, trace_id)


def _update(
    attempt: SyncAttempt,
    status: Status,
    error_code: str,
    message: str,
    trace_id: str,
    **ends: object,
) -> bool:
    attempt.status = status
    attempt.error_code = error_code
    attempt.message = message[:MESSAGE_LENGTH]
    attempt.trace_id = trace_id
    updated = SyncAttempt.objects.filter(pk=attempt.pk, status=Status.STARTED).update(
        status=status,
        error_code=error_code,
        message=attempt.message,
        trace_id=trace_id,
        **ends,
    )
    return updated == 1


def log(operation: Operation, *, actor_id: int | None = None, person: str = "") -> None:
    """Write Django's LogEntry for a change of any source. The admin's own logging is off.

    `person` is the name of an author who has no staff account. Then the entry belongs to the
    service user, and its message names the author.
    """
    message = _change_message(operation)
    if person:
        told = LogEntry(change_message=message).get_change_message()
        message = f"{told} " + _("By {person}, at the front end.").format(person=person)
    _log_entry(operation, actor_id or service_user().pk, message).save(force_insert=True)


def _log_entry(operation: Operation, actor_id: int, message: str) -> LogEntry:
    return LogEntry(
        user_id=actor_id,
        content_type_id=ContentType.objects.get_for_model(BuilderUser).pk,
        object_id=str(operation.user_id),
        object_repr=operation.label[:200],
        action_flag=operation.log_flag,
        change_message=message,
    )


def _change_message(operation: Operation) -> str:
    """Return the message, in the JSON that Django's history page translates."""
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
