"""A bulk run that is killed again and again, and resumed each time, ends as one that is not.

`make campaign` does it with 2,000 rows and 20 kills; the suite with fewer.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from sandbox import Sandbox
from tests.commands import start
from tests.factories import change_here, linked
from tests.patience import PATIENCE, wait_until
from users.models import BulkRow, BulkRun, SyncAttempt
from users.sync.bulk.workers import WORKERS

ROWS = int(os.environ.get("BULK_ROWS", "300"))
KILLS = int(os.environ.get("BULK_KILLS", "4"))


def done() -> int:
    return BulkRow.objects.filter(state="done").count()


@pytest.mark.django_db(transaction=True)
def test_kills_at_random_moments_lose_nothing_and_repeat_only_what_was_in_flight(sandbox: Sandbox):
    users = [linked(sandbox, name=f"Mary Ann Smith{n}") for n in range(ROWS)]
    for number, user in enumerate(users):
        change_here(user, name=f"Mary Ann Jones{number}")
    sandbox.latency = 0.02
    arguments = ["clerk_push", "--no-refresh", "--apply", "--rate", "1000",
                 "--max-changes", str(ROWS)]  # fmt: skip
    # Each kill after a random number of the rows that are left then.
    for kill in range(KILLS):
        process = start(sandbox, *arguments)
        left = BulkRow.objects.filter(state="waiting").count() or ROWS
        after = random.randrange(1, max(2, 2 * left // (KILLS - kill + 1)))
        wanted = done() + after
        wait_until(
            lambda: done() >= wanted or process.poll() is not None,  # noqa: B023
            "the run does not go on",
        )
        process.kill()
        process.communicate()
        arguments = ["clerk_push", "--resume", str(BulkRun.objects.get().pk), "--apply",
                     "--rate", "1000"]  # fmt: skip
    final = start(sandbox, *arguments)
    output, _ = final.communicate(timeout=PATIENCE)
    assert final.returncode == 0 or "no row left" in output, output

    for number, user in enumerate(users):
        assert sandbox.user(user.clerk_id)["last_name"] == f"Jones{number}"
    assert BulkRun.objects.get().state == "finished"
    assert BulkRow.objects.exclude(state="done").count() == 0
    assert not SyncAttempt.objects.filter(status="started").exists()
    applied = Counter(
        SyncAttempt.objects.filter(status="applied")
        .exclude(error_code="repeated")
        .values_list("user_id", flat=True)
    )
    assert applied == {user.pk: 1 for user in users}
    repeated = len(sandbox.writes()) - ROWS
    assert 0 <= repeated <= KILLS * WORKERS
