"""Start scans from the worker: one each night, and when the mirror is incomplete."""

from __future__ import annotations

import logging
from datetime import datetime, time, timedelta

from django.conf import settings
from django.utils import timezone

from users.clerk import BULK_SHARE, clerk
from users.errors import BulkRefused, ClerkError
from users.models import BulkRun, ClerkAccount, EventCheck
from users.slots import shared_pace
from users.sync.bulk.lock import one_at_a_time
from users.sync.mirror import scan

logger = logging.getLogger(__name__)

RETRY_AFTER = timedelta(hours=1)
"""Pause after the start of a scan, even a failed one: each scan reads all of Clerk."""


def scan_if_due() -> None:
    """Scan if a scan is due. While other bulk work runs, the scan stays due."""
    if not is_due():
        return
    try:
        with one_at_a_time():
            if is_due():  # another worker may have scanned before we got the lock
                _scan()
    except BulkRefused as taken:
        logger.info("The scan of Clerk's users waits: %s", taken)


def is_due() -> bool:
    """Return whether a scan is due.

    That is so when no scan has finished since the last `CLERK_SCAN_AT`, when the mirror is empty,
    and when the number of users shows that a deletion was not seen. An empty `CLERK_SCAN_AT`
    switches all of them off. The answer comes from the tables alone, so a scan that was missed
    while no worker ran is made up for.
    """
    if settings.CLERK_SCAN_AT is None or not settings.CLERK_SECRET_KEY:
        return False
    now = timezone.now()
    if BulkRun.objects.filter(command=scan.COMMAND, started_at__gt=now - RETRY_AFTER).exists():
        return False
    last = scan.last_finished()
    if last is None or last.finished_at is None or not ClerkAccount.objects.exists():
        return True
    if last.finished_at < _last_time(settings.CLERK_SCAN_AT, now):
        return True
    return EventCheck.objects.filter(scan_wanted_at__gt=last.started_at).exists()


def _last_time(at: time, now: datetime) -> datetime:
    """Return the last moment at which it was this time of the day."""
    today = datetime.combine(now.astimezone(at.tzinfo), at)
    return today if today <= now else today - timedelta(days=1)


def _scan() -> None:
    try:
        scan.scan(clerk().paced(shared_pace(settings.CLERK_RATE_LIMIT * BULK_SHARE)))
    except (BulkRefused, ClerkError) as failure:  # the run holds the reason
        logger.warning("The scan of Clerk's users failed: %s", failure)
