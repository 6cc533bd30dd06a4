"""What every command has: examples, options that are checked, and one line for a known failure."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from io import StringIO

import pytest
from django.core.management import get_commands, load_command_class
from django.db import OperationalError, connection, connections

from tests.support.commands import ROOT, run_apart
from tests.support.documents import KEYS, document, read_document
from tests.support.events import mistaken, post
from tests.support.factories import change_here, linked
from tests.support.interruptions import abandoned
from tests.support.terminal import piped
from users.management.command import EngineerCommand, JsonCommand
from users.models import BulkRun, WebhookDelivery

pytestmark = pytest.mark.django_db(transaction=True)

COMMANDS = {
    file.stem: app
    for app in ("staff", "users")
    for file in sorted((ROOT / app / "management" / "commands").glob("[!_]*.py"))
}
REQUIRED = {
    "forget_person": ["sam@example.com"],
    "reset_two_step": ["sam"],
    "unlock_sign_in": ["--account", "sam"],
}
"""Options that a command needs before it asks the database."""


def command_of(name: str) -> type[EngineerCommand]:
    return import_module(f"{COMMANDS[name]}.management.commands.{name}").Command


WITH_JSON = [name for name in COMMANDS if issubclass(command_of(name), JsonCommand)]

for_every_command = pytest.mark.parametrize("name", COMMANDS)
for_every_json_command = pytest.mark.parametrize("name", WITH_JSON)


def run_from_shell(name: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr, as `manage.py` runs a command."""
    out, errors = StringIO(), StringIO()
    with pytest.raises(SystemExit) as end:
        command_of(name)(out, errors).run_from_argv(["manage.py", name, *arguments])
    return int(end.value.code or 0), out.getvalue(), errors.getvalue()


@pytest.fixture
def dead_database(monkeypatch) -> Iterator[None]:
    def refuse(self, parameters):
        raise OperationalError("connection refused")

    connection.close()
    with monkeypatch.context() as patch:
        patch.setattr(type(connections["default"]), "get_new_connection", refuse)
        yield


# --- Help and options ----------------------------------------------------------------------------


@for_every_command
def test_every_command_is_one_of_ours(name):
    assert get_commands()[name] == COMMANDS[name]
    assert issubclass(command_of(name), EngineerCommand)
    assert ("--json" in parser_of(name).format_help()) == (name in WITH_JSON)


def parser_of(name):
    return load_command_class(COMMANDS[name], name).create_parser("manage.py", name)


@for_every_command
def test_the_help_of_every_command_has_two_examples_that_it_accepts(name):
    text = parser_of(name).format_help()
    examples = text.split("Examples:\n")[1].strip().splitlines()
    assert len(set(examples)) >= 2
    for example in examples:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("manage.py", name)
        parser_of(name).parse_args(arguments)  # raises for a wrong option


@for_every_command
def test_the_help_of_every_command_explains_its_exit_codes(name):
    text = " ".join(parser_of(name).format_help().split())
    assert re.search(r"Exit codes?:? 0", text), text


@for_every_command
@pytest.mark.parametrize("option", ["--nonsense", "--no-colo"])
def test_unknown_and_shortened_options_are_refused(name, option):
    code, out, errors = run_from_shell(name, *REQUIRED.get(name, []), option)
    assert (code, out) == (1, "")
    assert errors == (f"Error: unrecognized arguments: {option}\nSee manage.py {name} --help.\n")


# --- A dead database -----------------------------------------------------------------------------

DEAD = "The database does not answer (OperationalError). Check DATABASE_URL and PostgreSQL. "


OTHERWISE = {"clerk_check", "adopt_database"}
"""The one tells it as a finding; the other connects by itself: see test_adopt_database."""


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - OTHERWISE))
def test_a_dead_database_is_one_line(sandbox, dead_database, name):
    code, out, errors = run_from_shell(name, *REQUIRED.get(name, []))
    assert (code, out) == (1, "")
    assert errors.startswith(f"CommandError: {DEAD}")
    assert errors.count("\n") == 1


@for_every_json_command
def test_a_dead_database_is_told_to_machines(sandbox, dead_database, name):
    code, out, _ = run_from_shell(name, "--json")
    told = read_document(name, out)
    assert code == 1
    if name == "adopt_database":
        assert told["error"].startswith("Set CASCADE_SCHEMA in the environment")
    elif name == "clerk_check":
        assert (told["error"], told["broken"]) == (None, True)
        assert "Database" in {found["subject"] for found in told["findings"]}
    else:
        assert told["error"].startswith(DEAD)


def test_a_database_without_our_tables_names_the_command_that_makes_them(sandbox):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE users_bulkrun RENAME TO users_bulkrun_before")
    try:
        told = document("runs")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE users_bulkrun_before RENAME TO users_bulkrun")
    assert told["error"].startswith("The database lacks tables of this version.")
    assert "Run: manage.py migrate." in told["error"]


# --- One document, whatever ends a command -------------------------------------------------------


def test_the_documentation_names_each_command_with_json_and_its_keys():
    declared = {name: {"version", "command", "error", *command_of(name).keys} for name in WITH_JSON}
    assert declared == KEYS


def test_the_documented_schema_describes_each_key_once():
    def keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(pairs)) == len(pairs), [key for key, _ in pairs]
        return dict(pairs)

    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    json.loads(text.split("```json")[1].split("```")[0], object_pairs_hook=keys)


@for_every_json_command
def test_wrong_options_are_told_to_machines(name):
    code, out, errors = run_from_shell(name, "--json", "--nonsense")
    assert (code, read_document(name, out)["error"]) == (1, errors.rstrip("\n"))


def test_a_file_name_that_no_database_takes_is_refused():
    """A name in another encoding, as an archive of another system leaves it."""
    code, out, errors = run_from_shell("update_users", "caf\udce9.csv", "--json")
    said = "“caf\\udce9.csv” is not text in UTF-8. If it is a file, rename it."
    assert (code, errors) == (1, f"{said}\n")
    assert read_document("update_users", out)["error"] == said


@for_every_json_command
def test_ctrl_c_is_told_to_machines(monkeypatch, name):
    def interrupt(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_of(name), "handle", interrupt)
    code, out, errors = run_from_shell(name, "--json")
    assert (code, errors) == (130, "Interrupted before anything was changed.\n")
    assert read_document(name, out)["error"] == errors.rstrip("\n")


@for_every_command
def test_ctrl_c_is_one_line(monkeypatch, name):
    def interrupt(self, *arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_of(name), "handle", interrupt)
    ended = run_from_shell(name, *REQUIRED.get(name, []))
    assert ended == (130, "", "Interrupted before anything was changed.\n")


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("clerk_recover", "users.sync.maintenance.run"),
        ("clerk_replay", "users.sync.inbound.deliveries.retry"),
    ],
)
def test_ctrl_c_during_recovery_never_says_that_nothing_was_changed(monkeypatch, name, work):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, interrupt)
    code, out, _ = run_from_shell(name, "--json")
    assert code == 130
    assert read_document(name, out)["error"] == (
        "Interrupted. What it did is kept. Run it again to do the rest."
    )


@for_every_json_command
def test_a_fault_of_the_code_is_told_to_machines_and_keeps_its_traceback(monkeypatch, name):
    def fail(self, *arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(command_of(name), "handle", fail)
    out = StringIO()
    with pytest.raises(ZeroDivisionError):
        command_of(name)(out, StringIO()).run_from_argv(["manage.py", name, "--json"])
    assert "ZeroDivisionError" in read_document(name, out.getvalue())["error"]


def test_a_run_that_is_interrupted_is_told_with_its_rows(sandbox, monkeypatch):
    for number in range(2):
        change_here(linked(sandbox, name=f"Mary Ann Smith{number}"), name="Mary Ann Jones")

    def interrupt_at_once(self, *arguments):
        self.stop.set()

    monkeypatch.setattr("users.sync.bulk.run._Execution._wait_for_turn", interrupt_at_once)
    code, out, _ = run_apart("clerk_push", "--no-refresh", "--apply", "--json")
    told = read_document("clerk_push", out)
    run = BulkRun.objects.get()
    assert code == 130
    assert (told["run"]["state"], told["run"]["counts"]) == ("interrupted", {"Waiting": 2})
    assert f"manage.py clerk_push --resume {run.pk}" in told["error"]


def test_a_process_without_a_database_tells_machines_one_document(sandbox):
    process = piped(sandbox, "runs", "--json", DATABASE_URL="postgres://nobody@127.0.0.1:9/none")
    out, errors = process.communicate()
    told = read_document("runs", out.decode())
    assert process.returncode == 1
    assert errors.decode().endswith(f"CommandError: {told['error']}\n")
    assert b"Traceback" not in errors


# --- What the documents say ----------------------------------------------------------------------


def test_differences_are_told_as_documented(sandbox):
    change_here(linked(sandbox, name="Mary Ann Smith"), name="Mary Ann Jones")
    assert document("clerk_diff")["looked_at"] is None
    told = document("clerk_diff", "--refresh")
    assert [row["kind"] for row in told["differences"]] == ["name"]
    assert told["summary"] == {"Name differs": 1}
    assert told["looked_at"]
    refused = document("clerk_diff", "--format", "csv")
    assert refused["error"].startswith("--json cannot be combined with --format.")
    assert refused["differences"] is None


def test_findings_are_told_as_documented(sandbox, settings):
    assert document("clerk_check")["broken"] is False
    settings.CLERK_SECRET_KEY = ""
    told = document("clerk_check")
    assert (told["broken"], told["error"]) == (True, None)
    assert {"broken", "ok"} <= {found["level"] for found in told["findings"]}
    refused = document("clerk_check", "--accept-instance", "ins_of_another")
    assert "Set CLERK_SECRET_KEY" in refused["error"]
    assert refused["findings"] is None


def test_pending_changes_are_told_as_documented(sandbox):
    attempt = abandoned(linked(sandbox))
    sandbox.fault("*", "status", status=503, times=None)
    told = document("clerk_recover")
    [pending] = told["attempts"]
    assert (told["left"], told["error"]) == (1, None)
    assert (pending["attempt"], pending["status"]) == (attempt.pk, "started")


def test_events_are_told_as_documented(sandbox):
    user = linked(sandbox)
    sandbox.edit(user.clerk_id, last_name="Jones")
    event = sandbox.webhooks.events[-1]
    with mistaken():
        post(sandbox, event)
        for told in (document("clerk_recover"), document("clerk_replay")):
            [waiting] = told["events"]
            assert told["left"] == 1
            assert (waiting["svix_id"], waiting["done"]) == (event.id, False)
            assert "ZeroDivisionError" in waiting["error"]
    told = document("clerk_replay")
    assert (told["left"], told["events"][0]["done"], told["error"]) == (0, True, None)
    assert not WebhookDelivery.objects.filter(payload__isnull=False).exists()
    assert "msg_unknown" in document("clerk_replay", "msg_unknown")["error"]


def test_runs_that_do_not_exist_are_told_as_documented(sandbox):
    assert document("runs")["runs"] == []
    refused = document("runs", "show", "7")
    assert (refused["error"], refused["run"]) == ("There is no run 7.", None)
    assert "“export” writes CSV" in document("runs", "export")["error"]
