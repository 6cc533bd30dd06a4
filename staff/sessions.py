"""When a session ends: after a time without a request, and in any case after some days."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

from staff import two_step

STARTED_AT, SEEN_AT = "staff.started_at", "staff.seen_at"
TOUCH_EVERY = 60.0
"""Seconds. A session that was seen within them is not written again."""


@receiver(user_logged_in)
def _start(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    request.session[STARTED_AT] = request.session[SEEN_AT] = time.time()
    request.session[two_step.CODE_DUE] = two_step.is_on(user)


def has_ended(request: HttpRequest) -> bool:
    """Say whether a signed-in session is too old. One without times is from an older version."""
    now, session = time.time(), request.session
    return (
        now - session.get(STARTED_AT, 0) >= settings.SESSION_ABSOLUTE_SECONDS
        or now - session.get(SEEN_AT, 0) >= settings.SESSION_IDLE_SECONDS
    )


def touch(request: HttpRequest) -> None:
    """Record that the session is in use."""
    now = time.time()
    if now - request.session[SEEN_AT] >= TOUCH_EVERY:
        request.session[SEEN_AT] = now
