"""Erase names and addresses from the records: of everybody after KEEP_MONTHS, of one at request.

The records stay: what was done, by which account of staff, when, and how it ended. What people are
called is replaced. Only the details that other decisions stand on are kept; they are ids and times.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from users.clerk import emails
from users.errors import BulkRefused
from users.models import (
    BuilderUser,
    BulkRow,
    BulkRun,
    ClerkAccount,
    Status,
    SyncAttempt,
    WebhookDelivery,
)

ERASED = "(erased)"
KEPT_DETAILS = [
    "account",
    "clerk_invitation_id",
    "ended",
    "password_last_updated_at",
    "reference",
    "replaced",
    "sessions",
    "tries",
    "user_id",
]

_ERASE_ATTEMPTS = """
UPDATE users_syncattempt SET
    label = %(erased)s, message = '', unseen = false,
    actor_name = CASE WHEN actor_name = '' THEN '' ELSE %(erased)s END,
    changes = (
        SELECT coalesce(jsonb_object_agg(key, jsonb_build_array(%(erased)s::text, %(erased)s::text)), '{}')
        FROM jsonb_object_keys(changes) AS key
    ),
    details = (
        SELECT coalesce(jsonb_object_agg(key, value), '{}')
        FROM jsonb_each(details) WHERE key = ANY(%(kept)s)
    )
WHERE id = ANY(%(ids)s)
"""  # noqa: E501


@dataclass(frozen=True)
class Person:
    """Everything that identifies one person in the records."""

    user_ids: frozenset[uuid.UUID]
    clerk_ids: frozenset[str]
    emails: frozenset[str]
    names: frozenset[str]


@dataclass(frozen=True)
class Records:
    """The records to erase."""

    attempts: QuerySet[SyncAttempt]
    rows: QuerySet[BulkRow]
    runs: QuerySet[BulkRun]
    deliveries: QuerySet[WebhookDelivery]
    log: QuerySet[LogEntry]

    def counts(self) -> dict[str, int]:
        """Count the records of each kind that still name somebody."""
        return {
            "changes": self.attempts.count(),
            "rows of bulk runs": self.rows.count(),
            "notes of bulk runs": self.runs.count(),
            "webhook deliveries": self.deliveries.count(),
            "log entries": self.log.count(),
        }

    def erase(self) -> dict[str, int]:
        """Erase them in one transaction; return how many of each kind."""
        with transaction.atomic():
            counts = self.counts()
            ids = list(self.attempts.values_list("pk", flat=True))
            with connection.cursor() as cursor:
                cursor.execute(
                    _ERASE_ATTEMPTS, {"erased": ERASED, "kept": KEPT_DETAILS, "ids": ids}
                )
            self.rows.update(label=ERASED, changes={}, reason="")
            self.runs.update(notes=[])
            self.deliveries.delete()
            self.log.update(object_repr=ERASED, change_message="")
        return counts


def erase_old() -> dict[str, int]:
    """Erase what is older than KEEP_MONTHS; return how many records of each kind."""
    before = _months_ago(timezone.now(), settings.KEEP_MONTHS)
    return Records(
        attempts=_attempts().filter(settled_at__lt=before),
        rows=BulkRow.objects.exclude(label=ERASED).filter(run__finished_at__lt=before),
        runs=BulkRun.objects.exclude(notes=[]).filter(finished_at__lt=before),
        deliveries=WebhookDelivery.objects.filter(received_at__lt=before),
        log=LogEntry.objects.exclude(object_repr=ERASED).filter(action_time__lt=before),
    ).erase()


def person_named(text: str) -> Person:
    """Find a person by an email, the id of a row or a Clerk id, also one who is deleted here.

    Raises `BulkRefused` if no record knows them.
    """
    email, row_id = emails.normalized(text), _uuid(text)
    of_row = [row_id] if row_id else []
    accounts = ClerkAccount.objects.filter(
        Q(clerk_id=text) | Q(email__iexact=email) | Q(addresses__has_key=email)
    )
    users = BuilderUser.objects.filter(
        Q(email__iexact=email) | Q(clerk_id=text) | Q(pk__in=of_row) | Q(account__in=accounts)
    )
    attempts = SyncAttempt.objects.filter(
        Q(clerk_id=text) | Q(user_id__in=of_row) | Q(details__user_id=text)
    )
    user_ids = {*users.values_list("pk", flat=True), *attempts.values_list("user_id", flat=True)}
    clerk_ids = {
        *accounts.values_list("pk", flat=True),
        *users.values_list("clerk_id", flat=True),
        *attempts.values_list("clerk_id", flat=True),
    }
    found = Person(
        user_ids=frozenset(filter(None, [*user_ids, *of_row])),
        clerk_ids=frozenset(filter(None, clerk_ids)),
        emails=frozenset({email} if "@" in email else set())
        | {address for account in accounts for address in account.addresses},
        names=frozenset(users.values_list("name", flat=True)),
    )
    if not any(records_of(found).counts().values()):
        raise BulkRefused(f"No record names {text}.")
    return found


def records_of(person: Person) -> Records:
    """Select the records that name the person.

    Raises `BulkRefused` while a change of theirs is pending or may still reach Clerk: recovery,
    and whoever wants a different value, need its values.
    """
    user_ids = [str(user_id) for user_id in person.user_ids]
    attempts = SyncAttempt.objects.filter(
        Q(user_id__in=person.user_ids)
        | Q(clerk_id__in=person.clerk_ids)
        | Q(actor_clerk_id__in=person.clerk_ids)
        | Q(details__user_id__in=user_ids)
        | _mentions("changes", person.emails)
        | Q(label__in=person.emails)
    )
    if attempts.in_flight().exists():
        raise BulkRefused(
            "A change of this person is pending, or may still reach Clerk. Run this again in a few "
            "minutes."
        )
    return Records(
        attempts=attempts & _attempts(),
        rows=BulkRow.objects.exclude(label=ERASED).filter(
            Q(user_id__in=person.user_ids)
            | Q(clerk_id__in=person.clerk_ids)
            | _mentions("changes", person.emails)
        ),
        runs=BulkRun.objects.filter(_speaks_of("notes", person.emails | person.names)),
        deliveries=WebhookDelivery.objects.filter(
            _mentions("payload", person.clerk_ids | person.emails)
            | Q(clerk_id__in=person.clerk_ids)
        ),
        log=LogEntry.objects.exclude(object_repr=ERASED).filter(
            Q(object_id__in=[*user_ids, *person.clerk_ids])
            | Q(object_repr__in=person.emails | person.names)
        ),
    )


def _attempts() -> QuerySet[SyncAttempt]:
    """Select the ended attempts that still name somebody."""
    return SyncAttempt.objects.exclude(status=Status.STARTED).exclude(label=ERASED)


def _mentions(field: str, texts: frozenset[str]) -> Q:
    """Build the condition that a JSON column contains one of the texts as a whole value."""
    condition = Q(pk__in=[])
    for text in texts:
        condition |= Q(**{f"{field}__icontains": json.dumps(text)})
    return condition


def _speaks_of(field: str, texts: frozenset[str]) -> Q:
    """Build the condition that a sentence in a JSON column contains one of the texts."""
    condition = Q(pk__in=[])
    for text in filter(None, texts):
        condition |= Q(**{f"{field}__icontains": json.dumps(text, ensure_ascii=False)[1:-1]})
    return condition


def _months_ago(moment: datetime, months: int) -> datetime:
    """Return the first moment of the month that is so many months before this one."""
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    return moment.replace(
        year=year, month=month + 1, day=1, hour=0, minute=0, second=0, microsecond=0
    )


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
