"""Describe the health of the mirror from the tables alone, for every page and command.

The texts are whole sentences, the same on the home page, in `clerk_check` and in `/readyz/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, TextChoices
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

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
            return self._missing_text
        checked = _("Last checked {when}.").format(when=_minute(self.checked_at))
        if self.events is Events.OK:
            return " ".join([_("No change made in Clerk is missing here."), checked])
        parts = [_("It is not known whether changes made in Clerk arrive here.")]
        if self.checked_at:
            parts.append(checked)
        return " ".join(filter(None, [*parts, self.check_problem]))

    @property
    def _missing_text(self) -> str:
        again = _("Changes made in Clerk are read once an hour until events arrive again.")
        if self.missed == 0:
            missing = _(
                "Events from Clerk are missing since {since}: Clerk has another number of users, "
                "and no event said why."
            )
        else:
            missing = ngettext(
                "Events from Clerk are missing since {since}: no event reported the changes of "
                "{count:,} user.",
                "Events from Clerk are missing since {since}: no event reported the changes of "
                "{count:,} users.",
                self.missed,
            )
        since = _minute(self.missing_since)
        return f"{missing.format(since=since, count=self.missed)} {again}"

    @property
    def last_event_text(self) -> str:
        """Return which event arrived last, and when."""
        if self.last_event_at is None:
            return _("No event has arrived yet.")
        return f"{self.last_event_type}, {_minute(self.last_event_at)}."

    @property
    def refused_text(self) -> str:
        """Return when and why events were last refused."""
        texts = [f"{_minute(one.refused_at)}: {one.reason.rstrip('.')}." for one in self.refused]
        return " ".join(texts) or _("No event was refused.")

    @property
    def unusable_text(self) -> str:
        """Return how many events can never be applied; empty if there are none."""
        if self.unusable == 0:
            return ""
        return ngettext(
            "{count:,} event of the last 30 days can never be applied: Webhook deliveries say why.",
            "{count:,} events of the last 30 days can never be applied: Webhook deliveries say "
            "why.",
            self.unusable,
        ).format(count=self.unusable)

    @property
    def scan_text(self) -> str:
        """Return what the last finished scan found, and whether a later one failed."""
        return " ".join(filter(None, [self._finished_scan_text, self._failed_scan_text]))

    @property
    def _finished_scan_text(self) -> str:
        if self.last_scan is None:
            return _("No scan of all of Clerk's users has finished yet.")
        found = self.last_scan.options
        text = f"{_minute(self.last_scan.finished_at)}: {_users(found.get('seen', 0))}"
        if gone := found.get("gone", 0):
            text += ", " + _("{count} newly found deleted").format(count=gone)
        if unreadable := found.get("unreadable", 0):
            text += ", " + _("{count} that could not be read").format(count=unreadable)
        return f"{text}."

    @property
    def _failed_scan_text(self) -> str:
        if self.failed_scan is None:
            return ""
        failed = _("The scan of {when} did not finish.").format(
            when=_minute(self.failed_scan.started_at)
        )
        return f"{failed} {self.failed_scan.message}".rstrip()

    @property
    def stale_text(self) -> str:
        """Return how many linked users were not checked lately."""
        days = settings.CLERK_STALE_DAYS
        span = _("a day") if days == 1 else ngettext("{n} day", "{n} days", days).format(n=days)
        if self.stale_users == 0:
            return _("All users with a Clerk account were checked within {span}.").format(span=span)
        return ngettext(
            "{count:,} user was not checked for {span}.",
            "{count:,} users were not checked for {span}.",
            self.stale_users,
        ).format(count=self.stale_users, span=span)


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
    return time_text(moment) if moment else _("never")


def _users(count: int) -> str:
    return ngettext("{count:,} user", "{count:,} users", count).format(count=count)
