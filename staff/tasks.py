"""Background jobs of the staff sign-in."""

from __future__ import annotations

from django.contrib.sessions.backends.db import SessionStore
from procrastinate.contrib.django import app

from staff import limits, password_reset


@app.periodic(cron="41 3 * * *")
@app.task(queueing_lock="forget_sign_ins")
def forget_sign_ins(timestamp: int) -> None:
    """Delete old sign-in events and expired sessions, once a day."""
    limits.forget_old()
    SessionStore.clear_expired()


@app.task
def mail_password_reset(event_id: int, host: str, secure: bool) -> None:
    """Mail the link for a new password; see `password_reset.mail_link`."""
    password_reset.mail_link(event_id, host=host, secure=secure)
