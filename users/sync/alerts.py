"""Mail the people in ALERT_EMAILS when something needs them, once, and when it is over.

The worker checks each minute. A worker cannot report its own death, so a web process checks too,
when `/readyz/` is asked.
"""

from __future__ import annotations

import logging
import smtplib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.core.mail import send_mail
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from users.models import Alert, AlertKind, SyncAttempt
from users.sync.mirror import worker
from users.sync.mirror.health import Events, status

logger = logging.getLogger(__name__)

OPEN_FOR = timedelta(hours=1)
EVERY = 60.0
"""Seconds between two checks that one web process starts."""
LOCK = 4_317_288_203
"""Key of the advisory lock: only one process checks at a time."""

SUBJECTS = {
    AlertKind.ATTEMPT: "a change is not confirmed by Clerk for over an hour",
    AlertKind.EVENTS: "events from Clerk are missing",
    AlertKind.SCAN: "the scan of Clerk's users failed",
    AlertKind.WORKER: "the worker does not run",
}
_last_check = -EVERY
_last_check_lock = threading.Lock()


def check() -> None:
    """Mail what is new and what is over, without names and addresses.

    A mail that cannot be sent is tried again at the next check.
    """
    if not settings.ALERT_EMAILS:
        return
    with transaction.atomic(durable=True):
        if not _alone():
            return
        found, known = dict(_problems()), set(Alert.objects.values_list("kind", flat=True))
        for kind in found.keys() - known:
            if _mail(f"Cascade: {SUBJECTS[kind]}", found[kind]):
                Alert.objects.create(kind=kind)
        for name in known - found.keys():
            kind = AlertKind(name)
            if _mail(f"Cascade: over: {SUBJECTS[kind]}", "This is over. There is nothing to do."):
                Alert.objects.filter(kind=kind).delete()


def check_in_background() -> None:
    """Start a check in a thread, at most once a minute in this process. The caller does not wait.

    A mail server may take seconds to answer.
    """
    global _last_check
    if not settings.ALERT_EMAILS:
        return
    with _last_check_lock:
        if time.monotonic() - _last_check < EVERY:
            return
        _last_check = time.monotonic()
    threading.Thread(target=_check_alone, name="alerts", daemon=True).start()


def _check_alone() -> None:
    try:
        check()
    except DatabaseError as error:
        logger.warning("What needs people could not be checked: %s", error)
    finally:
        connection.close()


def _alone() -> bool:
    """Return whether no other process is checking. The lock is held until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def _problems() -> Iterator[tuple[AlertKind, str]]:
    """Yield what needs people, with a text that says what to do."""
    overdue = SyncAttempt.objects.pending().filter(started_at__lt=timezone.now() - OPEN_FOR)
    if count := overdue.count():
        changes = "1 change is" if count == 1 else f"{count} changes are"
        yield (
            AlertKind.ATTEMPT,
            f"{changes} not confirmed for over an hour. Open the list of changes in the admin: "
            "each says why it could not be resolved.",
        )
    mirror = status()
    if mirror.events is Events.MISSING:
        yield AlertKind.EVENTS, f"{mirror.events_text} docs/events.md says what to look at."
    if mirror.failed_scan is not None:
        yield (
            AlertKind.SCAN,
            f"{mirror.scan_text} The worker tries again; manage.py clerk_diff --refresh scans now.",
        )
    workers = worker.status()
    if not workers.alive:
        yield AlertKind.WORKER, workers.text


def _mail(subject: str, text: str) -> bool:
    """Send a mail; return whether the mail server took it."""
    try:
        send_mail(subject, f"{text}\n", None, settings.ALERT_EMAILS)
    except (OSError, smtplib.SMTPException) as error:
        logger.warning("An alert could not be mailed: %s", type(error).__name__)
        return False
    return True
