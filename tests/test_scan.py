"""A look at all of Clerk's users: nobody missed, nobody taken for gone who is there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from sandbox import Sandbox
from tests.support.commands import run
from tests.support.factories import BuilderUserFactory, change_here, linked
from users.clerk import ClerkUser, clerk
from users.errors import BulkRefused, ClerkError
from users.models import BulkRun, ClerkAccount
from users.slots import shared_pace
from users.sync import maintenance
from users.sync.mirror import scan as scanning
from users.sync.mirror import store

pytestmark = pytest.mark.django_db(transaction=True)

DAY = 86_400_000


def scan(**options) -> scanning.Scan:
    return scanning.scan(clerk().paced(shared_pace(1000)), **options)


def fill(sandbox: Sandbox, count: int) -> list[str]:
    """People who have signed up over the years, many in the same millisecond."""
    return sandbox.fill(
        count,
        lambda n: {
            "email": f"m{n}@example.com",
            "first_name": "Mary",
            "last_name": f"Smith{n}",
            "created_at": 1_600_000_000_000 + (n // 3) * DAY // 4,
        },
    )


def known() -> set[str]:
    return set(ClerkAccount.objects.filter(deleted_at=None).values_list("pk", flat=True))


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(scanning, "PAGE", 7)


@pytest.mark.parametrize("windows", [1, 3, 4])
def test_everybody_is_seen_in_every_number_of_windows(sandbox, small_pages, windows):
    ids = fill(sandbox, 100)
    for _ in range(2):  # the second time the windows are cut by what is known
        assert scan(windows=windows) == scanning.Scan(100, (), 0)
        assert known() == set(ids)
    newest = ClerkAccount.objects.get(email="m99@example.com")
    assert (newest.first_name, newest.last_name, newest.email_verified) == ("Mary", "Smith99", True)
    assert BulkRun.objects.filter(command="scan", state="finished").count() == 2


def test_an_empty_instance(sandbox):
    assert scan() == scanning.Scan(0, (), 0)


def test_the_pages_are_few(sandbox):
    fill(sandbox, 1200)
    scan(windows=1)
    lists = [request for request in sandbox.requests() if request.path == "/users"]
    assert len(lists) <= 5  # three full ones, the oldest, and those who signed up meanwhile


def test_who_is_ours_is_linked_to_its_copy(sandbox):
    user = linked(sandbox)
    ClerkAccount.objects.all().delete()
    stranger = sandbox.add_user(email="x@example.com")
    scan()
    assert ClerkAccount.objects.get(pk=user.clerk_id).user == user
    assert ClerkAccount.objects.get(pk=stranger["id"]).user is None


@pytest.mark.parametrize("ids", [("user_1", "user_2"), ("user_2", "user_1")])
def test_a_copy_follows_a_row_that_another_application_linked_otherwise(sandbox, ids):
    before, now = ids
    user = linked(sandbox, clerk={"id": before})
    sandbox.add_user(id=now, email="other@example.com")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE users SET clerk_id = %s WHERE id = %s", [now, user.pk])
    scan()
    assert ClerkAccount.objects.get(pk=now).user == user
    assert ClerkAccount.objects.get(pk=before).user is None


def test_windows_that_store_the_same_new_account_at_once(sandbox):
    """Users at the edge of two windows are in both."""
    workers = 4
    rows = [BuilderUserFactory(clerk_id=f"user_{number}") for number in range(100)]
    together = threading.Barrier(workers)

    def keep_each() -> None:
        try:
            for row in rows:
                together.wait(60)
                store.keep_all([ClerkUser(id=row.clerk_id)])
        except BaseException:
            together.abort()
            raise
        finally:
            connection.close()

    with ThreadPoolExecutor(workers) as pool:
        for storing in [pool.submit(keep_each) for _ in range(workers)]:
            storing.result()
    assert dict(ClerkAccount.objects.values_list("pk", "user")) == {
        row.clerk_id: row.pk for row in rows
    }


def test_who_signs_up_during_the_scan_is_seen_once(sandbox, small_pages):
    fill(sandbox, 50)
    late: list[str] = []

    def sign_up(seen: int) -> None:
        if len(late) < 10:
            late.append(sandbox.add_user(email=f"late{len(late)}@example.com")["id"])

    scan(on_page=sign_up)
    assert len(known()) == 60
    assert set(late) <= known()


@pytest.mark.parametrize(
    ("code", "answers"), [("resource_not_found", 1), ("some_new_code", 3)]
)  # fmt: skip
def test_a_deleted_cursor_may_be_answered_with_404(sandbox, small_pages, code, answers):
    ids = fill(sandbox, 30)
    # The oldest user and the first page come before; a code that is not known is tried again.
    sandbox.fault("GET /users", "status", status=404, code=code, skip=2, times=answers)
    assert scan(windows=1).seen >= 30
    assert known() == set(ids)


def test_the_cursor_is_deleted_during_the_scan(sandbox, small_pages):
    ids = fill(sandbox, 60)
    deleted: list[str] = []

    def delete_the_cursor(seen: int) -> None:
        listed = [request for request in sandbox.requests() if request.path == "/users"]
        if len(deleted) < 2 and len(listed) > 2:
            page = ids[::-1][seen - 1]
            deleted.append(page)
            sandbox.delete(page)

    scan(windows=1, on_page=delete_the_cursor)
    assert deleted
    assert known() >= set(ids) - set(deleted)
    scan()
    assert known() == set(ids) - set(deleted)


def test_who_is_gone_is_marked_and_who_was_only_not_listed_is_not(sandbox, monkeypatch):
    gone, there = linked(sandbox), linked(sandbox)
    sandbox.delete(gone.clerk_id)
    assert scan() == scanning.Scan(1, (), 1)
    assert known() == {there.clerk_id}
    gone.refresh_from_db()
    assert gone.clerk_id  # the row stays as it is
    # A user who fell between two pages: seen long ago, but Clerk has them when asked.
    ClerkAccount.objects.update(seen_at=timezone.now() + timedelta(hours=1))
    ClerkAccount.objects.filter(pk=there.clerk_id).update(
        seen_at=timezone.now() - timedelta(days=1),
        clerk_updated_at=timezone.now() + timedelta(days=1),  # newer than the list: not written
    )
    assert scan().gone == 0
    assert known() == {there.clerk_id}


def test_a_key_of_another_instance_stops_and_marks_nobody(sandbox):
    ids = fill(sandbox, 60)
    scan()
    sandbox.reset()
    sandbox.add_user(email="elsewhere@example.com")
    with pytest.raises(BulkRefused, match="--accept-missing"):
        scan()
    assert known() == set(ids)  # and none of the other instance's
    assert BulkRun.objects.filter(command="scan").first().state == "interrupted"
    assert scan(accept_missing=True).gone == 60


def test_very_many_that_are_gone_stop_as_well(sandbox):
    ids = fill(sandbox, 120)
    scan()
    for clerk_id in ids[:60]:
        sandbox.delete(clerk_id)
    with pytest.raises(BulkRefused, match="60 of the 120"):
        scan()
    assert known() == set(ids)
    assert scan(accept_missing=True).gone == 60


@pytest.mark.parametrize("seen_before", [True, False])
def test_nobody_of_another_instance_is_taken_for_one_of_ours(sandbox, seen_before):
    """A verified account there has the email of a row here that is not linked."""
    ours = {linked(sandbox).clerk_id for _ in range(2)}
    free = BuilderUserFactory(email="free@example.com")
    if not seen_before:
        ClerkAccount.objects.all().delete()
        ours = set()
    sandbox.reset()
    sandbox.add_user(email="free@example.com")
    for command in (["clerk_diff", "--refresh"], ["clerk_link", "--apply"], ["clerk_push"]):
        code, out = run(*command)
        assert (code, "another instance" in out) == (1, True)
    run("clerk_link", "--no-refresh", "--apply")
    free.refresh_from_db()
    assert free.clerk_id is None
    assert known() == ours


def test_an_unreadable_user_is_named_and_nobody_else_is_lost(sandbox, small_pages):
    ids = fill(sandbox, 30)
    scan()
    broken = ids[13]
    with sandbox.state.lock:
        text = sandbox.state._texts[broken]
        sandbox.state._texts[broken] = text.replace(f'"{broken}"', '"no id"', 1)
    [(named, reason)] = scan().unreadable
    assert named == "no id"
    assert "id" in reason


def test_an_older_page_does_not_overwrite_what_an_event_brought(sandbox):
    user = linked(sandbox)
    older = ClerkUser.parse(sandbox.user(user.clerk_id))
    later = older.updated_at + timedelta(minutes=1)
    store.keep(replace(older, last_name="Newer", updated_at=later, told_at=timezone.now()))
    scan()
    assert ClerkAccount.objects.get(pk=user.clerk_id).last_name == "Newer"


@pytest.mark.parametrize("kind", ["status", "broken_json", "reset"])
def test_a_window_that_fails_marks_nobody(sandbox, small_pages, kind, monkeypatch):
    monkeypatch.setattr(scanning, "PAGE_SECONDS", 1.0)
    ids = fill(sandbox, 30)
    scan()
    sandbox.delete(ids[0])
    sandbox.fault("GET /users", kind, status=500, times=None)
    with pytest.raises(ClerkError):
        scan()
    assert known() == set(ids)


def test_a_scan_that_fails_forgets_nothing_that_another_application_wrote(sandbox):
    account = sandbox.add_user(email="ann@example.com")
    scan()
    row = BuilderUserFactory(email="ann@example.com")
    sandbox.fault("GET /users", "status", status=500, times=None)
    with pytest.raises(ClerkError):
        scan()
    sandbox.clear_faults()
    maintenance.run()
    row.refresh_from_db()
    assert row.clerk_id == account["id"]


def test_a_429_in_the_middle_only_costs_time(sandbox, small_pages):
    ids = fill(sandbox, 40)
    sandbox.fault("GET /users", "status", status=429, retry_after=1, times=1)
    assert scan().seen == 40
    assert known() == set(ids)


def test_saves_and_a_scan_at_the_same_time(sandbox):
    """Neither waits for the other for long, and the row's lock is not the scan's."""
    users = [linked(sandbox) for _ in range(5)]
    stop = threading.Event()
    errors: list[str] = []

    def keep_scanning() -> None:
        while not stop.is_set():
            try:
                scan()
            except Exception as error:
                errors.append(repr(error))
        connection.close()

    thread = threading.Thread(target=keep_scanning)
    thread.start()
    try:
        for number in range(20):
            user = users[number % 5]
            change_here(user, name=f"Mary Ann Jones{number}")
            code, out = run("clerk_push", "--no-refresh", "--apply", "--rate", "1000")
            assert code == 0, out
    finally:
        stop.set()
        thread.join()
    assert not errors


def test_users_without_an_account_do_not_matter(sandbox):
    BuilderUserFactory()
    assert scan() == scanning.Scan(0, (), 0)
