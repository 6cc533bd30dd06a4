"""Stories that the campaign made up and that once ended in something untrue."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from tests.support.change_form import said, submit
from tests.support.events import arrive
from tests.support.factories import linked
from tests.support.interruptions import at_step, in_thread, recover
from users.models import BuilderUser, SyncAttempt
from users.sync.outbound import checkpoints

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_delete_that_recovery_carries_out_meanwhile_is_told_as_done(client, sandbox):
    """The account is gone already, so recovery of the same user finds the delete done."""
    user = linked(sandbox)
    sandbox.delete(user.clerk_id)
    page = reverse("admin:users_builderuser_delete", args=[user.pk])
    with at_step(checkpoints.AFTER_ATTEMPT, lambda: in_thread(recover)):
        response = client.post(page, {"post": "yes"})
    assert "was deleted successfully" in said(response)[0]
    assert not BuilderUser.objects.exists()
    assert SyncAttempt.objects.get().status == "applied"


@pytest.mark.parametrize("seconds", [-7200, -60, 60, 7200])
def test_a_repeated_password_is_known_although_our_clock_is_wrong(
    client, sandbox, monkeypatch, seconds
):
    user = linked(sandbox)
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=seconds))
    page = reverse("admin:users_builderuser_password", args=[user.pk])
    fields = {"password1": "correct horse 1", "password2": "correct horse 1",
              "token": str(uuid.uuid4())}  # fmt: skip
    for _ in range(2):
        assert said(client.post(page, fields)) == ["Clerk has the new password of Mary Ann Smith."]
        client.cookies.pop("messages")
    assert len(sandbox.writes()) == 1
    assert SyncAttempt.objects.count() == 1


@pytest.mark.parametrize("resolve", ["recovery", "event"])
def test_the_same_change_of_two_processes_that_died_is_logged_once(client, sandbox, resolve):
    """Each died in its call, so neither could say that the other one sends the same."""
    user = linked(sandbox)
    arrive(sandbox)

    def die():
        raise SystemExit

    for _ in range(2):
        with at_step(checkpoints.BEFORE_CALL, die), pytest.raises(SystemExit):
            submit(client, user, name="Mary Ann Jones")
    sandbox.edit(user.clerk_id, last_name="Jones")  # the requests land
    if resolve == "recovery":
        recover()
    else:
        assert arrive(sandbox) == ["ok"]
    attempts = list(SyncAttempt.objects.order_by("id"))
    assert [attempt.status for attempt in attempts] == ["applied", "applied"]
    assert [attempt.error_code for attempt in attempts] == ["", "repeated"]
    assert LogEntry.objects.count() == 1
    assert BuilderUser.objects.get().name == "Mary Ann Jones"
