"""Changes of many people from the list: the plan, the run in the worker, and its page."""

from __future__ import annotations

import codecs
import csv
import json
import re
import signal
from datetime import timedelta
from functools import partial

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone
from playwright.sync_api import expect

from tests.support.bulk_pages import BULK, plan, planned, press
from tests.support.change_form import in_clerk, stored, text_of
from tests.support.commands import run as command
from tests.support.commands import start
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, change_here, linked
from tests.support.interruptions import at_step, in_thread
from tests.support.killed_runs import ended
from tests.support.patience import wait_until
from tests.support.personas import browser_of, client_who_may, staff_who_may
from tests.support.unknown import the_copy_is_old
from tests.support.user_list import LIST
from tests.support.workers import heartbeat, work
from users import tasks
from users.models import BuilderUser, BulkRow, BulkRun, SyncAttempt
from users.sync.bulk.lock import KEY, KILLED, end_killed_runs, is_held
from users.sync.bulk.workers import WORKERS
from users.sync.outbound import checkpoints, recovery

pytestmark = pytest.mark.django_db(transaction=True)

UPLOAD = f"{BULK}upload/"


@pytest.fixture(autouse=True)
def no_scan(settings):
    """No scan is due that would hold the lock of bulk work."""
    settings.CLERK_SCAN_AT = None


def states(run):
    return dict(run.rows.values_list("user_id", "state"))


# --- Plan and run --------------------------------------------------------------------------------


def test_selected_people_get_a_role_after_the_plan_was_shown(client, sandbox, staff):
    users, other = [BuilderUserFactory(name=f"Mary {n}") for n in range(3)], BuilderUserFactory()
    page = client.post(LIST, {"action": "change_many", "_selected_action": [u.pk for u in users]})
    assert "3 people" in text_of(page)
    address = plan(client, users, action="set_role", role="HOMEOWNER")
    shown = text_of(client.get(address))
    for words in ("3 to change, 0 to delete", "Mary 0", "role: BUILDER → HOMEOWNER"):
        assert words in shown
    assert {stored(user).role for user in users} == {"BUILDER"}
    press(client, address, "begin")
    work()
    assert "Finished: 3 of 3 processed." in re.sub(r"<[^>]+>", "", text_of(client.get(address)))
    assert {stored(user).role for user in users} == {"HOMEOWNER"}
    assert stored(other).role == "BUILDER"
    attempts = SyncAttempt.objects.all()
    assert {(one.source, one.actor, one.status) for one in attempts} == {
        ("admin", staff, "applied")
    }
    assert sandbox.requests() == []


def test_all_that_is_filtered_is_what_was_filtered_at_the_time_of_the_plan(client, sandbox):
    group = BuilderGroupFactory(name="Oak Hill")
    users = [BuilderUserFactory(role="HOMEOWNER") for _ in range(3)]
    query = "?role=HOMEOWNER"
    assert "3 people: all that the list shows" in re.sub(
        r"<[^>]+>", "", text_of(client.get(BULK + query))
    )
    address = plan(client, None, query, action="set_group", builder_group=str(group.pk))
    late = BuilderUserFactory(role="HOMEOWNER")
    press(client, address, "begin")
    work()
    assert {stored(user).builder_group for user in users} == {group}
    assert stored(late).builder_group is None


def test_select_all_of_the_list_leads_to_the_page_of_all_that_is_filtered(client, sandbox):
    user = BuilderUserFactory()
    answer = client.post(
        f"{LIST}?role=BUILDER",
        {"action": "change_many", "_selected_action": [user.pk], "select_across": "1"},
    )
    assert answer.url == f"{BULK}?role=BUILDER"


def test_people_are_banned_in_clerk_by_the_worker(client, sandbox):
    users = [linked(sandbox) for _ in range(2)]
    without = BuilderUserFactory(name="No Account")
    address = plan(client, [*users, without], action="ban")
    assert "Left out: 1 user without a Clerk account" in text_of(client.get(address))
    press(client, address, "begin")
    work()
    assert {account["banned"] for account in sandbox.users()} == {True}
    assert stored(without).clerk_id is None


def test_names_are_copied_to_and_from_clerk(client, sandbox):
    ours, theirs = linked(sandbox), linked(sandbox)
    change_here(ours, name="Mary Ann Jones")
    change_here(theirs, name="Mary Ann Brown")
    for users, action in (([ours], "copy_to"), ([theirs], "copy_from")):
        press(client, plan(client, users, action=action), "begin")
        work()
    assert (in_clerk(sandbox, ours), stored(ours).name) == (("Mary Ann", "Jones"), "Mary Ann Jones")
    assert (in_clerk(sandbox, theirs), stored(theirs).name) == (
        ("Mary Ann", "Smith"), "Mary Ann Smith",
    )  # fmt: skip


def test_deleting_needs_the_number_typed(client, sandbox):
    users = [linked(sandbox) for _ in range(2)]
    address = plan(client, users, action="delete")
    for typed in ("", "1", "two"):
        answer = press(client, address, "begin", count=typed)
        assert "Type the number of changes, 2. Nothing was changed." in text_of(answer)
        assert answer.context["run"].state == "planned"
    press(client, address, "begin", count="2")
    work()
    assert (BuilderUser.objects.count(), sandbox.users()) == (0, [])


def test_people_who_cannot_be_deleted_stay_and_are_listed_with_the_reason(client, sandbox):
    gone, kept, unlinked = linked(sandbox), linked(sandbox), BuilderUserFactory()
    sandbox.fault(
        "DELETE /users/{user_id}", "status", status=403, code="not_allowed",
        user_id=kept.clerk_id, times=None,
    )  # fmt: skip
    address = plan(client, [gone, kept, unlinked], action="delete")
    press(client, address, "begin", count="3")
    work()
    page = client.get(address)
    assert [row.user for row, _ in page.context["rows"]] == [kept]
    assert "Failed to sync with Clerk" in text_of(page)
    assert list(BuilderUser.objects.all()) == [kept]
    assert sandbox.user(kept.clerk_id)
    assert sandbox.user(gone.clerk_id) is None


def test_more_changes_than_a_plan_may_have_need_their_number_typed(client, sandbox):
    users = BuilderUser.objects.bulk_create(BuilderUserFactory.build_batch(51))
    address = plan(client, users, action="set_role", role="HOMEOWNER")
    assert "type the number of changes (51)" in text_of(client.get(address))
    assert "Nothing was changed" in text_of(press(client, address, "begin"))
    press(client, address, "begin", count="51")
    work()
    assert not BuilderUser.objects.exclude(role="HOMEOWNER").exists()


def test_a_plan_with_nothing_to_do_says_so(client, sandbox):
    answer = planned(client, [BuilderUserFactory()], action="set_role", role="BUILDER")
    assert "There is nothing to do. Left out: 1 person with this value already." in text_of(answer)
    assert not BulkRun.objects.exists()


def test_an_action_needs_its_value(client, sandbox):
    answer = planned(client, [BuilderUserFactory()], action="set_group")
    assert "Choose the group." in text_of(answer)
    assert text_of(answer).count("<title>Error:") == 1


def test_starting_a_plan_twice_runs_it_once(client, sandbox):
    user = linked(sandbox)
    address = plan(client, [user], action="ban")
    press(client, address, "begin")
    press(client, address, "begin")
    work()
    press(client, address, "begin")
    work()
    assert SyncAttempt.objects.count() == 1


# --- Who may -------------------------------------------------------------------------------------


def test_a_person_is_offered_what_they_may_do(sandbox, db):
    editor = client_who_may("view_builderuser", "change_builderuser")
    page = text_of(editor.get(BULK))
    assert "Set group" in page
    for label in ("Set role", "Ban", "Delete", "Invite"):
        assert f"> {label}</label>" not in page
    user = BuilderUserFactory()
    answer = planned(editor, [user], action="delete")
    assert "Select a valid choice" in text_of(answer)
    assert not BulkRun.objects.exists()


def test_administrators_are_left_out_without_the_permission_for_them(sandbox, db):
    client = client_who_may("view_builderuser", "change_builderuser", "change_role")
    admin, builder = BuilderUserFactory(role="ADMIN"), BuilderUserFactory()
    address = plan(client, [admin, builder], action="set_role", role="HOMEOWNER")
    page = text_of(client.get(address))
    assert "Left out: 1 change. You don't have permission for this." in page
    press(client, address, "begin")
    work()
    assert (stored(admin).role, stored(builder).role) == ("ADMIN", "HOMEOWNER")


def test_who_may_only_delete_deletes_many_and_is_offered_nothing_else(sandbox, db):
    somebody = client_who_may("view_builderuser", "delete_builderuser")
    gone, stays = [linked(sandbox, email=f"{n}@example.com") for n in range(2)], linked(sandbox)
    shown = text_of(somebody.get(LIST))
    assert "Change the selected people…" in shown
    assert "Upload a spreadsheet" not in shown
    selected = {"action": "change_many", "_selected_action": [user.pk for user in gone]}
    page = text_of(somebody.post(LIST, selected))
    assert re.findall(r'name="action" value="(\w+)"', page) == ["delete"]
    assert planned(somebody, gone, action="ban").status_code == 200  # the form again
    assert planned(somebody, gone, action="set_group").status_code == 200
    assert not BulkRun.objects.exists()
    address = plan(somebody, gone, action="delete")
    press(somebody, address, "begin", count="2")
    work()
    assert "2 of 2 processed." in re.sub(r"<[^>]+>", "", text_of(somebody.get(address)))
    assert list(BuilderUser.objects.all()) == [stays]
    assert [user["id"] for user in sandbox.users()] == [stays.clerk_id]


def test_who_may_only_delete_discards_the_own_plan_and_touches_no_other(client, sandbox, db):
    somebody = client_who_may("view_builderuser", "delete_builderuser", "view_bulkrun")
    users = [BuilderUserFactory(), BuilderUserFactory()]
    own, other = plan(somebody, users, action="delete"), plan(client, users, action="delete")
    assert press(somebody, other, "cancel").status_code == 403
    press(somebody, own, "cancel")
    assert [run.state for run in BulkRun.objects.order_by("pk")] == ["cancelled", "planned"]


def test_a_permission_that_is_taken_away_meanwhile_counts_when_the_row_is_carried_out(sandbox, db):
    somebody = staff_who_may("users.view_builderuser", "users.change_builderuser", "users.ban")
    client, user = browser_of(somebody), linked(sandbox)
    address = plan(client, [user], action="ban")
    press(client, address, "begin")
    somebody.user_permissions.clear()
    work()
    run = BulkRun.objects.get()
    assert states(run) == {user.pk: "failed"}
    assert "You don't have permission" in run.rows.get().reason
    assert sandbox.user(user.clerk_id)["banned"] is False


def test_only_its_author_starts_a_plan(client, sandbox, staff):
    address = plan(client, [BuilderUserFactory()], action="set_role", role="HOMEOWNER")
    names = ("users.view_builderuser", "users.change_builderuser", "users.view_bulkrun")
    other = browser_of(staff_who_may(*names))
    answer = press(other, address, "begin")
    assert "Only the person who made this plan can start it." in text_of(answer)
    assert BulkRun.objects.get().state == "planned"


def test_only_its_author_continues_a_run(client, sandbox):
    _, address = begun(client, sandbox)
    press(client, address, "pause")
    names = ("users.view_builderuser", "users.change_builderuser", "users.view_bulkrun")
    other = browser_of(staff_who_may(*names))
    assert "Go on" not in text_of(other.get(address))
    answer = press(other, address, "go_on")
    assert "Only the person who made this plan can continue it." in text_of(answer)
    work()
    assert BulkRun.objects.get().state == "paused"
    assert not any(account["banned"] for account in sandbox.users())
    assert "Go on" in text_of(client.get(address))


def test_a_run_of_the_command_line_is_not_continued_on_its_page(client, sandbox, staff):
    """Its rows ask for no permission, and a deletion would need its number again."""
    users = [linked(sandbox) for _ in range(2)]
    arguments = ("delete", "--all", "--no-refresh", "--apply", "--confirm", "2", "--limit", "1")
    assert command("clerk_action", *arguments, "--actor", staff.username)[0] == 2
    run = BulkRun.objects.get()
    page = text_of(client.get(f"{BULK}{run.pk}/"))
    assert "Go on" not in page
    assert "This run was started on the command line. An engineer continues it there." in page
    answer = press(client, f"{BULK}{run.pk}/", "go_on")
    assert "continues it there" in text_of(answer)
    work()
    run.refresh_from_db()
    assert (run.state, BuilderUser.objects.count()) == ("interrupted", len(users) - 1)


@pytest.mark.parametrize("lost", ["is_active", "is_superuser"])
def test_an_author_who_leaves_while_the_run_is_at_work_changes_nobody_more(
    client, sandbox, staff, lost
):
    begun(client, sandbox, number=30)
    leave = partial(User.objects.filter(pk=staff.pk).update, **{lost: False})
    with at_step(checkpoints.AFTER_COMMIT, leave):
        work()
    banned = sum(account["banned"] for account in sandbox.users())
    assert 0 < banned <= WORKERS
    refused = BulkRow.objects.filter(state="failed")
    assert "You don't have permission" in refused.first().reason


# --- Pause, go on, cancel ------------------------------------------------------------------------


def begun(client, sandbox, number=3):
    users = [linked(sandbox) for _ in range(number)]
    address = plan(client, users, action="ban")
    press(client, address, "begin")
    return users, address


def test_a_run_that_waits_is_paused_continued_and_cancelled(client, sandbox):
    _, address = begun(client, sandbox)
    press(client, address, "pause")
    work()
    assert "Paused" in text_of(client.get(address))
    assert not any(account["banned"] for account in sandbox.users())
    press(client, address, "go_on")
    press(client, address, "cancel")
    work()
    assert "Cancelled" in text_of(client.get(address))
    assert not any(account["banned"] for account in sandbox.users())
    press(client, address, "go_on")
    assert BulkRun.objects.get().state == "cancelled"


def test_many_are_read_from_clerk_again_and_nothing_is_changed_there(client, sandbox):
    renamed, same, gone = (linked(sandbox, email=f"{n}@example.com") for n in ("a", "b", "c"))
    nobody = BuilderUserFactory()
    for user in (renamed, same, gone):
        the_copy_is_old(user)
    sandbox.edit(renamed.clerk_id, last_name="Jones")
    sandbox.delete(gone.clerk_id)
    sandbox.clear_requests()
    address = plan(client, [renamed, same, gone, nobody], action="refresh")
    shown = text_of(client.get(address))
    for words in ("3 to read, 0 to change, 0 to delete", "last checked", "without a Clerk account",
                  "Refresh: 3 accounts"):  # fmt: skip
        assert words in shown
    press(client, address, "begin")
    work()
    shown = text_of(client.get(address))
    assert "User not found in Clerk. They may have been deleted." in shown
    assert states(BulkRun.objects.get()) == {renamed.pk: "done", same.pk: "done", gone.pk: "failed"}
    assert (stored(renamed).name, stored(same).name) == ("Mary Ann Jones", same.name)
    assert stored(gone).account.not_found_at is not None
    assert sandbox.writes() == []
    assert not SyncAttempt.objects.exclude(operation="follow").exists()


def test_who_may_not_change_people_does_not_refresh_them_by_a_run_either(client, sandbox, staff):
    user = linked(sandbox)
    address = plan(client, [user], action="refresh")
    press(client, address, "begin")
    User.objects.filter(pk=staff.pk).update(is_superuser=False)
    sandbox.clear_requests()
    work()
    row = BulkRun.objects.get().rows.get()
    assert (row.state, row.reason[:27]) == ("failed", "You don't have permission f")
    assert sandbox.requests() == []


@pytest.mark.parametrize(("do", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_run_at_work_ends_between_two_rows(client, sandbox, do, state):
    users, address = begun(client, sandbox, number=30)
    with at_step(checkpoints.AFTER_COMMIT, lambda: press(client, address, do)):
        work()
    run = BulkRun.objects.get()
    left = run.rows.filter(state="waiting").count()
    assert (run.state, run.requested, 0 < left < len(users)) == (state, "", True)
    banned = sum(account["banned"] for account in sandbox.users())
    assert banned == run.rows.filter(state="done").count() == len(users) - left
    if do == "pause":
        press(client, address, "go_on")
        work()
        assert all(account["banned"] for account in sandbox.users())
        assert BulkRun.objects.get().state == "finished"


def worker_at_work(sandbox):
    """Start a worker, and wait until the first rows of the run have ended."""
    process = start(sandbox, "procrastinate", "worker", "--one-shot")
    wait_until(lambda: ended() > 1 or process.poll() is not None, "the run does not begin")
    return process


def test_a_run_whose_worker_is_killed_goes_on_with_the_next_one(client, sandbox, monkeypatch):
    users, address = begun(client, sandbox, number=12)
    monkeypatch.setenv("CLERK_SCAN_AT", "")
    process = worker_at_work(sandbox)
    process.kill()
    process.wait()
    run = BulkRun.objects.get()
    assert run.rows.filter(state="waiting").exists()
    wait_until(end_killed_runs, "the lock of the killed worker is not released")
    assert "Its process was killed, or lost the database." in text_of(client.get(address))
    tasks.carry_out_bulk_run(timestamp=0)
    assert BulkRun.objects.get().state == "finished"
    assert set(states(run)) == {user.pk for user in users}
    assert all(account["banned"] for account in sandbox.users())
    applied = SyncAttempt.objects.filter(status="applied").exclude(error_code="repeated")
    assert applied.count() == len(users)


@pytest.mark.parametrize("when", ["before it is killed", "after it was killed"])
@pytest.mark.parametrize(("do", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_worker_that_is_killed_forgets_no_pause_and_no_cancel(
    client, sandbox, monkeypatch, do, state, when
):
    """What a person asked for stays asked, also if the worker never saw it."""
    users, address = begun(client, sandbox, number=12)
    monkeypatch.setenv("CLERK_SCAN_AT", "")
    process = worker_at_work(sandbox)
    process.send_signal(signal.SIGSTOP)  # it reads nothing any more
    if when == "before it is killed":
        press(client, address, do)
        assert BulkRun.objects.get().requested == do
    process.kill()
    process.wait()
    wait_until(end_killed_runs, "the lock of the killed worker is not released")
    if when == "after it was killed":
        press(client, address, do)
    tasks.carry_out_bulk_run(timestamp=0)
    run = BulkRun.objects.get()
    assert (run.state, run.requested) == (state, "")
    assert 0 < run.rows.filter(state="waiting").count() < len(users)

    def told_as_clerk_has_it():
        # The last requests and locks of the killed worker may still be under way.
        for attempt in SyncAttempt.objects.filter(status="started"):
            recovery.recover(attempt)
        client.get(address)
        left = {pk for pk, row in states(run).items() if row == "waiting"}
        banned = {account["id"] for account in sandbox.users() if account["banned"]}
        return banned == {user.clerk_id for user in users if user.pk not in left}

    wait_until(told_as_clerk_has_it, "rows are left that Clerk has done")
    if do == "pause":
        press(client, address, "go_on")
        tasks.carry_out_bulk_run(timestamp=0)
        assert all(account["banned"] for account in sandbox.users())
        assert BulkRun.objects.get().state == "finished"


def lose_the_lock():
    """The database ends the one connection that holds the lock of bulk work here.

    The tests beside this one hold the same lock in other databases of the same server.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " JOIN pg_database ON pg_locks.database = pg_database.oid"
            " WHERE datname = current_database() AND locktype = 'advisory' AND objid = %s",
            [KEY & 0xFFFFFFFF],
        )


def another_worker_goes_on():
    lose_the_lock()
    wait_until(lambda: not is_held(), "the lock is not released")
    tasks.carry_out_bulk_run(timestamp=0)


def test_a_worker_that_loses_the_lock_leaves_the_run_to_the_next_one(client, sandbox):
    users, _ = begun(client, sandbox, number=40)
    with at_step(checkpoints.AFTER_COMMIT, lambda: in_thread(another_worker_goes_on)):
        work()
    run = BulkRun.objects.get()
    assert (run.state, set(states(run).values())) == ("finished", {"done"})
    assert all(account["banned"] for account in sandbox.users())
    twice = SyncAttempt.objects.filter(status="applied").count() - len(users)
    assert twice <= WORKERS


def test_a_run_whose_lock_is_lost_goes_on_in_the_worker(client, sandbox):
    _, address = begun(client, sandbox, number=40)
    with at_step(checkpoints.AFTER_COMMIT, lambda: in_thread(lose_the_lock)):
        work()
    assert "Waiting for the worker" in text_of(client.get(address))
    tasks.carry_out_bulk_run(timestamp=0)
    assert BulkRun.objects.get().state == "finished"
    assert all(account["banned"] for account in sandbox.users())


def test_a_command_that_loses_the_lock_says_how_to_go_on(sandbox):
    for _ in range(40):
        linked(sandbox)
    with at_step(checkpoints.AFTER_COMMIT, lambda: in_thread(lose_the_lock)):
        code, out = command("clerk_action", "ban", "--all", "--no-refresh", "--apply")
    assert (code, "ended the connection that holds the lock" in out) == (1, True)
    run = BulkRun.objects.get()
    assert (run.state, run.message) == ("interrupted", KILLED)
    assert command("clerk_action", "--resume", str(run.pk), "--apply")[0] == 0


def test_a_plan_that_nobody_started_is_no_run_for_the_command_line(client, sandbox):
    plan(client, [linked(sandbox)], action="ban")
    run = BulkRun.objects.get()
    code, out = command("clerk_action", "--resume", str(run.pk))
    assert (code, out) == (1, f"Run {run.pk} is planned, not started. Plan it again.")


def test_the_home_page_leads_back_to_ones_own_run(client, sandbox, db):
    _, address = begun(client, sandbox)
    home = client.get("/admin/")
    assert "My changes of many people" in text_of(home)
    assert f'<a href="{address}">Ban</a>' in home.content.decode()
    assert "Waiting for the worker" in text_of(home)
    work()
    assert "Finished" in text_of(client.get("/admin/"))
    other = client_who_may("view_builderuser", "change_builderuser", "ban_builderuser")
    assert "My changes of many people" not in text_of(other.get("/admin/"))


def test_the_home_page_gives_the_result_of_a_run_and_its_page_links_who_was_left(client, sandbox):
    group = BuilderGroupFactory(name="Oak Hill")
    done, gone = [linked(sandbox, email=f"mary{n}@example.com") for n in range(2)]
    address = plan(client, [done, gone], action="set_group", builder_group=str(group.pk))
    change_here(gone, builder_group=BuilderGroupFactory(name="Elm"))
    press(client, address, "begin")
    work()
    assert (stored(done).builder_group, stored(gone).builder_group.name) == (group, "Elm")
    home = text_of(client.get("/admin/"))
    home = home[home.index("My changes of many people") :]
    assert '<span class="state outcome-dropped">1 done, 1 skipped</span>' in home
    assert "to change" not in home
    page = text_of(client.get(address))
    assert f'<a href="{gone.get_absolute_url()}">Mary Ann Smith</a>' in page
    assert "mary1@example.com" in page
    assert "mary0@example.com" not in page


def test_a_run_of_which_everything_was_done_is_not_marked(client, sandbox):
    begun(client, sandbox)
    assert 'Waiting for the worker:</span> <span class="quiet">3 waiting' in text_of(
        client.get("/admin/")
    )
    work()
    home = text_of(client.get("/admin/"))
    assert "3 done" in home
    assert "outcome-dropped" not in home


def test_a_run_of_the_pages_continues_there_and_not_on_the_command_line(client, sandbox):
    _, address = begun(client, sandbox)
    press(client, address, "pause")
    run = BulkRun.objects.get()
    code, out = command("clerk_action", "--resume", str(run.pk), "--apply")
    assert code == 1
    assert out == f"Run {run.pk} was planned on a page. Its author continues it on its page."
    shown = text_of(client.get(f"/admin/users/bulkrun/{run.pk}/change/"))
    assert "Its author continues it on its page." in shown
    assert "--resume" not in shown
    assert not any(account["banned"] for account in sandbox.users())


def test_a_plan_that_nobody_starts_is_forgotten(client, sandbox):
    address = plan(client, [linked(sandbox)], action="ban")
    BulkRun.objects.update(started_at=timezone.now() - timedelta(hours=25))
    assert "older than 24 hours" in text_of(press(client, address, "begin"))
    BulkRun.objects.update(started_at=timezone.now() - timedelta(days=3))
    tasks.forget_unstarted_plans(timestamp=0)
    assert not BulkRun.objects.exists()


def test_the_page_says_that_no_worker_runs(client, sandbox):
    _, address = begun(client, sandbox)
    assert "The worker does not run" in text_of(client.get(address))
    heartbeat()
    assert "The worker does not run" not in text_of(client.get(address))


def test_the_page_of_a_command_at_work_does_not_ask_for_the_worker(client, sandbox):
    linked(sandbox)
    seen = []

    def look():
        run = BulkRun.objects.get(command="clerk_action")
        seen.append(text_of(client.get(f"{BULK}{run.pk}/")))

    with at_step(checkpoints.AFTER_COMMIT, look):
        assert command("clerk_action", "ban", "--all", "--no-refresh", "--apply")[0] == 0
    assert "Running" in seen[0]
    assert "worker" not in seen[0]


def test_a_scan_has_no_page_on_which_it_could_be_paused(client, sandbox):
    assert command("clerk_diff", "--refresh")[0] == 0
    scan = BulkRun.objects.get(command="scan")
    address = f"{BULK}{scan.pk}/"
    assert client.get(address).status_code == 404
    assert client.post(address, {"do": "pause"}).status_code == 404
    record = client.get(f"/admin/users/bulkrun/{scan.pk}/change/")
    assert (record.status_code, address in text_of(record)) == (200, False)


def test_a_run_that_waits_for_other_bulk_work_says_so(client, sandbox):
    _, address = begun(client, sandbox, number=1)
    heartbeat()
    said = "Other bulk work is running. This run starts when it has ended."
    assert said not in text_of(client.get(address))
    seen = []
    with at_step(checkpoints.AFTER_COMMIT, lambda: seen.append(text_of(client.get(address)))):
        assert command("clerk_action", "ban", "--all", "--no-refresh", "--apply")[0] == 0
    assert said in seen[0]
    work()
    assert said not in text_of(client.get(address))


@pytest.mark.parametrize("do", ["pause", "cancel"])
def test_a_run_that_is_killed_after_its_last_row_has_finished_whatever_was_asked(
    client, sandbox, do
):
    _, address = begun(client, sandbox)
    work()
    BulkRun.objects.update(state="running", requested=do, finished_at=None)
    assert "Finished" in text_of(client.get(address))
    assert BulkRun.objects.get().state == "finished"


def test_the_rest_of_a_cancelled_run_does_not_wait(client, sandbox):
    _, address = begun(client, sandbox)
    press(client, address, "cancel")
    page = text_of(client.get(address))
    assert "Cancelled: 3" in page
    assert "Waiting" not in page
    lines = list(csv.DictReader(client.get(f"{address}result/").getvalue().decode().splitlines()))
    assert {line["state"] for line in lines} == {"cancelled"}
    document = json.loads(command("runs", "show", "--json")[1])
    assert (document["version"], document["run"]["counts"]) == (2, {"Cancelled": 3})
    rows = {(row["state"], row["reason"]) for row in document["run"]["not_done"]}
    assert rows == {("Cancelled", "Not tried.")}
    assert "Cancelled: " in command("runs", "show")[1]


def test_nobody_is_named_in_a_plan_that_was_discarded(client, sandbox):
    without = BuilderUserFactory(name="No Account")
    address = plan(client, [linked(sandbox), without], action="ban")
    assert "No Account" in BulkRun.objects.get().notes[0]
    press(client, address, "cancel")
    assert BulkRun.objects.get().notes == []


def test_the_result_file_has_the_outcome_of_each_row(client, sandbox):
    users, address = begun(client, sandbox, number=2)
    sandbox.fault("POST /users/{user_id}/ban", "status", status=409, code="user_managed_by_scim",
                  user_id=users[1].clerk_id, times=None)  # fmt: skip
    work()
    page = text_of(client.get(address))
    assert "Failed" in page
    assert "SCIM" in page
    answer = client.get(f"{address}result/")
    content = answer.getvalue()
    assert content.startswith(codecs.BOM_UTF8)  # for Excel, as in the export of the list
    rows = list(csv.DictReader(content.decode("utf-8-sig").splitlines()))
    assert {row["user_id"]: row["state"] for row in rows} == {
        str(users[0].pk): "done", str(users[1].pk): "failed",
    }  # fmt: skip


def test_the_selected_people_are_exported_alone(client, sandbox):
    users = [BuilderUserFactory() for _ in range(3)]
    chosen = {"action": "export_selected", "_selected_action": [user.pk for user in users[:2]]}
    text = client.post(LIST, chosen).getvalue().decode("utf-8-sig")
    rows = csv.DictReader(text.splitlines())
    assert {row["email"] for row in rows} == {user.email for user in users[:2]}


# --- A spreadsheet -------------------------------------------------------------------------------


def upload(client, text, *, name="fixes.csv", **fields):
    file = SimpleUploadedFile(name, text.encode())
    return client.post(UPLOAD, {"file": file, **fields})


def test_an_uploaded_spreadsheet_is_planned_cell_by_cell_and_carried_out(client, sandbox):
    user, same = (
        linked(sandbox, email="mary@example.com"),
        BuilderUserFactory(email="b@example.com"),
    )
    answer = upload(
        client,
        f"email,name,role\nmary@example.com,Mary Ann Jones,ADMIN\nb@example.com,{same.name},\n",
    )
    page = text_of(client.get(answer.url))
    for words in ("name: Mary Ann Smith → Mary Ann Jones", "role: BUILDER → ADMIN",
                  "Lines that change nothing: 1."):  # fmt: skip
        assert words in page
    assert stored(user).name == "Mary Ann Smith"
    press(client, answer.url, "begin")
    work()
    assert (stored(user).name, stored(user).role) == ("Mary Ann Jones", "ADMIN")
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")


def test_everything_wrong_with_a_spreadsheet_is_said_with_its_place(client, sandbox):
    BuilderUserFactory(email="b@example.com")
    page = text_of(upload(client, "email,role\nnobody@example.com,\nb@example.com,BOSS\n"))
    assert "2 things are wrong with fixes.csv. Nothing was changed." in page
    assert "No user has the email “nobody@example.com”" in page
    assert "“BOSS” is none of ADMIN, HOMEOWNER, BUILDER" in page
    assert "--" not in re.sub(r"<!--.*?-->", "", page.split("<table", 1)[1].split("</table>")[0])
    assert not BulkRun.objects.exists()


def test_a_spreadsheet_that_no_reader_takes_is_refused_on_the_page(client, sandbox):
    page = text_of(upload(client, "x" * 200_000))
    assert "1 thing is wrong with fixes.csv. Nothing was changed." in page
    assert "This is not CSV" in page


def test_a_file_may_have_a_name_of_many_letters(client, sandbox):
    user = BuilderUserFactory()
    answer = upload(client, f"id,name\n{user.pk},Bob Roe\n", name=f"{'Изменения' * 20}.csv")
    assert answer.status_code == 302
    assert "name: Mary Ann Smith → Bob Roe" in text_of(client.get(answer.url))


def test_an_unknown_column_is_left_out_if_the_page_says_so(client, sandbox):
    BuilderUserFactory(email="b@example.com")
    text = "email,name,shoe\nb@example.com,Bob Jones,44\n"
    assert "“Leave out unknown columns” leaves it out" in text_of(upload(client, text))
    assert upload(client, text, ignore_unknown="on").status_code == 302


# --- In the browser ------------------------------------------------------------------------------


def test_people_are_selected_planned_and_followed_by_keyboard_and_eye(page, sandbox):
    users = [linked(sandbox, name=f"Mary Smith{n}") for n in range(2)]
    heartbeat()
    page.goto(LIST)
    for user in users:
        page.get_by_label(f"Select this object for an action - {user}").check()
    page.get_by_label("Action:").select_option("change_many")
    page.get_by_role("button", name="Go").click()
    page.get_by_label("Ban", exact=True).check()
    page.get_by_label("Ban", exact=True).press("Enter")
    expect(page.get_by_text("2 to change, 0 to delete")).to_be_visible()
    page.get_by_role("button", name="Ban: 2 changes").press("Enter")
    expect(page.get_by_text("Waiting for the worker: 0 of 2 processed.")).to_be_visible()
    in_thread(work)
    shown = page.locator("#progress").get_by_text("Finished: 2 of 2 processed.")
    shown.wait_for()  # without a reload
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    assert all(account["banned"] for account in sandbox.users())


def test_the_page_of_a_run_goes_on_telling_while_a_button_has_the_focus(page, client, sandbox):
    _, address = begun(client, sandbox, number=1)
    page.goto(address)
    pause = page.get_by_role("button", name="Pause")
    pause.focus()
    no_worker_runs = page.get_by_text("The worker does not run")
    expect(no_worker_runs).to_be_visible()
    heartbeat()
    expect(no_worker_runs).to_have_count(0)
    expect(pause).to_be_focused()
    in_thread(work)
    expect(page.get_by_text("Finished: 1 of 1 processed.")).to_be_focused()


def test_a_page_that_is_not_updated_any_more_says_so(page, client, sandbox):
    _, address = begun(client, sandbox, number=1)
    heartbeat()
    page.goto(address)
    old = page.get_by_text("This page could not be updated.")
    expect(old).to_be_hidden()
    cookies = page.context.cookies()
    page.context.clear_cookies()  # signed out elsewhere, or for too long
    expect(old).to_be_visible()
    page.context.add_cookies(cookies)
    expect(old).to_be_hidden()
