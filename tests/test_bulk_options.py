"""Options of the bulk commands that would be ignored are refused, and named."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.core.management import get_commands
from django.core.management.base import BaseCommand, CommandParser

from tests.support.commands import run
from users.management.bulk import BulkCommand
from users.management.options import add_choice

pytestmark = pytest.mark.django_db(transaction=True)

FILE_OPTIONS = ["--encoding", "latin1", "--ignore-unknown-columns"]
MAKE_A_PLAN = {
    "clerk_action": ["ban", "people.csv", *FILE_OPTIONS, "--all"],
    "clerk_import": [
        "--email", "ann@example.com", "--domain", "example.com", "--metadata", "a=b", "--all",
        "--include", "banned", "--role", "BUILDER", "--group", "Oak Hill", "--keep-ids",
    ],
    "clerk_link": [],
    "clerk_pull": ["--field", "name"],
    "clerk_push": ["--field", "name"],
    "import_users": [
        "new.csv", *FILE_OPTIONS, "--sign-in", "none", "--role", "BUILDER", "--group", "Oak Hill",
    ],
    "update_users": ["fixes.csv", *FILE_OPTIONS, "--new-address", "invite"],
}  # fmt: skip
"""Every option of each command that makes its plan, with a value."""


def command_of(name: str) -> type[BaseCommand]:
    return import_module(f"{get_commands()[name]}.management.commands.{name}").Command


BULK = [
    name for name, app in sorted(get_commands().items())
    if app == "users" and issubclass(command_of(name), BulkCommand)
]  # fmt: skip


def spelled(dest: str) -> str:
    return {"action": "ACTION", "file": "FILE"}.get(dest, f"--{dest.replace('_', '-')}")


@pytest.mark.parametrize("elsewhere", ["--plan", "--undo", "--resume"])
@pytest.mark.parametrize("name", BULK)
def test_a_plan_that_is_made_already_refuses_every_option_that_makes_one(sandbox, name, elsewhere):
    making = MAKE_A_PLAN[name]
    refused = [spelled(dest) for dest in command_of(name).plan_options]
    code, out = run(name, *making, elsewhere, "7")
    if refused:
        said = f"{elsewhere} cannot be combined with {', '.join(refused)}. Nothing was changed."
        assert (code, out) == (1, said)
    else:
        assert "cannot be combined" not in out
    assert not sandbox.requests() or not refused


@pytest.mark.parametrize("name", BULK)
def test_every_option_of_a_command_of_its_own_makes_its_plan(name):
    """Options that all bulk commands share, that choose, or that confirm do not make the plan."""
    shared = CommandParser()
    BulkCommand().add_arguments(shared)
    add_choice(shared)
    known = set(vars(shared.parse_args([]))) | {"confirm", "result"}
    own = command_of(name)
    if own.plan_options:
        parser = CommandParser()
        own().add_arguments(parser)
        own_choosers = set() if "ids_from" in vars(parser.parse_args([])) else {
            "email", "group", "role"
        }  # fmt: skip
        known -= own_choosers
        assert set(vars(parser.parse_args([]))) - known == set(own.plan_options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--resume", "1", "--no-refresh"), "--resume cannot be combined with --no-refresh."),
        (("--resume", "1", "--accept-missing"), "--resume cannot be combined with --accept-"),
        (("--resume", "1", "--max-changes", "0"), "--resume cannot be combined with --max-changes"),
        (("--undo", "0", "--field", "name"), "--undo cannot be combined with --field."),
        (("--no-refresh", "--accept-missing"), "--no-refresh cannot be combined with --accept-"),
    ],
)
def test_what_would_be_ignored_is_refused(sandbox, arguments, said):
    code, out = run("clerk_push", *arguments)
    assert (code, said in out) == (1, True), out
    assert not sandbox.requests()


def test_a_file_of_ids_with_a_null_character_names_what_is_not_found(sandbox, tmp_path):
    (tmp_path / "ids.csv").write_bytes(b"id\nuser_a\0b\n")
    code, out = run("clerk_push", "--ids-from", tmp_path / "ids.csv")
    assert (code, out) == (1, "Not found: id user_a\\u0000b. Nothing was planned.")


def test_the_role_of_new_users_is_builder_unless_it_is_given(sandbox):
    sandbox.add_user(email="ann@example.com", first_name="Ann", last_name="Lee")
    out = run("clerk_import", "--all", "--rate", "1000")[1]
    assert "BUILDER" in out
