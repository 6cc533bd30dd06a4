"""Begin and end the sessions of staff.

A session ends after a time without a request, at the latest after some days. It also ends when the
user turns on two-step sign-in in another session.
"""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest
from django_otp import DEVICE_ID_SESSION_KEY

from staff import two_step

STARTED_AT, SEEN_AT = "staff.started_at", "staff.seen_at"
TOUCH_EVERY = 60.0
"""Seconds between two writes of a session that is in use."""


@receiver(user_logged_in)
def _start(sender: Any, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Give the session a new key and new times.

    Django keeps the key of a session that already has the same user, even if the session has ended.
    A person who knows the old key would be signed in again.
    """
    request.session.cycle_key()
    request.session.pop(DEVICE_ID_SESSION_KEY, None)
    request.session[STARTED_AT] = request.session[SEEN_AT] = time.time()
    request.session[two_step.CODE_DUE] = two_step.is_on(user)


def has_ended(request: HttpRequest) -> bool:
    """Return whether a signed-in session is no longer valid.

    A session without times was made by an older version, and has ended.
    """
    now, session = time.time(), request.session
    return (
        now - session.get(STARTED_AT, 0) >= settings.SESSION_ABSOLUTE_SECONDS
        or now - session.get(SEEN_AT, 0) >= settings.SESSION_IDLE_SECONDS
        or two_step.was_turned_on_since(request)
    )


def touch(request: HttpRequest) -> None:
    """Record that the session is in use."""
    now = time.time()
    if now - request.session[SEEN_AT] >= TOUCH_EVERY:
        request.session[SEEN_AT] = now
