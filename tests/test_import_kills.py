"""An import that is killed again and again makes every person once, here and in Clerk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import Sandbox
from tests.kills import killed_and_resumed
from users.models import BuilderUser, BulkRow, BulkRun, Invitation, SyncAttempt
from users.sync.invitations import PER_HOUR

ROWS = int(os.environ.get("IMPORT_ROWS", "60"))
KILLS = int(os.environ.get("IMPORT_KILLS", "3"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("sign_in", ["create", "invite", "none"])
def test_kills_at_random_moments_make_nobody_twice(sandbox: Sandbox, tmp_path: Path, sign_in):
    file = tmp_path / "people.csv"
    lines = [f"new{n}@example.com,Ann Lee{n}" for n in range(ROWS)]
    file.write_text("\n".join(["email,name", *lines]))
    sandbox.latency = 0.02
    arguments = ["import_users", str(file), "--sign-in", sign_in, "--no-refresh", "--apply"]
    killed_and_resumed(
        sandbox, [*arguments, "--rate", "1000", "--max-changes", str(ROWS)],
        rows=ROWS, kills=KILLS,
        resume=lambda run: ["import_users", "--resume", str(run.pk), "--apply", "--no-refresh",
                            "--rate", "1000"],
    )  # fmt: skip
    emails = {f"new{n}@example.com" for n in range(ROWS)}
    rows = {user.email: user for user in BuilderUser.objects.all()}
    assert (set(rows), BuilderUser.objects.count()) == (emails, ROWS)
    assert BulkRun.objects.get().state == "finished"
    assert not BulkRow.objects.exclude(state="done").exists()
    assert not SyncAttempt.objects.filter(status="started").exists()
    accounts = {account["id"]: account for account in sandbox.users()}
    invited = [one["email_address"] for one in sandbox.invitations()]
    if sign_in == "create":
        assert len(accounts) == ROWS
        for user in rows.values():
            assert accounts[user.clerk_id]["public_metadata"] == {"cascade_user_id": str(user.pk)}
    elif sign_in == "invite":
        waiting = set(Invitation.objects.filter(status="waiting").values_list("email", flat=True))
        assert len(invited) == len(set(invited)) <= PER_HOUR + KILLS
        assert (set(invited) | waiting, set(invited) & waiting) == (emails, set())
        assert Invitation.objects.count() == ROWS
    else:
        assert not accounts
        assert not invited
