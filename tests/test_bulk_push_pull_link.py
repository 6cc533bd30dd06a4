"""Bringing many users into step: the plan, the run, and what stops it."""

from __future__ import annotations

import json
import signal
import threading
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.utils import timezone

from sandbox import Sandbox
from tests.support.commands import run, start, trusting
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    StaffFactory,
    change_here,
    delete_here,
    linked,
)
from tests.support.patience import PATIENCE, wait_until
from tests.support.unknown import time_is_over
from users.clerk import ClerkUser, Deadline, clerk
from users.models import BuilderUser, BulkRow, BulkRun, ClerkAccount, SyncAttempt
from users.sync.bulk import circuit, plan_file
from users.sync.bulk import run as runs
from users.sync.bulk.workers import WORKERS, Workers
from users.sync.mirror import store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def quick(settings):
    """Let a run of many rows not wait for the rate limit of a development instance."""
    settings.CLERK_RATE_LIMIT = 1000.0


@pytest.fixture(autouse=True)
def _no_pause_between_rounds(monkeypatch):
    monkeypatch.setattr(runs, "ROUND_PAUSES", (0.0, 0.05, 0.05, 0.05))
    monkeypatch.setattr(circuit, "PAUSES", (0.01, 0.01, 0.01))


def push(*arguments):
    return run("clerk_push", *trusting(arguments), "--rate", "1000")


def pull(*arguments):
    return run("clerk_pull", *trusting(arguments))


def differing(sandbox: Sandbox, count: int = 1, **fields) -> list[BuilderUser]:
    """Linked users whose name was changed in the database behind Cascade's back."""
    users = [linked(sandbox, name=f"Mary Ann Smith{n}", **fields) for n in range(count)]
    for number, user in enumerate(users):
        user.name = f"Mary Ann Jones{number}"
        change_here(user, name=user.name)
    return users


def clerk_name(sandbox: Sandbox, user: BuilderUser) -> str:
    account = sandbox.user(user.clerk_id)
    return f"{account['first_name']} {account['last_name']}"


def rename_in_clerk(sandbox: Sandbox, user: BuilderUser, last_name: str) -> None:
    """In Clerk's dashboard; a scan has seen it."""
    account = sandbox.edit(user.clerk_id, last_name=last_name)
    store.keep(ClerkUser.parse(account))


# --- Planning ------------------------------------------------------------------------------------


def test_a_plan_says_who_which_field_from_what_to_what_and_changes_nothing(sandbox):
    [user] = differing(sandbox)
    code, out = push()
    assert code == 2
    for text in ("Mary Ann Jones0", "Copy the name to Clerk", "Mary Ann Smith0", "--apply"):
        assert text in out
    assert clerk_name(sandbox, user) == "Mary Ann Smith0"
    assert not sandbox.writes()
    assert not BulkRun.objects.exists()


def test_users_are_chosen_by_id_clerk_id_email_group_and_role(sandbox, tmp_path):
    group = BuilderGroupFactory(name="Oak Hill")
    first, second, third, fourth = differing(sandbox, 4)
    BuilderUser.objects.filter(pk=fourth.pk).update(builder_group=group, role="ADMIN")
    ids = tmp_path / "ids.csv"
    ids.write_text(f"id;name\n{first.pk};x\n{third.clerk_id};y\n")

    def chosen(*arguments) -> set[str]:
        document = json.loads(push(*arguments, "--json")[1])
        return {row["user_id"] for row in document["plan"]["rows"]}

    assert chosen() == {str(user.pk) for user in (first, second, third, fourth)}
    assert chosen("--id", str(first.pk), "--id", second.clerk_id) == {
        str(first.pk),
        str(second.pk),
    }
    assert chosen("--email", third.email.upper()) == {str(third.pk)}
    assert chosen("--group", "oak hill", "--role", "ADMIN") == {str(fourth.pk)}
    assert chosen("--ids-from", str(ids)) == {str(first.pk), str(third.pk)}


def test_everything_that_is_not_found_is_named_at_once(sandbox):
    differing(sandbox)
    code, out = push("--id", "user_gone", "--email", "nobody@example.com", "--group", "Elm")
    assert code == 1
    for text in ("id user_gone", "email nobody@example.com", "group “Elm”"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "KING"], "HOMEOWNER"),
        (["--rate", "nan"], "--rate must be a number"),
        (["--rate", "inf"], "--rate must be a number"),
        (["--max-changes", "-1"], "not a whole number"),
        (["--limit", "-1", "--apply"], "not a whole number"),
        (["--limit", "1"], "--limit needs --apply"),
        (["--retry-failed"], "--retry-failed needs --resume"),
        (["--resume", "1", "--undo", "1"], "cannot be combined with --undo"),
        (["--resume", "1", "--plan-out", "x", "--actor", "a"], "with --plan-out, --actor"),
        (["--undo", "1", "--field", "name"], "cannot be combined with --field"),
        (["--plan", "x", "--undo", "1"], "cannot be combined with --plan"),
    ],
)
def test_options_that_make_no_sense_are_refused(sandbox, arguments, said):
    differing(sandbox)
    code, out = run("clerk_push", *trusting(arguments))
    assert (code, said in out) == (1, True), out
    assert not sandbox.writes()


# --- Applying ------------------------------------------------------------------------------------


def test_push_brings_clerk_to_the_row(sandbox):
    actor = StaffFactory(username="engineer")
    [user] = differing(sandbox)
    assert push("--apply", "--actor", "engineer")[0] == 0
    assert clerk_name(sandbox, user) == "Mary Ann Jones0"
    attempt = SyncAttempt.objects.get()
    assert (attempt.status, attempt.source, attempt.actor) == ("applied", "command", actor)
    assert attempt.run == BulkRun.objects.get()
    assert LogEntry.objects.get().user == actor
    assert push("--apply") == (0, "Nothing to do.\n")


def test_an_email_is_pushed_only_when_it_is_asked_for(sandbox):
    user = linked(sandbox, email="old@example.com")
    change_here(user, email="new@example.com")
    assert push("--apply") == (0, "Nothing to do.\n")
    assert push("--apply", "--field", "email")[0] == 0
    assert not sandbox.find("old@example.com")
    assert sandbox.find("new@example.com")[0]["id"] == user.clerk_id


def test_pull_brings_the_row_to_clerk(sandbox):
    user = linked(sandbox, name="Mary Ann Smith")
    rename_in_clerk(sandbox, user, "Brown")
    assert pull("--apply")[0] == 0
    user.refresh_from_db()
    assert user.name == "Mary Ann Brown"
    assert not sandbox.writes()
    assert SyncAttempt.objects.get().source == "command"
    assert LogEntry.objects.get().user.username == "cascade"


def test_pull_leaves_an_email_that_another_row_has_and_says_so(sandbox):
    user = linked(sandbox, email="mary@example.com")
    BuilderUserFactory(email="taken@example.com", name="Twin")
    ClerkAccount.objects.filter(pk=user.clerk_id).update(email="taken@example.com")
    code, out = pull("--apply")
    assert code == 0
    assert "taken@example.com belongs to Twin" in out
    user.refresh_from_db()
    assert user.email == "mary@example.com"


def test_link_gives_the_account_that_is_certainly_theirs(sandbox):
    user = BuilderUserFactory(email="mary@example.com")
    doubtful = BuilderUserFactory(email="john@example.com")
    ours = sandbox.add_user(email="mary@example.com")
    unverified = sandbox.add_user(email="john@example.com", verified=False)
    for account in (ours, unverified):
        store.keep(ClerkUser.parse(account))
    code, out = run("clerk_link", "--no-refresh", "--apply")
    assert code == 0
    assert "not verified" in out
    user.refresh_from_db()
    doubtful.refresh_from_db()
    assert (user.clerk_id, doubtful.clerk_id) == (ours["id"], None)
    assert ClerkAccount.objects.get(pk=ours["id"]).user == user


def test_an_id_of_ours_in_the_metadata_alone_links_nobody(sandbox):
    user = BuilderUserFactory(email="mary@example.com")
    claiming = sandbox.add_user(
        email="m@example.com", public_metadata={"cascade_user_id": str(user.pk)}
    )
    store.keep(ClerkUser.parse(claiming))
    code, out = run("clerk_link", "--no-refresh", "--apply")
    assert code == 0
    assert "That alone is no proof, so nothing was linked." in out
    user.refresh_from_db()
    assert user.clerk_id is None
    ours = sandbox.add_user(email="mary@example.com")
    store.keep(ClerkUser.parse(ours))
    code, out = run("clerk_link", "--no-refresh", "--apply")
    assert code == 0
    assert f"{claiming['id']}): Its metadata names Mary Ann Smith, who has another" in out
    user.refresh_from_db()
    assert user.clerk_id == ours["id"]
    assert ClerkAccount.objects.get(pk=claiming["id"]).user is None


def test_one_failing_row_does_not_stop_the_others(sandbox):
    first, second, third = differing(sandbox, 3)
    sandbox.delete(second.clerk_id)
    code, out = push("--apply")
    assert code == 2
    assert "Failed: Mary Ann Jones1. User not found in Clerk" in out
    assert clerk_name(sandbox, first) == "Mary Ann Jones0"
    assert clerk_name(sandbox, third) == "Mary Ann Jones2"
    assert BulkRun.objects.get().state == "finished"


def test_a_row_that_somebody_is_saving_comes_again_later(sandbox, monkeypatch):
    [user] = differing(sandbox)
    with transaction.atomic():
        BuilderUser.objects.select_for_update().get(pk=user.pk)
        result: list[tuple[int, str]] = []

        def in_thread() -> None:
            result.append(push("--apply"))
            connection.close()

        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
    assert result[0][0] == 2
    assert "being saved by someone else right now" in result[0][1]
    assert clerk_name(sandbox, user) == "Mary Ann Smith0"
    assert push("--apply")[0] == 0
    assert clerk_name(sandbox, user) == "Mary Ann Jones0"


def test_rows_that_meet_a_429_come_again_and_nothing_is_lost(sandbox):
    users = differing(sandbox, 12)
    sandbox.fault("PATCH /users/{user_id}", "status", status=429, retry_after=1, times=5)
    code, out = push("--apply")
    assert code == 0, out
    statuses = [request.status for request in sandbox.writes()]
    assert (statuses.count(429), statuses.count(200)) == (5, 12)
    assert [clerk_name(sandbox, user) for user in users] == [user.name for user in users]


# --- Edits in Clerk while a run is at work -------------------------------------------------------


@pytest.fixture
def once_started(monkeypatch):
    """Call a function in the middle of a run: when its first row is given to a worker."""

    def at_first_row(function) -> None:
        take, calls = Workers.take, iter([function])

        def taking(self, number, row):
            take(self, number, row)
            for call in calls:
                call()

        monkeypatch.setattr(Workers, "take", taking)

    return at_first_row


SLOW = ("--no-refresh", "--rate", "4")
"""One read covers four rows at this rate, so the last row is read after the edit."""


@pytest.mark.parametrize("our_copy_shows_it", [True, False])
def test_a_push_never_overwrites_a_name_that_was_edited_in_clerk_meanwhile(
    sandbox, once_started, our_copy_shows_it
):
    users = sorted(differing(sandbox, 8), key=lambda user: user.pk)
    last = users[-1]

    def edit() -> None:
        if our_copy_shows_it:
            rename_in_clerk(sandbox, last, "Brown")
        else:
            sandbox.edit(last.clerk_id, last_name="Brown")

    once_started(edit)
    code, out = run("clerk_push", "--apply", *SLOW)
    assert code == 2
    assert clerk_name(sandbox, last) == "Mary Ann Brown"
    row = BulkRow.objects.get(user=last)
    assert (row.state, "name" in row.reason) == ("skipped", True)
    assert row.reason in out
    assert [clerk_name(sandbox, user) for user in users[:-1]] == [user.name for user in users[:-1]]
    assert ClerkAccount.objects.get(pk=last.clerk_id).last_name == "Brown"


def test_a_push_never_overwrites_an_email_that_was_edited_in_clerk_meanwhile(sandbox, once_started):
    users = [linked(sandbox, email=f"old{n}@example.com") for n in range(8)]
    for number, user in enumerate(users):
        change_here(user, email=f"new{number}@example.com")
    last = max(users, key=lambda user: user.pk)

    def edit() -> None:
        clerk().replace_email(last.clerk_id, email="own@example.com", deadline=Deadline(PATIENCE))

    once_started(edit)
    assert run("clerk_push", "--apply", "--field", "email", *SLOW)[0] == 2
    assert sandbox.find("own@example.com")[0]["id"] == last.clerk_id
    assert BulkRow.objects.get(user=last).state == "skipped"


@pytest.mark.parametrize("busy_first", [True, False])
def test_an_update_never_overwrites_a_name_that_was_edited_in_clerk_meanwhile(
    sandbox, once_started, tmp_path, busy_first
):
    users = [linked(sandbox, name=f"Mary Ann Smith{n}") for n in range(8)]
    last = users[-1]
    lines = [f"{user.pk},Mary Ann Jones{n}" for n, user in enumerate(users)]
    (tmp_path / "names.csv").write_text("\n".join(["id,name", *lines]))
    once_started(lambda: sandbox.edit(last.clerk_id, last_name="Brown"))
    if busy_first:
        sandbox.fault("PATCH /users/{user_id}", "status", status=409, code="resource_locked",
                      user_id=last.clerk_id, times=1)  # fmt: skip
    assert run("update_users", tmp_path / "names.csv", "--apply", *SLOW)[0] == 2
    assert clerk_name(sandbox, last) == "Mary Ann Brown"
    assert BulkRow.objects.get(user=last).state == "skipped"
    last.refresh_from_db()
    assert last.name == "Mary Ann Smith7"


@pytest.mark.usefixtures("quick")
def test_one_read_serves_many_rows(sandbox):
    users = differing(sandbox, 150)
    ClerkAccount.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    assert push("--apply", "--max-changes", "150")[0] == 0
    assert [clerk_name(sandbox, user) for user in users] == [user.name for user in users]
    first, *_ = [request for request in sandbox.requests() if request.path == "/users"]
    assert len(first.many("user_id")) == 100


def test_the_attempt_says_what_clerk_really_held_and_undo_goes_back_to_it(sandbox):
    [user] = differing(sandbox)
    sandbox.edit(user.clerk_id, first_name="Mary  Ann", last_name=" Smith0")
    assert push("--apply")[0] == 0
    attempt = SyncAttempt.objects.get()
    assert attempt.changes == {"name": ["Mary Ann Smith0", "Mary Ann Jones0"]}
    assert push("--undo", str(BulkRun.objects.get().pk), "--apply")[0] == 0
    assert clerk_name(sandbox, user) == "Mary Ann Smith0"


# --- Plans in files ------------------------------------------------------------------------------


def test_a_plan_in_a_file_is_done_exactly_and_rows_that_changed_since_are_named(sandbox, tmp_path):
    same, here, there, gone = differing(sandbox, 4)
    file = tmp_path / "plan.json"
    assert push("--plan-out", file)[0] == 2
    assert file.stat().st_mode & 0o777 == 0o600
    later = differing(sandbox)[0]
    change_here(here, name="Somebody Else")
    rename_in_clerk(sandbox, there, "Brown")
    delete_here(gone)
    code, out = push("--plan", file, "--apply")
    assert code == 2
    assert "Skipped: Mary Ann Jones1. It changed since the plan was made: name is Somebody" in out
    assert "Skipped: Mary Ann Jones2. Clerk holds another name" in out
    assert "Skipped: Mary Ann Jones3. The user was deleted" in out
    assert clerk_name(sandbox, same) == "Mary Ann Jones0"
    assert clerk_name(sandbox, here) == "Mary Ann Smith1"
    assert clerk_name(sandbox, there) == "Mary Ann Brown"
    assert clerk_name(sandbox, later) == "Mary Ann Smith0"  # not in the file
    assert BulkRun.objects.get().plan_hash == json.loads(file.read_text())["hash"]


def test_an_edited_plan_is_refused(sandbox, tmp_path):
    [user] = differing(sandbox)
    file = tmp_path / "plan.json"
    push("--plan-out", file)
    file.write_text(file.read_text().replace("Jones0", "Doe"))
    code, out = push("--plan", file, "--apply")
    assert (code, "edited" in out) == (1, True)
    assert clerk_name(sandbox, user) == "Mary Ann Smith0"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "no json", '{"command": "clerk_push"}', "[" * 100_000],
    ids=["nothing", "a list", "no keys", "no json", "one key", "nested"],
)  # fmt: skip
def test_a_file_that_is_no_plan_is_refused(sandbox, tmp_path, content):
    file = tmp_path / "plan.json"
    file.write_text(content)
    assert push("--plan", file, "--apply")[0] == 1
    assert push("--plan", tmp_path / "none.json")[0] == 1


def test_an_old_plan_is_refused(sandbox, tmp_path, monkeypatch):
    differing(sandbox)
    file = tmp_path / "plan.json"
    push("--plan-out", file)
    now = timezone.now()
    monkeypatch.setattr(plan_file.timezone, "now", lambda: now + timedelta(hours=25))
    code, out = push("--plan", file, "--apply")
    assert (code, "24 hours" in out) == (1, True)
    assert not sandbox.writes()


def test_a_plan_of_another_command_is_refused(sandbox, tmp_path):
    differing(sandbox)
    file = tmp_path / "plan.json"
    push("--plan-out", file)
    code, out = pull("--plan", file, "--apply")
    assert (code, "plan of clerk_push" in out) == (1, True)


# --- A part of a plan or a run -------------------------------------------------------------------


def test_nothing_is_resumed_without_apply(sandbox):
    users = differing(sandbox, 3)
    push("--apply", "--limit", "1")
    code, out = push("--resume", str(BulkRun.objects.get().pk))
    assert (code, "Run it again with --apply" in out) == (2, True)
    assert len(sandbox.writes()) == 1
    assert sum(user.name in out for user in users) == 2


def test_a_canary_is_the_first_rows_of_the_plan_and_the_rest_comes_by_resume(sandbox):
    users = sorted(differing(sandbox, 6), key=lambda user: user.pk)
    code, out = push("--apply", "--limit", "2")
    canary = BulkRun.objects.get()
    assert (code, canary.state) == (2, "interrupted")
    assert f"--resume {canary.pk} --apply" in out
    done = [clerk_name(sandbox, user) == user.name for user in users]
    assert done == [True, True, False, False, False, False]
    assert push("--resume", str(canary.pk), "--limit", "1", "--apply")[0] == 2
    assert canary.rows.filter(state="done").count() == 3
    assert push("--resume", str(canary.pk), "--apply")[0] == 0
    canary.refresh_from_db()
    assert canary.state == "finished"
    assert [clerk_name(sandbox, user) for user in users] == [user.name for user in users]


def test_chosen_users_alone_are_undone_applied_and_resumed(sandbox, tmp_path):
    one, _, two, three = users = differing(sandbox, 4)
    file = tmp_path / "plan.json"
    push("--plan-out", file)
    assert push("--plan", file, "--email", one.email, "--apply")[0] == 0
    assert [clerk_name(sandbox, user) == user.name for user in users] == [True, False, False, False]
    push("--apply", "--limit", "1", "--sort", "user")
    rest = BulkRun.objects.first()
    assert push("--resume", str(rest.pk), "--id", str(three.pk), "--apply")[0] == 2
    assert [clerk_name(sandbox, user) == user.name for user in users] == [True, True, False, True]
    code, out = push("--resume", str(rest.pk), "--email", three.email, "--apply")
    assert (code, "no row left to do for the users chosen." in out) == (1, True), out
    assert push("--resume", str(rest.pk), "--apply")[0] == 0
    code, out = push("--undo", str(rest.pk), "--email", two.email, "--apply")
    assert (code, three.name in out) == (0, False)
    assert clerk_name(sandbox, two) == "Mary Ann Smith2"
    assert clerk_name(sandbox, three) == three.name


# --- Limits --------------------------------------------------------------------------------------


def test_too_many_changes_stop_before_the_first_one(sandbox):
    differing(sandbox, 4)
    code, out = push("--apply", "--max-changes", "3")
    assert code == 1
    assert "--max-changes 4" in out
    assert not sandbox.writes()
    assert not BulkRun.objects.exists()
    assert push("--apply", "--max-changes", "4")[0] == 0


@pytest.mark.usefixtures("quick")
def test_the_limit_is_fifty_or_a_twentieth_of_the_users(sandbox):
    users = differing(sandbox, 51)
    code, out = push("--apply")
    assert (code, "the limit is 50 of each type" in out) == (1, True)
    BuilderUser.objects.bulk_create(
        BuilderUserFactory.build(email=f"b{n}@example.com") for n in range(1020 - len(users))
    )
    assert push("--apply")[0] == 0


def test_a_run_of_failures_stops_and_can_go_on(sandbox):
    users = sorted(differing(sandbox, 45), key=lambda user: user.pk)
    for user in users[:25]:
        sandbox.delete(user.clerk_id)
    code, out = push("--apply")
    assert code == 2
    stopped = BulkRun.objects.get()
    assert (stopped.state, stopped.message) == ("stopped", "20 rows in a row failed.")
    assert f"--resume {stopped.pk}" in out
    assert "--keep-going" not in out
    ended = stopped.rows.exclude(state="waiting").order_by("position")
    assert [(row.position, row.state) for row in ended] == [(n, "failed") for n in range(20)]
    code, out = push("--resume", str(stopped.pk), "--apply", "--keep-going")
    assert code == 2
    assert stopped.rows.filter(state="done").count() == 20
    assert [clerk_name(sandbox, user) for user in users[25:]] == [u.name for u in users[25:]]


# --- Outcomes that are not known yet -------------------------------------------------------------


def test_an_outage_stops_the_run_and_every_row_waits_for_its_end(sandbox):
    users = differing(sandbox, 30)
    sandbox.fault("*", "status", status=503, times=None)
    code, out = push("--apply")
    assert code == 2
    stopped = BulkRun.objects.get()
    assert stopped.state == "stopped"
    assert stopped.message.startswith("Clerk confirmed none of ")
    assert stopped.rows.filter(state="waiting").count() == 30
    assert 0 < stopped.rows.exclude(reason="").count() < 30
    assert "Waiting: Mary Ann Jones" in out
    sandbox.clear_faults()
    assert push("--resume", str(stopped.pk), "--apply")[0] == 0
    assert [clerk_name(sandbox, user) for user in users] == [user.name for user in users]
    assert not SyncAttempt.objects.filter(status="started").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("flags", [[], ["--keep-going"]])
@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (401, "clerk_key_invalid", "Ask an engineer to check CLERK_SECRET_KEY"),
        (402, "unsupported_subscription_plan_features", "The plan of this Clerk instance"),
        (403, "authorization_invalid", "not allowed to do this in Clerk"),
        (403, "feature_not_enabled", "switched off in this Clerk instance"),
    ],
)
def test_a_key_revoked_in_the_middle_stops_the_run_at_once(sandbox, flags, status, code, cause):
    users = differing(sandbox, 60)
    route = "PATCH /users/{user_id}"
    sandbox.fault(route, "status", status=status, code=code, skip=10, times=None)
    ended, out = push("--apply", "--max-changes", "60", *flags)
    assert ended == 2
    stopped = BulkRun.objects.get()
    assert (stopped.state, cause in stopped.message, cause in out) == ("stopped", True, True)
    assert not stopped.rows.filter(state="failed").exists()
    assert len(sandbox.writes()) <= 10 + WORKERS
    assert f"--resume {stopped.pk}" in out
    assert "--keep-going" not in out
    sandbox.clear_faults()
    assert push("--resume", str(stopped.pk), "--apply")[0] == 0
    assert [clerk_name(sandbox, user) for user in users] == [user.name for user in users]


def test_a_burst_of_errors_ends_and_the_run_finishes_by_itself(sandbox):
    users = differing(sandbox, 40)
    sandbox.fault("PATCH /users/{user_id}", "status", status=500, skip=5, times=14)
    code, out = push("--apply")
    assert code == 0, out
    assert BulkRun.objects.get().state == "finished"
    assert [clerk_name(sandbox, user) for user in users] == [user.name for user in users]


@pytest.mark.parametrize("code", ["resource_locked", "conflict"])
def test_a_user_whom_clerk_is_changing_comes_again_later(sandbox, code):
    [user] = differing(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "status", status=409, code=code, times=2)
    assert push("--apply")[0] == 0
    assert clerk_name(sandbox, user) == user.name


@pytest.mark.parametrize("code", ["resource_locked", "conflict"])
def test_a_clerk_that_stays_busy_is_probed_with_one_row_at_a_time(sandbox, code):
    users = differing(sandbox, 40)
    sandbox.fault("PATCH /users/{user_id}", "status", status=409, code=code, times=None)
    assert push("--apply")[0] == 2
    stopped = BulkRun.objects.get()
    assert stopped.state == "stopped"
    assert stopped.message.startswith("Clerk confirmed none of ")
    assert "Clerk is busy with another change" in stopped.message
    assert len(sandbox.writes()) <= circuit.OPENS_AT + WORKERS + len(circuit.PAUSES)
    assert stopped.rows.filter(state="waiting").count() == 40
    sandbox.clear_faults()
    assert push("--resume", str(stopped.pk), "--apply")[0] == 0
    assert [clerk_name(sandbox, user) for user in users] == [user.name for user in users]


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (401, "clerk_key_invalid", "Ask an engineer to check CLERK_SECRET_KEY"),
        (402, "unsupported_subscription_plan_features", "The plan of this Clerk instance"),
        (402, "payment_required", "The plan of this Clerk instance"),
        (403, "authorization_invalid", "not allowed to do this in Clerk"),
        (403, "feature_not_enabled", "switched off in this Clerk instance"),
    ],
)
@pytest.mark.parametrize("read", ["of all users", "before each row"])
def test_a_read_that_clerk_denies_names_the_cause_as_a_write_does(
    sandbox, read, status, code, cause
):
    differing(sandbox, 8)
    ClerkAccount.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    for route in ("GET /users", "GET /users/{user_id}"):
        sandbox.fault(route, "status", status=status, code=code, times=None)
    arguments = ["--no-refresh"] if read == "before each row" else []
    ended, out = run("clerk_push", "--apply", *arguments)
    assert cause in out
    assert not sandbox.writes()
    if read == "of all users":
        assert (ended, BulkRun.objects.filter(command="clerk_push").exists()) == (1, False)
    else:
        stopped = BulkRun.objects.get()
        assert (ended, stopped.state, cause in stopped.message) == (2, "stopped", True)
        assert set(stopped.rows.values_list("state", flat=True)) == {"waiting"}


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [
        (409, "user_managed_by_scim", "company directory (SCIM)"),
        (403, "quota_exceeded", "has used up what its plan allows"),
    ],
)
def test_other_refusals_fail_their_row_and_can_be_tried_again(sandbox, status, code, cause):
    first, managed = differing(sandbox, 2)
    sandbox.fault("PATCH /users/{user_id}", "status", status=status, code=code,
                  user_id=managed.clerk_id, times=None)  # fmt: skip
    ended, out = push("--apply")
    done = BulkRun.objects.get()
    assert (ended, done.state) == (2, "finished")
    assert cause in done.rows.get(state="failed").reason
    assert clerk_name(sandbox, first) == first.name
    assert f"--resume {done.pk} --apply --retry-failed" in out
    assert "--retry-failed tries them again" in push("--resume", str(done.pk), "--apply")[1]
    sandbox.clear_faults()
    assert push("--resume", str(done.pk), "--apply", "--retry-failed")[0] == 0
    assert clerk_name(sandbox, managed) == managed.name


@pytest.mark.parametrize("applied", [True, False])
def test_an_unknown_outcome_is_tried_again_in_the_next_round(sandbox, applied):
    first, lost, third = differing(sandbox, 3)
    sandbox.fault("PATCH /users/{user_id}", "reset", apply=applied, user_id=lost.clerk_id, times=1)
    # Reads have three tries: the read-back finds nothing out.
    sandbox.fault("GET /users/{user_id}", "status", status=503, user_id=lost.clerk_id, times=3)
    code, out = push("--apply")
    assert code == 0, out
    assert set(BulkRow.objects.values_list("state", "reason")) == {("done", "")}
    assert BulkRun.objects.get().state == "finished"
    for user in (first, lost, third):
        assert clerk_name(sandbox, user) == user.name
    assert not SyncAttempt.objects.filter(status="started").exists()


def unconfirmed(sandbox, *, applied: bool) -> tuple[BuilderUser, BulkRun]:
    """A run with one row, of which Clerk has not told the outcome in any round."""
    [user] = differing(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "reset", apply=applied, times=None)
    sandbox.fault("GET /users/{user_id}", "status", status=503, times=None)
    code, out = push("--apply")
    run = BulkRun.objects.get()
    row = run.rows.get()
    assert code == 2
    assert (run.state, row.state) == ("interrupted", "waiting")
    assert run.attempts.filter(status="started").exists()
    assert run.message.startswith("1 row waits to be tried again")
    assert row.reason
    assert row.reason in out
    assert f"Go on with: manage.py clerk_push --resume {run.pk}" in out
    sandbox.clear_faults()
    return user, run


def test_a_row_that_nobody_confirmed_is_done_by_resume(sandbox):
    user, waiting = unconfirmed(sandbox, applied=False)
    assert clerk_name(sandbox, user) == "Mary Ann Smith0"
    assert push("--resume", str(waiting.pk), "--apply")[0] == 0
    assert clerk_name(sandbox, user) == "Mary Ann Jones0"
    assert (waiting.rows.get().state, waiting.rows.get().reason) == ("done", "")


def test_a_row_whose_attempt_was_applied_later_is_shown_and_undone_as_done(sandbox, client):
    user, waiting = unconfirmed(sandbox, applied=True)
    assert run("clerk_recover")[0] == 0
    page = client.get(f"/admin/users/bulkrun/{waiting.pk}/change/").content.decode()
    assert "1 done" in page
    assert f"clerk_push --undo {waiting.pk}" in page
    waiting.refresh_from_db()
    assert (waiting.state, waiting.message) == ("finished", "")
    assert (waiting.rows.get().state, waiting.rows.get().reason) == ("done", "")
    # The tries before may still arrive, and would land on top of what undoes them.
    assert "may still arrive there until" in push("--undo", str(waiting.pk), "--apply")[1]
    time_is_over()
    assert push("--undo", str(waiting.pk), "--apply")[0] == 0
    assert clerk_name(sandbox, user) == "Mary Ann Smith0"


def test_resuming_a_run_whose_last_row_was_applied_later_ends_it(sandbox):
    user, waiting = unconfirmed(sandbox, applied=True)
    writes = len(sandbox.writes())
    assert push("--resume", str(waiting.pk), "--apply")[0] == 0
    assert BulkRun.objects.get().state == "finished"
    assert waiting.rows.get().state == "done"
    assert clerk_name(sandbox, user) == "Mary Ann Jones0"
    assert len(sandbox.writes()) == writes


# --- One at a time, interrupted, undone ----------------------------------------------------------


@pytest.fixture
def halted(sandbox, monkeypatch):
    """Start a run of 40 rows as a process; Clerk answers the first, and the others when told."""
    monkeypatch.setenv("CLERK_EDIT_DEADLINE", str(PATIENCE))
    monkeypatch.setenv("DATABASE_WAIT_SECONDS", str(2 * PATIENCE))
    users = differing(sandbox, 40)
    sandbox.fault("PATCH /users/{user_id}", "delay", seconds=PATIENCE, skip=1, times=None)
    process = start(sandbox, "clerk_push", "--no-refresh", "--apply", "--rate", "1000")
    wait_until(
        lambda: BulkRow.objects.filter(state="done").exists() or process.poll() is not None,
        "no row is done",
    )
    yield users, process
    sandbox.clear_faults()
    process.kill()
    process.communicate()


def test_only_one_runs_at_a_time_and_the_second_is_told(sandbox, halted):
    _, first = halted
    code, out = push("--apply")
    assert code == 1
    assert f"Run {BulkRun.objects.get().pk} (clerk_push" in out
    sandbox.clear_faults()
    output, _ = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, output


def test_ctrl_c_finishes_what_is_in_flight_and_says_how_to_go_on(sandbox, halted):
    users, going = halted
    going.send_signal(signal.SIGINT)
    sandbox.clear_faults()
    output, _ = going.communicate(timeout=PATIENCE)
    assert going.returncode == 130, output
    interrupted = BulkRun.objects.get()
    assert interrupted.state == "interrupted"
    assert f"clerk_push --resume {interrupted.pk}" in output
    assert not SyncAttempt.objects.filter(status="started").exists()
    assert 0 < interrupted.rows.filter(state="waiting").count() < 40
    assert push("--resume", str(interrupted.pk), "--apply")[0] == 0
    assert [clerk_name(sandbox, user) for user in users] == [user.name for user in users]
    assert len(sandbox.writes()) == 40


def test_a_killed_run_is_shown_as_killed(sandbox, halted, client):
    _, process = halted
    killed = BulkRun.objects.get()
    assert client.get("/admin/users/bulkrun/").content.decode().count("Running") > 0
    process.kill()
    process.wait()

    def told() -> bool:
        findings = json.loads(run("clerk_check", "--json")[1])["findings"]
        return any("was killed" in finding["meaning"] for finding in findings)

    wait_until(told, "the database does not notice that the process is gone")
    killed.refresh_from_db()
    assert killed.state == "interrupted"
    page = client.get(f"/admin/users/bulkrun/{killed.pk}/change/").content.decode()
    for text in (
        "Interrupted",
        "Its process was killed, or lost the database.",
        f"--resume {killed.pk} --apply",
    ):
        assert text in page


def test_what_cannot_be_resumed_says_why(sandbox):
    differing(sandbox)
    push("--apply")
    done = BulkRun.objects.get()
    assert "no row left" in push("--resume", str(done.pk), "--apply")[1]
    assert "There is no run 99999" in push("--resume", "99999")[1]
    assert "Run" in pull("--resume", str(done.pk))[1]


def test_undo_of_a_pull_and_of_a_push(sandbox):
    pulled, pushed = linked(sandbox, name="Mary Ann Smith"), differing(sandbox)[0]
    rename_in_clerk(sandbox, pulled, "Brown")
    pull("--apply", "--id", str(pulled.pk))
    push("--apply", "--id", str(pushed.pk))
    pull_run, push_run = BulkRun.objects.order_by("pk")
    code, out = pull("--undo", str(pull_run.pk), "--apply")
    assert (code, "Both sides take what was here before" in out) == (0, True)
    code, out = push("--undo", str(push_run.pk), "--apply")
    assert (code, "Both sides take the name that Clerk had before" in out) == (0, True)
    for user, name in ((pulled, "Mary Ann Smith"), (pushed, "Mary Ann Smith0")):
        user.refresh_from_db()
        assert (user.name, clerk_name(sandbox, user)) == (name, name)


def test_without_a_key_it_says_what_to_set(settings, sandbox):
    differing(sandbox)
    settings.CLERK_SECRET_KEY = ""
    code, out = push("--apply")
    assert code == 2
    stopped = BulkRun.objects.get()
    assert (stopped.state, stopped.rows.get().state) == ("stopped", "waiting")
    assert "Clerk authentication not configured" in out
    code, out = run("clerk_push", "--apply")
    assert code == 1
    assert "CLERK_SECRET_KEY" in out
