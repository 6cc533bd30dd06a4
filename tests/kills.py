"""Bulk runs that are killed again and again, and resumed each time."""

from __future__ import annotations

import random
from collections.abc import Callable

from sandbox import Sandbox
from tests.commands import start
from tests.patience import PATIENCE, wait_until
from users.models import BulkRow, BulkRun
from users.sync.bulk.run import bring_up_to_date


def killed_and_resumed(
    sandbox: Sandbox,
    arguments: list[str],
    *,
    rows: int,
    kills: int,
    resume: Callable[[BulkRun], list[str]],
) -> None:
    """Run a command, kill it at random moments, and resume it each time until it has ended."""
    for kill in range(kills):
        process = start(sandbox, *arguments)
        left = BulkRow.objects.filter(state="waiting").count() or rows
        wanted = _done() + random.randrange(1, max(2, 2 * left // (kills - kill + 1)))
        wait_until(
            lambda: _done() >= wanted or process.poll() is not None,  # noqa: B023
            "the run does not go on",
        )
        process.kill()
        process.communicate()
        wait_until(_is_over, "the database does not notice that the process is gone")
        arguments = resume(BulkRun.objects.get())
    final = start(sandbox, *arguments)
    output, _ = final.communicate(timeout=PATIENCE)
    assert final.returncode == 0 or "no row left" in output, output


def _done() -> int:
    return BulkRow.objects.filter(state="done").count()


def _is_over() -> bool:
    bring_up_to_date()
    return not BulkRun.objects.filter(state="running").exists()
