"""Bulk actions that are killed again and again act on everybody once, here and in Clerk."""

from __future__ import annotations

from collections import Counter

import pytest

from sandbox import Sandbox
from tests.support.factories import BuilderUserFactory, linked
from tests.support.killed_runs import KILLS, ROWS, finished, killed_and_resumed
from users.models import BuilderUser, BulkRow, ClerkAccount, Invitation, SyncAttempt
from users.sync.services.invitation_limit import PER_HOUR


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("action", ["invite", "ban", "sign_out", "delete"])
def test_kills_at_random_moments_lose_nobody(sandbox: Sandbox, action):
    make = BuilderUserFactory if action == "invite" else lambda: linked(sandbox)
    users = [make() for _ in range(ROWS)]
    if action == "sign_out":
        for user in users:
            sandbox.sign_in(user.clerk_id)
    sandbox.latency = 0.02
    confirmed = ["--confirm", str(ROWS)] if action == "delete" else []
    killed_and_resumed(sandbox, "clerk_action", action, "--all", "--no-refresh", *confirmed)
    assert finished(sandbox).state == "finished"
    assert Counter(BulkRow.objects.values_list("state", flat=True)) == {"done": ROWS}
    assert set(BulkRow.objects.values_list("user_id", flat=True)) == {user.pk for user in users}
    assert not SyncAttempt.objects.filter(status="started").exists()
    if action == "invite":
        invited = [one["email_address"] for one in sandbox.invitations()]
        waiting = set(Invitation.objects.filter(status="waiting").values_list("email", flat=True))
        assert len(invited) == len(set(invited)) <= PER_HOUR + KILLS
        assert (set(invited) | waiting, set(invited) & waiting) == (
            {user.email for user in users}, set(),
        )  # fmt: skip
    elif action == "ban":
        assert {account["banned"] for account in sandbox.users()} == {True}
        assert not ClerkAccount.objects.filter(banned=False).exists()
    elif action == "sign_out":
        states = {session["status"] for session in sandbox.state.sessions.values()}
        assert states == {"revoked"}
    else:
        assert (sandbox.users(), BuilderUser.objects.count()) == ([], 0)
        assert not ClerkAccount.objects.filter(deleted_at=None).exists()
