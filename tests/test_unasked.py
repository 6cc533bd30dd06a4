"""Nothing has to be asked for: the worker scans at night, and notices that events are missing.

Clerk's clock goes by `hours_ago`, ours by moving what is stored: nobody sleeps.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import DateTimeField, F, Model
from django.test import Client
from django.utils import timezone

from sandbox import Sandbox
from tests.support.change_form import page_of, stored, text_of
from tests.support.commands import run
from tests.support.events import arrive, happened, post
from tests.support.factories import BuilderUserFactory, StaffFactory, linked
from tests.support.patience import PATIENCE
from tests.support.user_list import LIST, shown
from users.clerk import Pace
from users.models import BulkRun, ClerkAccount, EventCheck, WebhookDelivery
from users.slots import shared_pace
from users.sync.bulk import nightly
from users.sync.bulk.lock import one_at_a_time
from users.sync.mirror import newest
from users.sync.mirror.health import Events, status
from users.tasks import keep_mirror_current

pytestmark = pytest.mark.django_db(transaction=True)

MISSING = "Changes made in Clerk do not arrive here at once."


@pytest.fixture(autouse=True)
def _quick_and_by_night(settings):
    """The next scan is due in six hours or so, and the rate limit costs no time."""
    settings.CLERK_RATE_LIMIT = 100_000.0
    settings.CLERK_SCAN_AT = time_of_day(timezone.now() + timedelta(hours=6))


def time_of_day(moment: datetime):
    return moment.replace(second=0, microsecond=0).timetz()


@contextmanager
def hours_ago(sandbox: Sandbox, hours: float) -> Iterator[None]:
    """What happens in Clerk inside this block has happened some hours ago."""
    clock = sandbox.state.clock
    sandbox.state.clock = lambda: time.time() - hours * 3600
    try:
        yield
    finally:
        sandbox.state.clock = clock


def hours_pass(hours: float) -> None:
    """Everything that is stored becomes older."""
    models: list[type[Model]] = [BulkRun, ClerkAccount, EventCheck, WebhookDelivery]
    for model in models:
        times = [field.name for field in model._meta.fields if isinstance(field, DateTimeField)]
        model.objects.update(**{name: F(name) - timedelta(hours=hours) for name in times})


def the_worker_runs() -> None:
    keep_mirror_current(timestamp=0)


def scanned(sandbox: Sandbox, *, days: float = 0.5) -> None:
    """A complete scan has ended, and everything until then was told."""
    assert run("clerk_diff", "--refresh")[0] in (0, 2)
    hours_pass(days * 24)
    happened(sandbox)
    sandbox.clear_requests()


def scans() -> int:
    return BulkRun.objects.filter(command="scan").count()


def asked(sandbox: Sandbox) -> list[str]:
    return [request.path for request in sandbox.requests()]


def copy_of(user) -> ClerkAccount:
    return ClerkAccount.objects.get(pk=user.clerk_id)


def home(client: Client) -> str:
    return text_of(client.get("/admin/"))


def ready() -> dict[str, str]:
    lines = Client().get("/readyz/").content.decode().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def finding(subject: str) -> dict[str, str]:
    found = json.loads(run("clerk_check", "--json")[1])["findings"]
    return next(row for row in found if row["subject"] == subject)


def missed_edit(sandbox: Sandbox):
    """A user who was renamed in Clerk an hour ago, and no event told us."""
    with hours_ago(sandbox, 72):
        user = linked(sandbox)
    scanned(sandbox)
    with hours_ago(sandbox, 1):
        sandbox.edit(user.clerk_id, last_name="Jones")
    return user


# --- The hourly look -----------------------------------------------------------------------------


def test_a_missed_change_is_read_and_told_on_every_surface(sandbox, client):
    user = missed_edit(sandbox)
    the_worker_runs()
    assert copy_of(user).last_name == "Jones"
    assert stored(user).name == "Mary Ann Jones"  # healed, as the event would have done
    assert shown(client) == {user.email: "in_step"}
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"
    told = "no event reported the changes of 1 user"
    assert MISSING in home(client)
    assert told in home(client)
    assert "check the endpoint under Webhooks in Clerk's dashboard" in home(client)
    assert ready()["events"].startswith("missing. Events from Clerk are missing since ")
    assert told in ready()["events"]
    found = finding("Changes from Clerk")
    assert (found["level"], told in found["meaning"]) == ("warning", True)
    assert "Webhooks" in found["fix"]


def test_no_page_asks_clerk(sandbox, client):
    user = missed_edit(sandbox)
    sandbox.clear_requests()
    for address in ("/admin/", "/readyz/", LIST, page_of(user)):
        assert client.get(address).status_code == 200
    assert asked(sandbox) == []


def test_the_alarm_ends_when_an_event_arrives(sandbox, client):
    user = missed_edit(sandbox)
    the_worker_runs()
    assert MISSING in home(client)
    sandbox.edit(user.clerk_id, last_name="Brown")
    post(sandbox, happened(sandbox)[-1])
    assert MISSING not in home(client)
    assert stored(user).name == "Mary Ann Brown"
    assert ready()["last event"].startswith("user.updated, ")
    assert ready()["events"].startswith("ok. ")


def test_the_alarm_ends_when_the_next_look_misses_nothing(sandbox, client):
    missed_edit(sandbox)
    the_worker_runs()
    hours_pass(1)
    the_worker_runs()
    assert MISSING not in home(client)
    assert finding("Changes from Clerk")["level"] == "ok"


def test_sign_ins_alone_are_stored_and_are_no_alarm(sandbox, client):
    with hours_ago(sandbox, 72):
        users = [linked(sandbox) for _ in range(3)]
    scanned(sandbox)
    with hours_ago(sandbox, 1):
        for user in users:
            sandbox.sign_in(user.clerk_id)
    the_worker_runs()
    assert MISSING not in home(client)
    assert status().events is Events.OK
    for user in users:
        account = sandbox.user(user.clerk_id)
        assert copy_of(user).last_sign_in_at.timestamp() == account["last_sign_in_at"] / 1000


def test_a_change_of_the_last_minutes_is_no_alarm(sandbox, client):
    """Its event may still be on its way. It is stored all the same."""
    with hours_ago(sandbox, 72):
        user = linked(sandbox)
    scanned(sandbox)
    sandbox.edit(user.clerk_id, last_name="Jones")
    the_worker_runs()
    assert copy_of(user).last_name == "Jones"
    assert MISSING not in home(client)


def test_events_that_arrive_are_no_alarm(sandbox, client):
    with hours_ago(sandbox, 72):
        user = linked(sandbox)
    scanned(sandbox)
    with hours_ago(sandbox, 1):
        sandbox.edit(user.clerk_id, last_name="Jones")
        sandbox.add_user(email="new@example.com")
    assert arrive(sandbox) == ["ok", "ok"]
    the_worker_runs()
    assert MISSING not in home(client)
    assert "No change made in Clerk is missing here. Last checked" in home(client)


def test_a_new_account_that_no_event_told_is_an_alarm(sandbox, client):
    """It has signed in just now: what counts is when it was made."""
    with hours_ago(sandbox, 72):
        linked(sandbox)
    scanned(sandbox)
    with hours_ago(sandbox, 1):
        account = sandbox.add_user(email="new@example.com")
    sandbox.sign_in(account["id"])
    the_worker_runs()
    assert ClerkAccount.objects.get(pk=account["id"]).email == "new@example.com"
    assert MISSING in home(client)


def test_an_hour_of_quiet_costs_one_page(sandbox):
    with hours_ago(sandbox, 72):
        linked(sandbox)
    scanned(sandbox)
    the_worker_runs()
    the_worker_runs()
    assert asked(sandbox) == ["/instance", "/users", "/users/count"]
    [page] = [request for request in sandbox.requests() if request.path == "/users"]
    assert ("order_by", "-updated_at") in page.query
    hours_pass(0.9)
    the_worker_runs()
    assert len(asked(sandbox)) == 3
    hours_pass(0.2)
    the_worker_runs()
    assert len(asked(sandbox)) == 6


def test_a_gap_of_several_pages_is_closed(sandbox, client, monkeypatch):
    """The newest page holds sign-ins alone, and between the missed edits somebody signs in."""
    monkeypatch.setattr(newest, "PAGE", 5)
    monkeypatch.setattr(newest, "OVERLAP", 1)
    with hours_ago(sandbox, 72):
        users = [linked(sandbox) for _ in range(30)]
    scanned(sandbox)
    edited = users[:17]
    for number, user in enumerate(edited):
        with hours_ago(sandbox, 5 - number / 10):
            sandbox.edit(user.clerk_id, last_name=f"Jones{number}")
    with hours_ago(sandbox, 0.5):
        for user in users[17:25]:
            sandbox.sign_in(user.clerk_id)
    the_worker_runs()
    assert [copy_of(user).last_name for user in edited] == [f"Jones{n}" for n in range(17)]
    assert copy_of(users[29]).last_name == "Smith"
    assert "no event reported the changes of 17 users" in home(client)
    pages = [path for path in asked(sandbox) if path == "/users"]
    assert len(pages) == 8  # 25 changed, and one page with nothing new


def test_a_deleted_user_is_found_by_the_count_and_a_scan(sandbox, client):
    """The first look only doubts: the event may be on its way."""
    with hours_ago(sandbox, 72):
        gone, there = linked(sandbox), linked(sandbox)
    scanned(sandbox)
    sandbox.delete(gone.clerk_id)
    the_worker_runs()
    assert MISSING not in home(client)
    assert scans() == 1
    hours_pass(0.2)
    the_worker_runs()
    assert MISSING in home(client)
    assert "Clerk has another number of users, and no event said why" in home(client)
    the_worker_runs()
    assert scans() == 2
    assert copy_of(gone).deleted_at is not None
    assert copy_of(there).deleted_at is None
    assert stored(gone).clerk_id == gone.clerk_id  # the row waits for a person
    assert shown(client)[gone.email] == "deleted"
    assert "1 newly found deleted" in home(client)
    hours_pass(1.1)
    the_worker_runs()
    assert MISSING not in home(client)
    assert scans() == 2


def test_a_deletion_whose_event_comes_late_starts_no_scan(sandbox, client):
    with hours_ago(sandbox, 72):
        user = linked(sandbox)
        linked(sandbox)
    scanned(sandbox)
    sandbox.delete(user.clerk_id)
    the_worker_runs()
    assert arrive(sandbox) == ["ok"]
    hours_pass(0.2)
    the_worker_runs()
    assert scans() == 1
    assert status().events is Events.OK


def test_a_difference_that_a_scan_leaves_starts_no_second_one(sandbox, client, monkeypatch):
    """Clerk may count somebody whom it does not list."""
    with hours_ago(sandbox, 72):
        linked(sandbox)
    scanned(sandbox)
    monkeypatch.setattr(newest.Clerk, "count_users", lambda self, **options: 2)
    for _ in range(5):
        the_worker_runs()
        hours_pass(1.1)
    assert scans() == 2
    assert MISSING not in home(client)


def test_nothing_of_another_instance_is_stored(sandbox, client):
    with hours_ago(sandbox, 72):
        linked(sandbox)
    scanned(sandbox)
    sandbox.change_settings({"instance_id": "ins_other"})
    with hours_ago(sandbox, 1):
        sandbox.add_user(email="elsewhere@example.com")
    the_worker_runs()
    assert not ClerkAccount.objects.filter(email="elsewhere@example.com").exists()
    assert "belongs to the Clerk instance ins_other" in home(client)
    assert MISSING not in home(client)


@pytest.mark.parametrize("kind", ["status", "reset"])
def test_a_clerk_that_does_not_answer_is_asked_again_after_ten_minutes(sandbox, client, kind):
    user = missed_edit(sandbox)
    sandbox.fault("GET /users", kind, status=401, times=None)
    the_worker_runs()
    assert copy_of(user).last_name == "Smith"
    words = "It is not known whether changes made in Clerk arrive here."
    assert words in home(client)
    sandbox.clear_faults()
    sandbox.clear_requests()
    the_worker_runs()
    assert asked(sandbox) == []
    hours_pass(0.2)
    the_worker_runs()
    assert copy_of(user).last_name == "Jones"
    assert words not in home(client)


def test_a_worker_that_has_stopped_is_no_good_news(sandbox, client):
    with hours_ago(sandbox, 72):
        linked(sandbox)
    scanned(sandbox)
    the_worker_runs()
    hours_pass(4)
    assert "It is not known whether changes made in Clerk arrive here." in home(client)
    assert finding("Changes from Clerk")["fix"] == "manage.py procrastinate worker"


# --- The nightly scan ----------------------------------------------------------------------------


def test_the_worker_scans_when_the_time_has_passed(sandbox, settings, client):
    with hours_ago(sandbox, 72):
        gone, there = linked(sandbox), linked(sandbox)
    scanned(sandbox)
    sandbox.delete(gone.clerk_id)
    the_worker_runs()
    assert scans() == 1
    settings.CLERK_SCAN_AT = time_of_day(timezone.now() - timedelta(minutes=5))
    the_worker_runs()
    assert scans() == 2
    assert copy_of(gone).deleted_at is not None
    assert "1 user, 1 newly found deleted." in home(client)
    assert ready()["last scan"].endswith("1 user, 1 newly found deleted.")
    the_worker_runs()
    hours_pass(2)
    settings.CLERK_SCAN_AT = time_of_day(timezone.now() - timedelta(hours=2, minutes=5))
    the_worker_runs()
    assert scans() == 2
    assert copy_of(there).seen_at > timezone.now() - timedelta(hours=3)


@pytest.mark.parametrize("days", [1, 5])
def test_a_scan_that_was_missed_is_made_up_for(sandbox, days):
    """The worker did not run at the time; its last scan is of the nights before."""
    with hours_ago(sandbox, 200):
        linked(sandbox)
    scanned(sandbox, days=days)
    the_worker_runs()
    assert scans() == 2
    the_worker_runs()
    assert scans() == 2


def test_an_empty_value_switches_scans_off(sandbox, settings, client):
    settings.CLERK_SCAN_AT = None
    sandbox.add_user(email="a@example.com")
    the_worker_runs()
    assert scans() == 0
    scanned(sandbox, days=30)
    ClerkAccount.objects.all().delete()
    hours_pass(1)
    the_worker_runs()
    assert scans() == 1


def test_an_empty_copy_is_filled(sandbox, client):
    user = BuilderUserFactory(clerk_id="user_1")
    sandbox.add_user(id="user_1", email=user.email)
    assert "No scan of all of Clerk's users has finished yet." in home(client)
    the_worker_runs()
    assert copy_of(user).user == user
    assert "1 user." in home(client)
    hours_pass(2)
    ClerkAccount.objects.all().delete()
    the_worker_runs()
    assert copy_of(user).user == user
    assert scans() == 2
    assert MISSING not in home(client)


def test_an_empty_clerk_is_not_scanned_every_minute(sandbox):
    for _ in range(3):
        the_worker_runs()
    assert scans() == 1


def test_without_a_key_nothing_is_asked(sandbox, settings):
    settings.CLERK_SECRET_KEY = ""
    the_worker_runs()
    assert (asked(sandbox), scans()) == ([], 0)


def test_a_scan_waits_for_other_bulk_work(sandbox):
    sandbox.add_user(email="a@example.com")
    with one_at_a_time():
        the_worker_runs()
        assert (asked(sandbox), scans()) == ([], 0)
    the_worker_runs()
    assert scans() == 1


def test_a_scan_whose_process_was_killed_is_made_up_for(sandbox):
    sandbox.add_user(email="a@example.com")
    killed = BulkRun.objects.create(command="scan", state="running")
    the_worker_runs()
    assert asked(sandbox) == []
    hours_pass(1.1)
    the_worker_runs()
    killed.refresh_from_db()
    assert killed.state == "interrupted"
    assert ClerkAccount.objects.get().email == "a@example.com"


def test_several_workers_at_once_scan_and_look_once(sandbox):
    with hours_ago(sandbox, 72):
        linked(sandbox)
    workers = 4
    together = threading.Barrier(workers)

    def work() -> None:
        together.wait(PATIENCE)
        try:
            the_worker_runs()
        finally:
            connection.close()

    def work_together() -> list[str]:
        with ThreadPoolExecutor(workers) as pool:
            for working in [pool.submit(work) for _ in range(workers)]:
                working.result()
        return asked(sandbox)

    work_together()
    assert scans() == 1
    hours_pass(2)
    sandbox.clear_requests()
    assert work_together() == ["/instance", "/users", "/users/count"]


def test_the_worker_keeps_the_rate_limit(sandbox, settings, monkeypatch):
    """A scan leaves a tenth for people at the form, and the hourly look takes no more than that."""
    settings.CLERK_RATE_LIMIT = 50.0
    rates = []

    def noted(rate: float) -> Pace:
        rates.append(rate)
        return shared_pace(100_000.0)

    monkeypatch.setattr(nightly, "shared_pace", noted)
    monkeypatch.setattr(newest, "shared_pace", noted)
    sandbox.add_user(email="a@example.com")
    the_worker_runs()
    assert rates == pytest.approx([45.0, 5.0])
    assert asked(sandbox)


def test_a_scan_that_fails_says_why_and_is_tried_again_after_an_hour(sandbox, client):
    sandbox.add_user(email="a@example.com")
    sandbox.fault("GET /users", "status", status=401, code="authentication_invalid", times=None)
    the_worker_runs()
    assert "did not finish." in home(client)
    assert finding("Scan")["level"] == "warning"
    sandbox.clear_faults()
    the_worker_runs()
    assert scans() == 1
    hours_pass(1.1)
    the_worker_runs()
    assert BulkRun.objects.filter(command="scan", state="finished").count() == 1
    assert "did not finish" not in home(client)


def test_very_many_missing_accounts_are_told_and_nobody_is_marked(sandbox, client):
    ids = sandbox.fill(120, lambda n: {"email": f"m{n}@example.com"})
    scanned(sandbox, days=2)
    for clerk_id in ids[:60]:
        sandbox.delete(clerk_id)
    the_worker_runs()
    assert not ClerkAccount.objects.filter(deleted_at__isnull=False).exists()
    assert "60 of the 120 Clerk accounts that we know are missing in Clerk" in home(client)
    assert "--accept-missing" in finding("Scan")["meaning"]


# --- Last checked --------------------------------------------------------------------------------


def test_who_was_not_checked_lately_is_told_on_every_surface(sandbox, client, settings):
    settings.CLERK_STALE_DAYS = 3
    stale, fresh = linked(sandbox), linked(sandbox)
    BuilderUserFactory(email="without@example.com")
    checked = timezone.now() - timedelta(days=3, minutes=1)
    ClerkAccount.objects.filter(pk=stale.clerk_id).update(seen_at=checked)
    words = "1 user was not checked for 3 days."
    assert words in home(client)
    assert ready()["last checked"] == words
    assert (finding("Last checked")["level"], finding("Last checked")["meaning"]) == (
        "warning", words,
    )  # fmt: skip
    assert text_of(client.get(LIST)).count("Not checked lately") == 2  # the badge and the filter
    assert set(shown(client, checked="not_lately")) == {stale.email}
    page = text_of(client.get(page_of(stale)))
    assert f"{checked:%Y-%m-%d %H:%M} UTC</time>" in page
    assert "Not checked lately: Clerk may have newer values" in page
    assert "Not checked lately" not in text_of(client.get(page_of(fresh)))
    client.post(page_of(stale).replace("change", "refresh"))
    assert "All users with a Clerk account were checked within 3 days." in home(client)


def test_a_deleted_account_is_not_checked_any_more(sandbox, client):
    user = linked(sandbox)
    long_ago = timezone.now() - timedelta(days=30)
    ClerkAccount.objects.update(seen_at=long_ago, deleted_at=long_ago)
    assert shown(client, checked="not_lately") == {}
    assert "were checked within 2 days" in ready()["last checked"]
    assert "Not checked lately" not in text_of(client.get(page_of(user)))


def test_stale_copies_do_not_fail_the_application(sandbox):
    linked(sandbox)
    ClerkAccount.objects.update(seen_at=timezone.now() - timedelta(days=30))
    assert Client().get("/readyz/").status_code == 200


def test_who_may_look_but_not_edit_sees_when_it_was_checked(sandbox):
    user = linked(sandbox)
    viewer = StaffFactory(is_superuser=False)
    viewer.user_permissions.add(Permission.objects.get(codename="view_builderuser"))
    client = Client()
    client.force_login(viewer)
    page = text_of(client.get(page_of(user)))
    assert "Last checked" in page
    assert "Refresh" not in page
    assert "Connection to Clerk" in home(client)


def test_who_may_not_see_users_is_not_told(sandbox):
    client = Client()
    client.force_login(StaffFactory(is_superuser=False))
    assert "Connection to Clerk" not in home(client)
