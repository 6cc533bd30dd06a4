"""What operators should know about the mirror of Clerk, for /readyz/."""

from __future__ import annotations

from users.models import Status, SyncAttempt
from users.sync.mirror.health import status


def lines() -> list[str]:
    """Return lines of plain text. Nothing in them means that the application cannot work."""
    mirror = status()
    return [
        f"open attempts: {SyncAttempt.objects.filter(status=Status.STARTED).count()}",
        f"events: {mirror.events.label}. {mirror.events_text}",
        f"last event: {mirror.last_event_text}",
        f"last refused event: {mirror.refused_text}",
        f"last scan: {mirror.scan_text}",
        f"last checked: {mirror.stale_text}",
    ]
