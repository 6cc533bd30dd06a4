"""Background jobs: delete what nobody needs any more."""

from __future__ import annotations

from django.contrib.sessions.backends.db import SessionStore
from procrastinate.contrib.django import app

from staff import limits


@app.periodic(cron="41 3 * * *")
@app.task(queueing_lock="forget_sign_ins")
def forget_sign_ins(timestamp: int) -> None:
    limits.forget_old()
    SessionStore.clear_expired()
