"""Background jobs: delete what nobody needs any more, and mail what was asked for."""

from __future__ import annotations

from django.contrib.sessions.backends.db import SessionStore
from procrastinate.contrib.django import app

from staff import limits, password_reset


@app.periodic(cron="41 3 * * *")
@app.task(queueing_lock="forget_sign_ins")
def forget_sign_ins(timestamp: int) -> None:
    limits.forget_old()
    SessionStore.clear_expired()


@app.task
def mail_password_reset(event_id: int, host: str, secure: bool) -> None:
    password_reset.mail_link(event_id, host=host, secure=secure)
