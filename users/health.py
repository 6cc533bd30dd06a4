"""What operators should know of the two copies, for /readyz/."""

from __future__ import annotations

from users.models import Status, SyncAttempt


def lines() -> list[str]:
    return [f"open attempts: {SyncAttempt.objects.filter(status=Status.STARTED).count()}"]
