"""Workers of procrastinate: one that works, and rows that its models let nobody make."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from unittest import mock

from django.core.management import call_command
from django.db import connection
from procrastinate.contrib.django import app


def work() -> None:
    """Let a worker do what is deferred, without the jobs that it makes by the clock.

    It has a thread of its own: the browser of other tests keeps an event loop in this one.
    """
    with (
        mock.patch.object(app.periodic_registry, "periodic_tasks", {}),
        ThreadPoolExecutor(1) as thread,
    ):
        thread.submit(_work).result()


def _work() -> None:
    call_command("procrastinate", "worker", "--one-shot")
    connection.close()


def heartbeat(*, ago: timedelta = timedelta()) -> None:
    """Make one worker whose last heartbeat is that old, in place of all others."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - %s)", [ago]
        )


def no_worker() -> None:
    """Remove all workers."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
