"""Check whether events arrive: once an hour the worker reads the newest changes from Clerk.

An event reports a change within seconds. If Clerk shows a change that the mirror does not have
after ten minutes, no event reported it: events are missing. Everything that is read is stored, so
the gap is closed at the same time.

A sign-in also changes `updated_at`. It is stored, but it does not prove that an event is missing:
many endpoints do not receive `session.created`.

The list cannot show which users were deleted, but the number of users can show that one was. If it
differs from ours twice, ten minutes apart, a scan is requested.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from users.clerk import BULK_SHARE, Clerk, ClerkUser, Deadline, UserPage, clerk
from users.errors import ClerkError, ClerkUnknown
from users.models import BulkRun, ClerkAccount, EventCheck, WebhookDelivery
from users.slots import shared_pace
from users.sync.inbound.reconcile import reconcile_due
from users.sync.mirror import instance, scan, store

logger = logging.getLogger(__name__)

EVERY = timedelta(hours=1)
RETRY_AFTER = timedelta(minutes=10)
"""Pause after a check that failed, or whose process died."""
TOLD_WITHIN = timedelta(minutes=10)
PAGE, OVERLAP = 500, 10
PAGE_SECONDS = 30.0
FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Found:
    """Result of one check.

    `missed` counts accounts whose change no event reported; `difference` is how many users Clerk
    has more than the mirror.
    """

    at: datetime
    missed: int
    difference: int


def look_if_due() -> None:
    """Check the newest changes if an hour has passed since the last check.

    Before the first complete scan the mirror is known to be incomplete, so there is nothing to
    compare with.
    """
    last_scan = scan.last_finished()
    if last_scan is None or not settings.CLERK_SECRET_KEY:
        return
    check = _claim()
    if check is None:
        return
    try:
        # Slowly: a bulk run at the same time should hardly notice.
        client = clerk().paced(shared_pace(settings.CLERK_RATE_LIMIT * (1 - BULK_SHARE)))
        found = _look(client, known_until=max(check.checked_at or FIRST, last_scan.started_at))
    except ClerkError as error:
        logger.warning("The newest changes could not be read from Clerk: %s", error.summary)
        EventCheck.objects.filter(pk=check.pk).update(problem=f"{error.summary}.")
    else:
        _record(check, found, last_scan)


def missing_since(check: EventCheck) -> datetime | None:
    """Return since when events are missing, None while they arrive.

    They arrive again when the last check found nothing missing, or when an event about a user has
    arrived since.
    """
    if check.missed_since is None or check.missed_at is None:
        return None
    later = WebhookDelivery.objects.filter(
        received_at__gt=check.missed_at, type__startswith="user."
    )
    return None if later.exists() else check.missed_since


def _claim() -> EventCheck | None:
    """Claim the check if it is due, so that no other worker makes it too; None if it is not due."""
    EventCheck.objects.get_or_create(pk=1)
    now = timezone.now()
    due = EventCheck.objects.filter(pk=1, next_at__lte=now)
    if not due.update(next_at=now + RETRY_AFTER):
        return None
    return EventCheck.objects.get(pk=1)


# --- Looking -------------------------------------------------------------------------------------


def _look(client: Clerk, *, known_until: datetime) -> Found:
    """Read and store the changes since `known_until`, and older ones that the mirror does not have.

    Raises `ClerkError`.
    """
    _require_our_instance(client)
    now, missed = timezone.now(), 0
    for page in _pages(client):
        new = _new_states(page.users, before=now - TOLD_WITHIN)
        missed += sum(_is_missed(account, known) for account, known in new)
        store.keep_all(page.users)
        if not new and _oldest_change(page) < known_until - TOLD_WITHIN:
            break
    reconcile_due()
    users = client.count_users(deadline=Deadline(PAGE_SECONDS))
    ours = ClerkAccount.objects.filter(deleted_at=None).count()
    return Found(now, missed, users - ours)


def _require_our_instance(client: Clerk) -> None:
    """Raise `ClerkUnknown` before accounts of another instance are stored among ours."""
    answering, ours = client.get_instance(deadline=Deadline(PAGE_SECONDS)), instance.remembered()
    if ours is None or ours.instance_id != answering.id:
        raise ClerkUnknown(
            _(
                "CLERK_SECRET_KEY belongs to the Clerk instance {answering}, which is not the one "
                "that has our users"
            ).format(answering=answering.id)
        )


def _pages(client: Clerk) -> Iterator[UserPage]:
    """Yield the pages, newest change first.

    A deletion moves users to the page before, so the pages overlap.
    """
    offset = 0
    while True:
        page = client.list_changed_users(offset=offset, limit=PAGE, deadline=Deadline(PAGE_SECONDS))
        yield page
        if page.size < PAGE:
            return
        offset += PAGE - OVERLAP


State = tuple[ClerkUser, ClerkAccount | None]


def _new_states(accounts: Sequence[ClerkUser], *, before: datetime) -> list[State]:
    """Return the accounts whose state the mirror should have but does not, each with its record.

    A state from after `before` may still be on its way to us.
    """
    stored = ClerkAccount.objects.in_bulk([account.id for account in accounts])
    states = [(account, stored.get(account.id)) for account in accounts]
    return [state for state in states if _is_new(*state) and _happened_at(*state) < before]


def _is_new(account: ClerkUser, known: ClerkAccount | None) -> bool:
    if known is None or known.clerk_updated_at is None:
        return True
    return account.updated_at is not None and account.updated_at > known.clerk_updated_at


def _happened_at(account: ClerkUser, known: ClerkAccount | None) -> datetime:
    """Return when an event should have reported this state: the creation for an unknown account."""
    moment = account.created_at if known is None else account.updated_at
    return moment or FIRST


def _is_missed(account: ClerkUser, known: ClerkAccount | None) -> bool:
    return known is None or _told(account) != _told(known)


def _told(state: ClerkUser | ClerkAccount) -> tuple[object, ...]:
    """Return the values that an event reports.

    A lock is not one of them: it ends by itself, without an event.
    """
    return (
        state.email,
        state.email_verified,
        state.first_name,
        state.last_name,
        state.banned,
        state.two_factor_enabled,
        state.password_enabled,
        sorted(state.providers),
    )


def _oldest_change(page: UserPage) -> datetime:
    return min((account.updated_at or FIRST for account in page.users), default=FIRST)


# --- Recording -----------------------------------------------------------------------------------


def _record(check: EventCheck, found: Found, last_scan: BulkRun) -> None:
    """Store the findings, whether a scan is wanted, and the time of the next check."""
    since = _difference_since(check, found)
    in_doubt = since is not None and found.at - since < TOLD_WITHIN
    # A difference that remains after a complete scan is not about events.
    lost = since is not None and not in_doubt and last_scan.started_at < since
    missing = found.missed > 0 or lost
    values: dict[str, object] = {
        "next_at": found.at + (TOLD_WITHIN if in_doubt else EVERY),
        "checked_at": found.at,
        "problem": "",
        "missed_since": (missing_since(check) or found.at) if missing else None,
        "difference": found.difference,
        "difference_since": since,
        "scan_wanted_at": since if lost else None,
    }
    if missing:
        values |= {"missed_at": found.at, "missed": found.missed}
        logger.warning(
            "Changes made in Clerk do not arrive: %s accounts, and %s users more or less than here",
            found.missed,
            abs(found.difference),
        )
    EventCheck.objects.filter(pk=check.pk).update(**values)


def _difference_since(check: EventCheck, found: Found) -> datetime | None:
    """Return since when the number of users differs by this much, None if it does not differ."""
    if found.difference == 0:
        return None
    if check.difference_since is None or check.difference != found.difference:
        return found.at
    return check.difference_since
