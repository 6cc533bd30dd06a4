"""Describe the health of the mirror from the tables alone, for every page and command.

The texts are whole sentences, the same on the home page, in `clerk_check` and in `/readyz/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, TextChoices
from django.utils import timezone

from users.models import (
    BulkRun,
    ClerkAccount,
    EventCheck,
    RunStatus,
    WebhookDelivery,
    WebhookRefusal,
)
from users.sync.display import time_text
from users.sync.inbound import deliveries
from users.sync.mirror import newest, scan

LOOK_OVERDUE = timedelta(hours=3)


class Events(TextChoices):
    """Whether Clerk's events reach us."""

    OK = "ok", "ok"
    MISSING = "missing", "missing"
    UNKNOWN = "unknown", "not known"


@dataclass(frozen=True)
class MirrorStatus:
    """What is known about the health of the mirror.

    `failed_scan` is a scan that was started after `last_scan` and did not finish; `stale_users`
    counts linked users that were not checked lately.
    """

    events: Events
    missing_since: datetime | None
    missed: int
    checked_at: datetime | None
    check_problem: str
    last_event_at: datetime | None
    last_event_type: str
    refused: tuple[WebhookRefusal, ...]
    unusable: int
    last_scan: BulkRun | None
    failed_scan: BulkRun | None
    scan_overdue: bool
    stale_users: int

    @property
    def events_text(self) -> str:
        """Return whether changes made in Clerk arrive here, and since when they are missing."""
        if self.events is Events.MISSING:
            return (
                f"Events from Clerk are missing since {_minute(self.missing_since)}: "
                f"{self._missed_text}. Changes made in Clerk are read once an hour until events "
                "arrive again."
            )
        if self.events is Events.OK:
            return (
                f"No change made in Clerk is missing here. Last checked {_minute(self.checked_at)}."
            )
        checked = f"Last checked {_minute(self.checked_at)}." if self.checked_at else ""
        parts = ["It is not known whether changes made in Clerk arrive here.", checked]
        return " ".join(filter(None, [*parts, self.check_problem]))

    @property
    def _missed_text(self) -> str:
        if self.missed == 0:
            return "Clerk has another number of users, and no event said why"
        return f"no event reported the changes of {_users(self.missed)}"

    @property
    def last_event_text(self) -> str:
        """Return which event arrived last, and when."""
        if self.last_event_at is None:
            return "No event has arrived yet."
        return f"{self.last_event_type}, {_minute(self.last_event_at)}."

    @property
    def refused_text(self) -> str:
        """Return when and why events were last refused."""
        texts = [f"{_minute(one.refused_at)}: {one.reason.rstrip('.')}." for one in self.refused]
        return " ".join(texts) or "No event was refused."

    @property
    def unusable_text(self) -> str:
        """Return how many events can never be applied; empty if there are none."""
        if self.unusable == 0:
            return ""
        count = "1 event" if self.unusable == 1 else f"{self.unusable:,} events"
        return f"{count} of the last 30 days can never be applied: Webhook deliveries say why."

    @property
    def scan_text(self) -> str:
        """Return what the last finished scan found, and whether a later one failed."""
        return " ".join(filter(None, [self._finished_scan_text, self._failed_scan_text]))

    @property
    def _finished_scan_text(self) -> str:
        if self.last_scan is None:
            return "No scan of all of Clerk's users has finished yet."
        found = self.last_scan.options
        text = f"{_minute(self.last_scan.finished_at)}: {_users(found.get('seen', 0))}"
        if gone := found.get("gone", 0):
            text += f", {gone} newly found deleted"
        if unreadable := found.get("unreadable", 0):
            text += f", {unreadable} that could not be read"
        return f"{text}."

    @property
    def _failed_scan_text(self) -> str:
        if self.failed_scan is None:
            return ""
        return (
            f"The scan of {_minute(self.failed_scan.started_at)} did not finish. "
            f"{self.failed_scan.message}"
        ).rstrip()

    @property
    def stale_text(self) -> str:
        """Return how many linked users were not checked lately."""
        days = settings.CLERK_STALE_DAYS
        span = "a day" if days == 1 else f"{days} days"
        if self.stale_users == 0:
            return f"All users with a Clerk account were checked within {span}."
        verb = "was" if self.stale_users == 1 else "were"
        return f"{_users(self.stale_users)} {verb} not checked for {span}."


def status() -> MirrorStatus:
    """Return what is known about the health of the mirror, without a request to Clerk."""
    check = EventCheck.objects.first() or EventCheck()
    missing_since = newest.missing_since(check)
    last_event = WebhookDelivery.objects.filter(processed_at__isnull=False).first()
    last_scan = scan.last_finished()
    return MirrorStatus(
        events=_events(check, missing_since),
        missing_since=missing_since,
        missed=check.missed,
        checked_at=check.checked_at,
        check_problem=check.problem,
        last_event_at=last_event.received_at if last_event else None,
        last_event_type=last_event.type if last_event else "",
        refused=tuple(deliveries.last_refused()),
        unusable=deliveries.unusable().count(),
        last_scan=last_scan,
        failed_scan=_failed_after(last_scan),
        scan_overdue=last_scan is None or _before(last_scan.finished_at, stale_before()),
        stale_users=ClerkAccount.objects.filter(where_stale(), user__isnull=False).count(),
    )


def stale_before() -> datetime:
    """Return the time before which a check of an account is too old to rely on."""
    return timezone.now() - timedelta(days=settings.CLERK_STALE_DAYS)


def where_stale(prefix: str = "") -> Q:
    """Build the condition of accounts that were not checked lately, the same as `is_stale`.

    Accounts that were deleted in Clerk are not checked any more.
    """
    return Q(**{f"{prefix}seen_at__lt": stale_before(), f"{prefix}deleted_at": None})


def is_stale(account: ClerkAccount) -> bool:
    """Return whether the account was not checked lately."""
    return account.deleted_at is None and account.seen_at < stale_before()


def _events(check: EventCheck, missing_since: datetime | None) -> Events:
    if missing_since is not None:
        return Events.MISSING
    if _before(check.checked_at, timezone.now() - LOOK_OVERDUE):
        return Events.UNKNOWN
    return Events.OK


def _before(moment: datetime | None, limit: datetime) -> bool:
    return moment is None or moment < limit


def _failed_after(last: BulkRun | None) -> BulkRun | None:
    """Return the newest scan that did not finish, if it was started after the last one that did."""
    newest_scan = BulkRun.objects.filter(command=scan.COMMAND).first()
    if newest_scan is None or newest_scan.state != RunStatus.INTERRUPTED:
        return None
    return newest_scan if last is None or newest_scan.pk > last.pk else None


def _minute(moment: datetime | None) -> str:
    return time_text(moment) if moment else "never"


def _users(count: int) -> str:
    return f"{count:,} user{'' if count == 1 else 's'}"
