"""What commands write: whole and harmless, wherever it goes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from contextlib import suppress

import pytest
from django.db import OperationalError, connection

from tests.support.commands import ROOT, environment, run, run_apart
from tests.support.documents import read_document
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, change_here, linked
from tests.support.patience import wait_until
from tests.support.terminal import ESCAPE, harmless, piped, python_piped
from users.management.commands import clerk_push
from users.models import BulkRun, ClerkAccount
from users.sync.inbound import deliveries
from users.sync.outbound import checkpoints, recovery

pytestmark = pytest.mark.django_db(transaction=True)


def push(*arguments):
    return run("clerk_push", "--no-refresh", *arguments)


@pytest.fixture
def eve(sandbox):
    """A user whose name in Clerk has control characters."""
    user = linked(sandbox, name="Eve Smith", first_name="Eve", last_name="Smith")
    sandbox.edit(user.clerk_id, first_name=ESCAPE)
    run("clerk_diff", "--refresh")
    return user


def test_control_characters_reach_no_terminal_no_csv_and_no_plan(sandbox, eve, tmp_path):
    plan = tmp_path / "plan.json"
    outputs = [
        push("--plan-out", plan)[1],
        run("clerk_diff")[1],
        run("clerk_diff", "--format", "csv")[1],
        run("clerk_pull", "--no-refresh")[1],
        plan.read_text(),
    ]
    for output in outputs:
        assert harmless(output), output
    assert "\\u001b]0;owned" in outputs[0]
    assert json.loads(plan.read_text())["rows"][0]["changes"]["name"][0].startswith("\x1b")
    assert push("--plan", plan, "--apply")[0] == 0
    assert sandbox.user(eve.clerk_id)["first_name"] == "Eve"


def test_control_characters_reach_no_result_file(sandbox, tmp_path):
    user = linked(sandbox, email="eve@example.com")
    change_here(user, name=ESCAPE)
    (tmp_path / "fixes.csv").write_text(f"id,role\n{user.pk},ADMIN\n")
    assert run("update_users", tmp_path / "fixes.csv", "--no-refresh", "--apply")[0] == 0
    undone = run("update_users", "--undo", BulkRun.objects.get().pk, "--no-refresh", "--apply",
                 "--result", tmp_path / "undo.csv")  # fmt: skip
    assert harmless(undone[1])
    [row] = csv.DictReader((tmp_path / "undo.csv").read_text().splitlines())
    assert harmless(row["key"])
    assert "Eve" in row["key"]


def test_control_characters_are_never_pulled_into_the_database(sandbox, eve):
    code, out = run("clerk_pull", "--no-refresh", "--apply")
    assert (code, "control characters. It is not copied from Clerk" in out) == (0, True)
    eve.refresh_from_db()
    assert eve.name == "Eve Smith"
    assert ClerkAccount.objects.get().first_name.startswith("\x1b")


def test_control_characters_of_a_file_reach_no_message(sandbox, tmp_path):
    (tmp_path / "ids.csv").write_text(f"id\n{ESCAPE}\n", encoding="utf-8")
    code, out = push("--ids-from", tmp_path / "ids.csv")
    assert (code, harmless(out), "Not found: id \\u001b" in out) == (1, True, True), out
    user = linked(sandbox)
    fixes = tmp_path / f"{ESCAPE}.csv"
    for role, words in (("KING", "All of it stands in"), ("ADMIN", "What became of each line")):
        fixes.write_text(f"id,role\n{user.pk},{role}\n", encoding="utf-8")
        out = run("update_users", fixes, "--no-refresh", "--apply")[1]
        assert (harmless(out), words in out) == (True, True), out


def test_a_name_with_control_characters_is_not_pushed(sandbox):
    """Clerk's answer would bring the row back to the name that Clerk had before."""
    user = linked(sandbox, name="Eve Smith", first_name="Eve", last_name="Smith")
    change_here(user, name=ESCAPE)
    code, out = push("--apply")
    assert (code, "control characters. It is not copied to Clerk" in out) == (0, True)
    assert harmless(out)
    user.refresh_from_db()
    assert user.name == ESCAPE
    assert sandbox.user(user.clerk_id)["first_name"] == "Eve"
    assert not sandbox.writes()


def test_a_name_with_control_characters_is_not_brought_back_by_an_undo(sandbox, eve):
    assert push("--apply")[0] == 0
    pushed = BulkRun.objects.get(command="clerk_push")
    code, out = push("--undo", pushed.pk, "--apply")
    assert (code, "the name before is not restored. Its name has control" in out) == (0, True)
    assert harmless(out)
    eve.refresh_from_db()
    assert eve.name == "Eve Smith"
    assert sandbox.user(eve.clerk_id)["first_name"] == "Eve"


def test_an_undo_without_a_name_that_has_control_characters_undoes_the_rest(sandbox, tmp_path):
    user = linked(sandbox, role="BUILDER")
    change_here(user, name=ESCAPE)
    (tmp_path / "fixes.csv").write_text(f"id,name,role\n{user.pk},Jane Roe,ADMIN\n")
    assert run("update_users", tmp_path / "fixes.csv", "--no-refresh", "--apply")[0] == 0
    undo = ("--undo", BulkRun.objects.get().pk, "--result", tmp_path / "undo.csv")
    code, out = run("update_users", *undo, "--no-refresh", "--apply")
    assert (code, "the name before is not restored" in out) == (0, True)
    user.refresh_from_db()
    assert (user.name, user.role) == ("Jane Roe", "BUILDER")


def test_groups_are_told_by_their_names(sandbox, client, tmp_path):
    oak, elm = BuilderGroupFactory(name="Oak Hill"), BuilderGroupFactory(name="Elm")
    user = BuilderUserFactory(builder_group=oak)
    (tmp_path / "fixes.csv").write_text(f"id,builder_group\n{user.pk},elm\n")
    plan = tmp_path / "plan.json"
    update = ("update_users", "--no-refresh")
    _, out = run(*update, tmp_path / "fixes.csv", "--plan-out", plan)
    [row] = json.loads(plan.read_text())["rows"]
    assert row["shown"] == {"builder_group": ["Oak Hill", "Elm"]}
    assert row["changes"] == {"builder_group": [str(oak.pk), str(elm.pk)]}
    outputs = [out, run(*update, "--plan", plan)[1]]
    assert run(*update, "--plan", plan, "--apply")[0] == 0
    done = BulkRun.objects.get()
    attempt = done.attempts.get()
    outputs += [
        run(*update, "--undo", done.pk)[1],
        client.get(f"/admin/users/bulkrow/?run__id__exact={done.pk}").content.decode(),
        client.get(f"/admin/users/syncattempt/{attempt.pk}/change/").content.decode(),
    ]
    for output in outputs:
        assert "Oak Hill" in output
        assert "Elm" in output
        assert str(elm.pk) not in output


# --- Ends that nobody planned --------------------------------------------------------------------


def test_ctrl_c_after_a_run_has_begun_never_says_that_nothing_was_changed(sandbox, monkeypatch):
    user = linked(sandbox)
    change_here(user, name="Mary Ann Jones")

    def interrupted(self, run):
        raise KeyboardInterrupt

    monkeypatch.setattr(clerk_push.Command, "applied", interrupted)
    code, out = push("--apply")
    assert code == 130
    assert "before anything was changed" not in out
    assert f"Run {BulkRun.objects.get().pk} had begun" in out
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"


def test_ctrl_c_before_a_run_says_that_nothing_was_changed(sandbox, monkeypatch):
    def interrupted(self, options):
        raise KeyboardInterrupt

    monkeypatch.setattr(clerk_push.Command, "plan", interrupted)
    assert push("--apply") == (130, "Interrupted before anything was changed.\n")


@pytest.mark.parametrize(
    ("command", "module", "function"),
    [("clerk_recover", recovery, "recover_all"), ("clerk_replay", deliveries, "retry")],
)
def test_a_database_that_does_not_answer_is_one_line(monkeypatch, command, module, function):
    def dead(*arguments):
        raise OperationalError("connection refused")

    monkeypatch.setattr(module, function, dead)
    code, out = run(command)
    assert (code, "The database does not answer" in out) == (1, True)


def test_a_database_that_dies_during_a_run_says_how_to_go_on(sandbox, monkeypatch):
    change_here(linked(sandbox), name="Mary Ann Jones")

    def dead(*arguments, **options):
        raise OperationalError("connection refused")

    monkeypatch.setattr(clerk_push.Command, "applied", dead)
    code, out = push("--apply")
    assert code == 1
    assert f"--resume {BulkRun.objects.get().pk}" in out
    assert "run this command again" not in out


@pytest.fixture
def lost_database():
    """Every connection of the run ends after Clerk has taken its first change."""

    def lose(sender, step, **kwargs):
        if step == checkpoints.AFTER_CALL:
            with connection.copy().cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    checkpoints.reached.connect(lose)
    yield
    checkpoints.reached.disconnect(lose)
    connection.close()


def database_answers() -> bool:
    """The connections of this process ended, too; its pool makes new ones."""
    with suppress(OperationalError):
        return BulkRun.objects.exists()
    return False


def test_machines_get_the_run_whose_database_ends_in_the_middle(sandbox, lost_database):
    change_here(linked(sandbox), name="Mary Ann Jones")
    code, out, errors = run_apart("clerk_push", "--no-refresh", "--apply", "--json")
    assert code == 1
    told = read_document("clerk_push", out)
    connection.close()
    wait_until(database_answers, "the pool has no connection again")
    begun = BulkRun.objects.get()
    assert told["run"]["id"] == begun.pk
    assert told["run"]["state"] == "interrupted"
    assert f"manage.py runs show {begun.pk}" in told["run"]["message"]
    assert (told["run"]["counts"], told["run"]["not_done"]) == (None, None)
    assert "The database does not answer" in told["error"]
    assert f"--resume {begun.pk}" in told["error"]
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("key", "url", "words"),
    [
        ("", "http://127.0.0.1:9/v1", "Set CLERK_SECRET_KEY, then run this command again."),
        ("sk_test_x", "http://127.0.0.1:9/v1", "Check CLERK_API_URL (http://127.0.0.1:9/v1)"),
    ],
)
def test_a_failure_of_clerk_tells_an_engineer_what_to_set(settings, sandbox, key, url, words):
    settings.CLERK_SECRET_KEY, settings.CLERK_API_URL = key, url
    code, out = run("clerk_diff", "--refresh")
    assert (code, words in out, "save again" in out) == (1, True, False), out


def test_a_reader_who_goes_away_neither_stops_the_run_nor_makes_a_traceback(sandbox):
    users = [linked(sandbox, name=f"Mary Ann Smith{n}") for n in range(5)]
    for user in users:
        change_here(user, name=f"{user.name} Jones")
    process = piped(sandbox, "clerk_push", "--no-refresh", "--apply", "--rate", "1000")
    process.stdout.close()
    errors = process.stderr.read()
    assert (process.wait(), b"Traceback" in errors, b"BrokenPipe" in errors) == (0, False, False)
    process.stderr.close()
    assert BulkRun.objects.get().state == "finished"


def test_a_full_disk_is_said_once_and_does_not_end_the_run(sandbox):
    user = linked(sandbox)
    change_here(user, name="Mary Ann Jones")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-W", "ignore", "manage.py", "clerk_push", "--no-refresh", "--apply"],
            cwd=ROOT, env=environment(sandbox), stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    said = [line for line in ended.stderr.splitlines() if not line.startswith("Run ")]  # progress
    assert said == ["The rest of the output could not be written: No space left on device."]
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"


def test_an_output_that_is_closed_takes_nothing_and_does_not_end_the_run(sandbox):
    user = linked(sandbox)
    change_here(user, name="Mary Ann Jones")
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" 1>&-', "sh", sys.executable, "-W", "ignore", "manage.py",
         "clerk_push", "--no-refresh", "--apply"],
        cwd=ROOT, env=environment(sandbox), stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clerk_push", "--drift", "nmae"], "invalid choice: 'nmae' (choose from 'name', "),
        (["clerk_push", "someuser"], "unrecognized arguments: someuser"),
        (["clerk_push", "--resume", "last"], "“last” is not a whole number"),
        (["clerk_push", "--limit", "0", "--apply"], "0 is too few: give 1 or more"),
        (["clerk_push", "--limit", "9" * 19, "--apply"], f"{'9' * 19} is too large"),
        (["adopt_database", "--lock-timeout", "nan"], "“nan” is not a number of seconds above 0"),
        (["runs", "sohw"], "invalid choice: 'sohw'"),
    ],
)
def test_wrong_options_could_not_run_and_lead_to_the_help(sandbox, arguments, words):
    process = piped(sandbox, *arguments)
    out, errors = process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert words in errors.decode()
    assert errors.decode().endswith(f"\nSee manage.py {arguments[0]} --help.\n")


def test_ctrl_c_while_the_command_is_loaded_is_one_line(sandbox, tmp_path):
    (tmp_path / "interrupted.py").write_text("raise KeyboardInterrupt\n")
    process = python_piped(
        sandbox, "runs", PYTHONPATH=str(tmp_path), DJANGO_SETTINGS_MODULE="interrupted"
    )
    assert process.communicate() == (b"", b"Interrupted.\n")
    assert process.returncode == 130


def test_an_output_that_knows_ascii_alone_is_no_traceback(sandbox):
    user = linked(sandbox)
    change_here(user, name="Zoë Ångström")
    process = python_piped(
        sandbox, "clerk_push", "--no-refresh", PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    out, errors = process.communicate()
    assert (process.returncode, b"Traceback" in errors) == (2, False)
    assert b"Zo\\xeb" in out
    assert os.linesep.encode() in out
