"""What operators should know of the two copies, for /readyz/."""

from __future__ import annotations

from users.models import Status, SyncAttempt
from users.sync.mirror.health import status


def lines() -> list[str]:
    """Return plain lines. None of what they say makes the application unable to work."""
    mirror = status()
    return [
        f"open attempts: {SyncAttempt.objects.filter(status=Status.STARTED).count()}",
        f"events: {mirror.events.label}. {mirror.events_text}",
        f"last event: {mirror.last_event_text}",
        f"last refused event: {mirror.refused_text}",
        f"last scan: {mirror.scan_text}",
        f"last checked: {mirror.stale_text}",
    ]
