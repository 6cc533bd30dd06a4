"""Names and addresses stay in the records for a while, and one person's can be erased."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.core import serializers
from django.utils import timezone

from tests.support.change_form import stored, submit
from tests.support.commands import run
from tests.support.factories import BuilderUserFactory, SyncAttemptFactory, linked
from tests.support.unknown import time_is_over
from users import tasks
from users.clerk import ClerkUser
from users.models import BuilderUser, BulkRow, BulkRun, SyncAttempt, WebhookDelivery
from users.sync.mirror import store

pytestmark = pytest.mark.django_db(transaction=True)


def told() -> str:
    """Return everything that the records say, as text."""
    records = [
        *BulkRun.objects.all(),
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


def test_what_a_bulk_command_leaves_out_is_not_stored(sandbox):
    linked(sandbox)
    BuilderUserFactory(name="Mary Ann Smith", email="mary@example.com")
    out = run("clerk_action", "ban", "--all", "--no-refresh", "--apply")[1]
    assert "Mary Ann Smith (mary@example.com)" in out
    assert "mary@example.com" not in told()


UNDOABLE = {
    "clerk_link": ["clerk_link", "--no-refresh", "--apply"],
    "update_users": ["update_users", "people.csv", "--no-refresh", "--apply"],
    "clerk_action": ["clerk_action", "ban", "--all", "--no-refresh", "--apply"],
}


@pytest.mark.parametrize("name", UNDOABLE)
def test_a_run_whose_people_were_erased_is_not_undone(sandbox, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name == "clerk_link":
        user = BuilderUserFactory(email="mary@example.com")
        store.keep(ClerkUser.parse(sandbox.add_user(email=user.email)))
    else:
        user = linked(sandbox, email="mary@example.com")
    Path("people.csv").write_text(f"id,name\n{user.pk},Mary Roe\n")
    assert run(*UNDOABLE[name])[0] == 0
    time_is_over()
    assert run("forget_person", "mary@example.com", "--apply")[0] == 0
    bulk = BulkRun.objects.filter(command=name).get()
    before = BuilderUser.objects.values().get()
    code, out = run(name, "--undo", str(bulk.pk), "--no-refresh", "--apply")
    assert (code, "Nothing to do." in out) == (0, True), out
    assert "(erased) cannot be undone: what it changed was erased from the records." in out
    assert BuilderUser.objects.values().get() == before


UNDONE = {
    "create": ["import_users", "people.csv", "--sign-in", "create", "--no-refresh"],
    "invite": ["import_users", "people.csv", "--sign-in", "invite", "--no-refresh"],
    "none": ["import_users", "people.csv", "--sign-in", "none", "--no-refresh"],
    "update": ["update_users", "people.csv", "--no-refresh"],
    "ban": ["clerk_action", "ban", "--all", "--no-refresh"],
    "delete": ["clerk_action", "delete", "--all", "--no-refresh", "--confirm", "2"],
    "email": ["update_users", "people.csv", "--no-refresh", "--new-address", "replace"],
}


@pytest.mark.parametrize("name", UNDONE)
def test_a_row_that_was_erased_is_not_carried_out(sandbox, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    people = ["email,name", "ann@example.com,Ann Lee", "bob@example.com,Bob Ray"]
    users = []
    if UNDONE[name][0] != "import_users":
        users = [linked(sandbox) for _ in range(2)]
        people = ["id,name,email" if name == "email" else "id,name"]
        people += [f"{user.pk},Ann Lee,new{n}@example.com" for n, user in enumerate(users)]
    if name == "update":
        people = [line.rpartition(",")[0] if n else line for n, line in enumerate(people)]
    Path("people.csv").write_text("\n".join(people))
    code, out = run(*UNDONE[name], "--apply", "--limit", "1")
    assert code == 2, out
    grow_old(days=24 * 31 + 31)
    time_is_over()
    tasks.erase_old_names(0)
    before = list(BuilderUser.objects.order_by("pk").values())
    sandbox.clear_requests()
    bulk = BulkRun.objects.filter(rows__isnull=False).distinct().get()
    flags = ["--confirm", "1"] if name == "delete" else []
    code, out = run(bulk.command, "--resume", str(bulk.pk), "--apply", *flags)
    assert code == 2, out
    assert "What it would change was erased from the records." in out
    assert list(BuilderUser.objects.order_by("pk").values()) == before
    assert not sandbox.writes()
    assert bulk.rows.filter(state="skipped").exists()


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
