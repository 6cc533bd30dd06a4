"""Begin and end the sessions of staff.

A session ends after a time without a request, at the latest after some days. It also ends when the
user turns on two-step sign-in in another session.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
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


def page_of(request: HttpRequest) -> str:
    """Return the address of the page that was requested, or on which the sent form stands.

    A form cannot be sent again by an address, but its page can be opened again. That is the page
    which the browser names, if it is one of ours, else the index.
    """
    if request.method != "POST":
        return request.get_full_path()
    named = request.headers.get("Referer", "")
    if url_has_allowed_host_and_scheme(
        named, {request.get_host()}, require_https=request.is_secure()
    ):
        page = urlsplit(named)._replace(scheme="", netloc="", fragment="").geturl()
        if url_has_allowed_host_and_scheme(page, None):  # //evil.example/ would be another host
            return page
    return reverse("admin:index")
