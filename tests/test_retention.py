"""Names and addresses stay in the records for a while, and one person's can be erased."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core import serializers
from django.utils import timezone

from tests.support.change_form import stored, submit
from tests.support.commands import run
from tests.support.factories import SyncAttemptFactory, linked
from users import tasks
from users.models import BulkRow, BulkRun, SyncAttempt, WebhookDelivery

pytestmark = pytest.mark.django_db(transaction=True)


def told() -> str:
    """Return everything that the records say, as text."""
    records = [
        *SyncAttempt.objects.all(),
        *BulkRow.objects.all(),
        *WebhookDelivery.objects.all(),
        *LogEntry.objects.all(),
    ]
    return serializers.serialize("json", records)


@pytest.fixture
def renamed(client, sandbox):
    """A user who was renamed by staff, by a bulk run, and by an event that could not be applied."""
    user = linked(sandbox, name="Mary Ann Smith", email="mary@example.com")
    assert submit(client, user, name="Mary Ann Jones").status_code == 302
    bulk = BulkRun.objects.create(
        command="clerk_push", state="finished", finished_at=timezone.now()
    )
    BulkRow.objects.create(
        run=bulk, position=0, user=user, label="Mary Ann Jones", operation="push_name",
        changes={"name": ["Mary Ann Smith", "Mary Ann Jones"]}, state="done",
    )  # fmt: skip
    WebhookDelivery.objects.create(
        pk="msg_1",
        type="user.updated",
        payload={"data": {"id": user.clerk_id, "first_name": "Mary Ann"}},
        processed_at=timezone.now(),
    )
    return stored(user)


def grow_old(days: int) -> None:
    """Move all records into the past."""
    past = timezone.now() - timedelta(days=days)
    SyncAttempt.objects.exclude(status="started").update(started_at=past, settled_at=past)
    SyncAttempt.objects.filter(status="started").update(started_at=past)
    BulkRun.objects.update(finished_at=past)
    WebhookDelivery.objects.update(received_at=past)
    LogEntry.objects.update(action_time=past)


def test_names_are_erased_after_the_months_and_the_records_stay(renamed, settings, staff):
    settings.KEEP_MONTHS = 24
    grow_old(days=600)
    tasks.erase_old_names(0)
    assert "Mary Ann Jones" in told()
    grow_old(days=24 * 31 + 31)
    tasks.erase_old_names(0)
    for text in ("Mary", "Smith", "Jones", "mary@example.com"):
        assert text not in told()
    attempt = SyncAttempt.objects.get()
    assert (attempt.actor, attempt.operation, attempt.status) == (staff, "update", "applied")
    assert attempt.changes == {"name": ["(erased)", "(erased)"]}
    assert LogEntry.objects.get().user == staff
    assert renamed.name == "Mary Ann Jones"


def test_a_pending_change_is_never_erased(settings):
    attempt = SyncAttemptFactory(
        label="Mary Ann Smith", status="started", settled_at=None, changes={"name": ["a", "b"]}
    )
    grow_old(days=10_000)
    tasks.erase_old_names(0)
    attempt.refresh_from_db()
    assert (attempt.label, attempt.changes) == ("Mary Ann Smith", {"name": ["a", "b"]})


@pytest.mark.parametrize("by", ["email", "clerk_id", "pk"])
def test_one_person_is_erased_from_all_records_and_nobody_else(renamed, client, sandbox, by):
    other = linked(sandbox, name="Tom Miller", email="tom@example.com")
    assert submit(client, other, name="Tom Brown").status_code == 302
    who = str(getattr(renamed, by))
    code, out = run("forget_person", who)
    assert (code, "Nothing was changed." in out) == (0, True)
    assert "Mary Ann Jones" in told()
    code, out = run("forget_person", who, "--apply")
    assert code == 0, out
    for text in ("Mary", "Smith", "Jones", "mary@example.com"):
        assert text not in told()
    assert "Tom Brown" in told()
    assert SyncAttempt.objects.count() == 2
    assert "1 changes" in out


def test_a_person_whose_change_is_pending_is_not_erased(renamed):
    SyncAttemptFactory(user=renamed, clerk_id=renamed.clerk_id, status="started", settled_at=None)
    code, out = run("forget_person", renamed.email, "--apply")
    assert (code, "is pending" in out) == (1, True)
    assert "Mary Ann Jones" in told()


def test_an_unknown_person_is_said(db):
    code, out = run("forget_person", "nobody@example.com", "--apply")
    assert (code, "No record names nobody@example.com." in out) == (1, True)


def test_the_history_page_of_an_erased_user_opens(renamed, client):
    run("forget_person", renamed.email, "--apply")
    assert client.get(f"{renamed.get_absolute_url()[:-7]}history/").status_code == 200
    attempt = SyncAttempt.objects.get()
    page = client.get(f"/admin/users/syncattempt/{attempt.pk}/change/")
    assert page.status_code == 200
    assert json.dumps(attempt.changes)


def test_a_change_that_may_still_reach_clerk_keeps_its_values(sandbox):
    """Whoever wants another name must wait for it, and so must know it."""
    user = linked(sandbox)
    changes = {"name": ["Mary Ann Smith", "Mary Ann Jones"]}
    late = SyncAttemptFactory(
        user=user, status="dropped", settled_at=timezone.now(), changes=changes,
        late_until=timezone.now() + timedelta(minutes=2),
    )  # fmt: skip
    code, out = run("forget_person", user.email, "--apply")
    assert (code, "may still reach Clerk" in out) == (1, True), out
    late.refresh_from_db()
    assert late.changes == changes
