"""Runs, looked at from the command line; what the bulk commands tell machines and cron."""

from __future__ import annotations

import csv
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from tests.support.bulk_pages import BULK, press
from tests.support.commands import run, trusting
from tests.support.documents import document
from tests.support.factories import change_here, linked
from users.models import BulkRun, RunRequest, RunStatus

pytestmark = pytest.mark.django_db(transaction=True)


def push(*arguments):
    return run("clerk_push", *trusting(arguments), "--rate", "1000")


@pytest.fixture
def two_differ(sandbox):
    """One user whose name can be pushed, and one whose account Clerk refuses to change."""
    users = [linked(sandbox, name=f"Mary Ann Smith{n}") for n in range(2)]
    for user in users:
        change_here(user, name="Mary Ann Jones")
    sandbox.fault("PATCH /users/{user_id}", "status", status=409, code="user_managed_by_scim",
                  user_id=users[1].clerk_id, times=None)  # fmt: skip
    return users


def test_runs_are_listed_shown_and_exported(sandbox, two_differ, tmp_path):
    push("--apply")
    done = BulkRun.objects.get()
    code, out = run("runs")
    assert code == 0
    for text in (str(done.pk), "clerk_push", "Finished", "1 done, 1 failed"):
        assert text in out
    for arguments in (["show"], ["show", done.pk]):
        code, out = run("runs", *arguments)
        assert (code, "Failed: Mary Ann Jones" in out, "SCIM" in out) == (0, True, True)
    code, out = run("runs", "export")
    rows = list(csv.DictReader(out.splitlines()))
    assert {row["user_id"]: row["state"] for row in rows} == {
        str(two_differ[0].pk): "done",
        str(two_differ[1].pk): "failed",
    }
    file = tmp_path / "run.csv"
    assert run("runs", "export", done.pk, "--out", file)[0] == 0
    assert list(csv.DictReader(file.read_text().splitlines())) == rows
    assert file.stat().st_mode & 0o777 == 0o600
    assert document("runs")["runs"][0]["id"] == done.pk


def test_a_run_that_does_not_exist_is_said(sandbox):
    assert "There is no run yet" in run("runs", "show")[1]
    assert "There is no run 99999" in run("runs", "export", "99999")[1]


def test_machines_get_plans_runs_and_errors_in_one_documented_form(sandbox, two_differ):
    plan = document("clerk_push", "--no-refresh")
    assert (len(plan["plan"]["rows"]), plan["run"], plan["error"]) == (2, None, None)
    applied = document("clerk_push", "--no-refresh", "--apply")
    assert applied["run"]["counts"] == {"Done": 1, "Failed": 1}
    assert "SCIM" in applied["run"]["not_done"][0]["reason"]
    assert document("runs", "show")["run"] == applied["run"]
    over = document("clerk_push", "--no-refresh", "--max-changes", "0")
    assert "Use --max-changes 1 to allow them." in over["plan"]["would_stop"]
    assert over["error"] is None
    refused = document("clerk_push", "--no-refresh", "--apply", "--max-changes", "0")
    assert refused == over | {"error": over["plan"]["would_stop"]}
    sandbox.clear_faults()
    sandbox.fault("*", "status", status=401, code="clerk_key_invalid", times=None)
    stopped = document("clerk_push", "--no-refresh", "--apply")
    assert stopped["run"]["state"] == "stopped"
    assert "CLERK_SECRET_KEY" in stopped["run"]["message"]


def test_machines_get_the_faults_of_a_spreadsheet_in_the_same_form(sandbox, tmp_path):
    file = tmp_path / "fixes.csv"
    file.write_text("email,name\nmary@example.com,Mary Smith\n", encoding="utf-8")
    refused = document("update_users", file)
    [fault] = refused["errors"]
    assert (fault["line"], fault["column"]) == (2, "email")
    assert "Nothing was changed" in refused["error"]
    assert (refused["plan"], refused["run"]) == (None, None)


def test_the_last_line_of_a_plan_tells_new_users_from_changes(sandbox, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text("email,name\nmary@example.com,Mary Smith\n", encoding="utf-8")
    out = run("import_users", file, "--no-refresh", "--sign-in", "create", "--rate", "0.01")[1]
    assert "1 to make, 0 to change, 0 to delete, about 100 seconds at 0.01 a second." in out


def test_the_last_line_of_a_plan_sums_it_up(sandbox, two_differ):
    out = run("clerk_push", "--no-refresh", "--rate", "0.01")[1]
    assert "2 to change, 0 to delete, about 3 minutes at 0.01 a second." in out


def test_cron_hears_only_of_what_is_not_done(sandbox, two_differ):
    assert push("--quiet") == (2, "")
    first, _ = two_differ
    assert push("--quiet", "--apply", "--id", str(first.pk)) == (0, "")
    code, out = push("--quiet", "--apply")
    assert (code, "Failed: Mary Ann Jones" in out) == (2, True)


def test_a_plan_is_sorted_as_it_is_asked_for(sandbox):
    for name in ("zoe Smith", "Ann Smith", "Mary Smith"):
        change_here(linked(sandbox), name=name)
    rows = document("clerk_push", "--no-refresh", "--sort", "user")["plan"]["rows"]
    assert [row["label"] for row in rows] == ["Ann Smith", "Mary Smith", "zoe Smith"]


def test_what_an_action_would_ignore_is_refused(sandbox, tmp_path):
    assert run("runs", "list", "3") == (1, "“list” takes no RUN. Use: manage.py runs show 3")
    assert "--out is for “export”" in run("runs", "show", "--out", tmp_path / "run.csv")[1]
    assert "“export” writes CSV" in run("runs", "export", "--json")[1]


def test_rows_that_a_limit_left_out_are_not_said_to_have_been_tried(sandbox):
    for number in range(3):
        change_here(linked(sandbox, name=f"Mary Ann Smith{number}"), name="Mary Ann Jones")
    code, out = push("--apply", "--limit", "1")
    assert (code, "2 rows were not tried yet. Resume the run later." in out) == (2, True), out
    assert "tried again" not in out
    shown = run("runs", "show")[1]
    assert "2 waiting, 1 done" in shown
    assert shown.count("Waiting: Mary Ann Jones. Not tried yet.") == 2
    left = document("runs", "show")["run"]["not_done"]
    assert [row["state"] for row in left] == ["Waiting", "Waiting"]


def test_one_change_is_counted_in_the_singular(sandbox):
    change_here(linked(sandbox), name="Mary Ann Jones")
    out = push("--apply", "--max-changes", "0")[1]
    assert "The plan has 1 change of type" in out
    assert push("--apply")[0] == 0
    assert "Names pushed: 1." in push("--undo", BulkRun.objects.get().pk)[1]


@pytest.mark.parametrize("option", ["--undo", "--resume"])
def test_a_scan_is_neither_undone_nor_resumed(sandbox, option):
    linked(sandbox)
    run("clerk_diff", "--refresh")
    looked = BulkRun.objects.get()
    code, out = push(option, looked.pk)
    assert (code, out) == (1, f"Run {looked.pk} (scan) changed nothing. See: manage.py runs")


def test_a_folder_that_does_not_exist_is_said_before_the_work(sandbox, tmp_path):
    code, out = run("clerk_push", "--plan-out", tmp_path / "nowhere" / "plan.json")
    assert (code, "the folder" in out, "does not exist" in out) == (1, True, True)
    assert not BulkRun.objects.exists()


class Told(StringIO):
    """What a command says. `then` happens as soon as it says something."""

    def __init__(self, then):
        super().__init__()
        self.then = [then]

    def write(self, text):
        while self.then:
            self.then.pop()()
        return super().write(text)


def test_a_run_that_is_cancelled_while_its_rest_is_shown_is_not_resumed(client, sandbox):
    users = [linked(sandbox) for _ in range(2)]
    run("clerk_action", "ban", "--all", "--no-refresh", "--apply", "--limit", "1")
    left = BulkRun.objects.get()
    told = Told(lambda: press(client, f"{BULK}{left.pk}/", "cancel"))
    with pytest.raises(CommandError, match=f"Run {left.pk} is cancelled. Plan it again."):
        call_command("clerk_action", "--resume", str(left.pk), "--apply", stdout=told)
    left.refresh_from_db()
    assert left.state == "cancelled"
    assert sum(account["banned"] for account in sandbox.users()) == len(users) - 1


TRANSITIONS = {
    "begin": (BulkRun.begin, {"planned": "queued"}),
    "take": (BulkRun.take, {"queued": "running"}),
    "resume": (
        BulkRun.resume,
        dict.fromkeys(["paused", "stopped", "interrupted", "finished"], "running"),
    ),
    "ask": (lambda run: run.ask(RunRequest.PAUSE), {"running": "running"}),
    "withdraw": (BulkRun.withdraw, {"running": "running"}),
    "pause": (BulkRun.pause, {"queued": "paused"}),
    "discard": (BulkRun.discard, {"planned": "cancelled"}),
    "cancel": (
        BulkRun.cancel,
        dict.fromkeys(["queued", "paused", "stopped", "interrupted"], "cancelled"),
    ),
    "go_on": (BulkRun.go_on, dict.fromkeys(["paused", "stopped", "interrupted"], "queued")),
    "requeue": (lambda run: run.requeue("Killed."), {"running": "queued"}),
    "interrupt": (lambda run: run.interrupt("Killed."), {"running": "interrupted"}),
    "end": (lambda run: run.end(RunStatus.FINISHED), {"running": "finished"}),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transition_leaves_the_states_that_it_names_alone(name):
    """Whatever state the process has read before: the database decides."""
    move, moved = TRANSITIONS[name]
    for state in RunStatus:
        BulkRun.objects.create(command="clerk_push", state=state)
    for state in RunStatus:
        run = BulkRun.objects.get(state=state)
        run.state = "of another time"
        assert move(run) == (state in moved)
        assert run.state == moved.get(state, state)
        BulkRun.objects.filter(pk=run.pk).update(state=state)
