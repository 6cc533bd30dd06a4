"""New people from a spreadsheet, and their sign-in."""

from __future__ import annotations

import csv
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from sandbox.limits import Limits
from tests.support.commands import run
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, StaffFactory, linked
from tests.support.unknown import time_is_over
from users.models import BuilderUser, BulkRow, BulkRun, Invitation, SignIn, SyncAttempt
from users.sync import maintenance
from users.sync.outbound import recovery

pytestmark = pytest.mark.django_db(transaction=True)

ANN, BOB = "ann@example.com", "bob@example.com"
TWO = ["email,name", f"{ANN},Ann Lee", f"{BOB},Bob Ray"]


@pytest.fixture
def import_(tmp_path, monkeypatch, sandbox):
    """Write the lines to a file and run the command on it; Clerk's side is trusted."""
    monkeypatch.chdir(tmp_path)

    def call(lines: list[str], *arguments) -> tuple[int, str]:
        Path("people.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return run("import_users", "people.csv", "--no-refresh", "--rate", "1000", *arguments)

    return call


def outcomes() -> dict[int, tuple[str, str]]:
    """What the newest result file says of each line."""
    newest = max(Path().glob("people.result*.csv"), key=lambda file: file.stat().st_mtime_ns)
    with newest.open(encoding="utf-8", newline="") as text:
        return {int(row["line"]): (row["outcome"], row["reason"]) for row in csv.DictReader(text)}


def numbered(count: int) -> list[str]:
    return ["email,name", *(f"new{n}@example.com,Ann Lee{n}" for n in range(count))]


# --- The three ways ------------------------------------------------------------------------------


def test_without_apply_it_says_who_would_be_made_and_makes_nobody(sandbox, import_):
    code, out = import_(TWO, "--sign-in", "create")
    assert code == 2
    assert "Ann Lee" in out
    assert "Create: 2" in out
    assert not BuilderUser.objects.exists()
    assert not sandbox.requests()


def test_people_get_a_row_and_no_sign_in(sandbox, import_):
    group = BuilderGroupFactory(name="Oak Hill")
    StaffFactory(username="engineer")
    code, out = import_(
        ["E-mail,First Name,Last Name,Role,internal role,Company",
         "ANN@example.com,Ann,Lee,Admin,employee,",
         f"{BOB},Bob,Ray,,,oak hill",
         "cy@example.com,Cher,(none),Homeowner,,"],
        "--sign-in", "none", "--apply", "--actor", "engineer",
    )  # fmt: skip
    assert code == 0, out
    values = ("name", "role", "internal_role", "builder_group", "clerk_id")
    found = {user.email: user for user in BuilderUser.objects.all()}
    assert {
        email: tuple(getattr(user, field) for field in values) for email, user in found.items()
    } == {
        ANN: ("Ann Lee", "ADMIN", "Employee", None, None),
        BOB: ("Bob Ray", "BUILDER", None, group, None),
        "cy@example.com": ("Cher", "HOMEOWNER", None, None, None),
    }
    assert not sandbox.requests()
    assert set(LogEntry.objects.values_list("user__username", "action_flag")) == {("engineer", 1)}
    assert {attempt.status for attempt in SyncAttempt.objects.all()} == {"applied"}
    assert {outcome for outcome, _ in outcomes().values()} == {"changed"}


def test_people_get_a_clerk_account_at_once(sandbox, import_):
    code, out = import_(TWO, "--sign-in", "create", "--apply", "--role", "HOMEOWNER")
    assert code == 0, out
    for user in BuilderUser.objects.all():
        account = sandbox.user(user.clerk_id)
        assert account["public_metadata"]["cascade_user_id"] == str(user.pk)
        assert account["first_name"] == user.name.split()[0]
        assert user.role == "HOMEOWNER"
        assert user.account.email == user.email
    assert len(sandbox.users()) == BuilderUser.objects.count() == 2


def test_people_are_invited(sandbox, import_):
    code, out = import_(TWO, "--sign-in", "invite", "--apply")
    assert code == 0, out
    assert {mail["to"] for mail in sandbox.mails()} == {ANN, BOB}
    assert {one.user.email for one in Invitation.objects.filter(status="pending")} == {ANN, BOB}
    assert not BuilderUser.objects.filter(clerk_id__isnull=False).exists()
    assert "Invitations wait" not in out


def test_what_a_line_does_not_say_comes_from_the_options(import_):
    oak, elm = BuilderGroupFactory(name="Oak Hill"), BuilderGroupFactory(name="Elm")
    lines = ["email,name,group", f"{ANN},Ann Lee,", f"{BOB},Bob Ray,Elm"]
    code, out = import_(lines, "--sign-in", "none", "--apply", "--group", "oak hill")
    assert code == 0, out
    groups = dict(BuilderUser.objects.values_list("email", "builder_group"))
    assert groups == {ANN: oak.pk, BOB: elm.pk}


def test_the_command_must_be_told_how_they_sign_in(import_):
    code, out = import_(TWO, "--apply")
    assert (code, "--sign-in invite, create or none" in out) == (1, True)
    code, out = import_(TWO, "--sign-in", "none", "--group", "Nowhere")
    assert (code, "There is no group “Nowhere”." in out) == (1, True)


def test_the_form_and_the_command_offer_the_same_sign_ins(client, sandbox, import_):
    page = client.get("/admin/users/builderuser/add/").content.decode()
    offered = re.findall(r'<input type="radio" name="account" value="(\w+)"', page)
    assert offered == SignIn.values
    for sign_in in offered:
        assert import_(TWO, "--sign-in", sign_in)[0] == 2
    code, out = import_(TWO, "--sign-in", "later")
    assert (code, f"(choose from {', '.join(map(repr, offered))})" in out) == (1, True)


# --- Who is here already -------------------------------------------------------------------------


def test_people_who_are_here_are_named_and_left_to_update_users(sandbox, import_):
    ann = linked(sandbox, email=ANN, name="Ann Old")
    by_id = BuilderUserFactory(name="Cy Roe", email="cy@example.com")
    code, out = import_(
        ["id,clerk_id,email,name",
         ",,Ann@Example.com,Ann Lee",
         f",,{BOB},Bob Ray",
         f"{str(by_id.pk).upper()},,new@example.com,Cy Roe",
         f",{ann.clerk_id},other@example.com,Ann Lee"],
        "--sign-in", "none", "--apply",
    )  # fmt: skip
    assert code == 0, out
    assert "3 lines left to update_users: line 2 (Ann Old, ann@example.com), line 4 (Cy" in out
    assert outcomes() == {
        2: ("unchanged", "Ann Old is here already."),
        3: ("changed", ""),
        4: ("unchanged", "Cy Roe is here already."),
        5: ("unchanged", "Ann Old is here already."),
    }
    ann.refresh_from_db()
    assert ann.name == "Ann Old"
    assert BuilderUser.objects.count() == 3


def test_the_same_file_again_does_nothing(import_):
    assert import_(TWO, "--sign-in", "none", "--apply")[0] == 0
    code, out = import_(TWO, "--sign-in", "none", "--apply")
    assert (code, "Nothing to do." in out) == (0, True)
    assert BuilderUser.objects.count() == SyncAttempt.objects.count() == 2


@pytest.mark.parametrize("text", ["None", "a\0b"])
def test_a_text_that_is_no_clerk_id_is_nobodys(import_, text):
    here = BuilderUserFactory()
    lines = [f"{here.email},Mary Roe,{here.pk},", f"{ANN},Ann Lee,,{text}"]
    code, out = import_(["email,name,id,clerk_id", *lines], "--sign-in", "none", "--apply",
                        "--encoding", "utf-8")  # fmt: skip
    assert code == 0, out
    assert "1 line left to update_users: line 2" in out
    assert BuilderUser.objects.filter(email=ANN).exists()


def test_people_whom_clerk_has_alone_are_left_to_clerk_import(sandbox, import_):
    sandbox.add_user(email=ANN, first_name="Ann", last_name="Lee")
    Path("people.csv").write_text("\n".join(TWO))
    code, out = run("import_users", "people.csv", "--sign-in", "create", "--apply")
    assert code == 0, out
    assert f"1 line left to clerk_import: line 2 ({ANN})." in out
    assert set(BuilderUser.objects.values_list("email", flat=True)) == {BOB}
    assert len(sandbox.users()) == 2


def test_one_who_came_in_between_fails_and_the_others_are_made(sandbox, import_):
    arguments = ["--sign-in", "create"]
    assert import_(TWO, *arguments, "--plan-out", "plan.json")[0] == 2
    BuilderUserFactory(email=ANN)
    code, out = run("import_users", "--plan", "plan.json", "--no-refresh", "--apply")
    assert code == 2
    assert "Another builder user has this email." in out
    assert set(BuilderUser.objects.values_list("email", flat=True)) == {ANN, BOB}
    assert [account["id"] for account in sandbox.users()] == [
        BuilderUser.objects.get(email=BOB).clerk_id
    ]


# --- Faults --------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once_before_clerk_is_asked(sandbox, import_):
    lines = [
        "email,name,role,internal_role,company,phone",
        "no address,=cmd,KING,,Elm,",
        f"{ANN},,,,,",
        f",Bob Ray,BUILDER,Employee,,{1}",
        f"{BOB},Bob Ray,,Employee,,",
        "cy@example.com,Cy Roe,,,,",
        "CY@example.com,Cy Poe,,,,",
        "cy@example.com,NULL,,,,",
        f"{ANN},Ann Roe,KING,Employee,,",
    ]  # fmt: skip
    Path("people.csv").write_text("\n".join(lines))
    code, out = run("import_users", "people.csv", "--sign-in", "create", "--apply", "--json")
    assert code == 1
    errors = json.loads(out.splitlines()[0])["errors"]
    assert [(error["line"], error["column"]) for error in errors] == [
        (1, "column F"), (2, "name"), (2, "email"), (2, "role"), (2, "company"), (3, "name"),
        (4, "email"), (4, "internal_role"), (5, "internal_role"), (7, "email"), (8, "name"),
        (8, "email"), (9, "role"), (9, "email"),
    ]  # fmt: skip
    assert [error["message"] for error in errors if "has" in error["message"]] == [
        "line 6 has cy@example.com too", "line 6 has cy@example.com too",
        f"line 3 has {ANN} too",
    ]  # fmt: skip
    assert not sandbox.requests()
    assert not BuilderUser.objects.exists()
    assert len(Path("people.result.csv").read_text().splitlines()) == 9


def test_the_columns_that_are_needed_are_named(import_):
    out = import_(["role,company", "BUILDER,"], "--sign-in", "none")[1]
    assert "line 1: no column name" in out
    assert "line 1: no column email" in out


# --- Clerk's limit of invitations ----------------------------------------------------------------


def test_invitations_over_the_limit_wait_and_the_command_says_until_when(
    sandbox, import_, monkeypatch
):
    monkeypatch.setattr("users.sync.services.invitation_limit.PER_HOUR", 2)
    code, out = import_(numbered(5), "--sign-in", "invite")
    in_two_hours = timezone.now() + timedelta(hours=2)
    assert f"the last one is sent about {in_two_hours:%Y-%m-%d %H:}" in out
    code, out = import_(numbered(5), "--sign-in", "invite", "--apply")
    assert code == 0, out
    assert BuilderUser.objects.count() == 5
    sent = Invitation.objects.filter(status="pending").count()
    waiting = Invitation.objects.filter(status="waiting")
    assert sent == len(sandbox.mails()) == 2
    assert waiting.count() == 3
    assert "Invitations wait, as Clerk takes 2 an hour. The worker sends them" in out
    assert "It is sent after" in " ".join(reason for _, reason in outcomes().values())


def test_invitations_that_clerk_itself_puts_off_wait(sandbox, import_):
    sandbox.limiter.limits = Limits(invitations=(3, 3600.0))
    try:
        code, out = import_(numbered(8), "--sign-in", "invite", "--apply")
        assert code == 0, out
        assert len(sandbox.mails()) == 3
        assert Invitation.objects.filter(status="waiting").count() == 5
        assert BuilderUser.objects.count() == 8
    finally:
        sandbox.limiter.limits = None
    Invitation.objects.filter(status="waiting").update(send_after=timezone.now())
    maintenance.run()
    assert {mail["to"] for mail in sandbox.mails()} == {f"new{n}@example.com" for n in range(8)}


# --- Outages and recovery ------------------------------------------------------------------------


@pytest.mark.parametrize("sign_in", ["create", "invite"])
def test_an_answer_that_is_lost_is_not_asked_for_twice(sandbox, import_, sign_in):
    sandbox.fault(
        "POST /users" if sign_in == "create" else "POST /invitations", "reset", apply=True
    )
    code, out = import_(TWO, "--sign-in", sign_in, "--apply")
    assert code == 0, out
    assert BuilderUser.objects.count() == 2
    made = sandbox.users() if sign_in == "create" else sandbox.invitations()
    assert len(made) == 2
    assert not SyncAttempt.objects.filter(status="started").exists()


def test_a_create_that_recovery_finishes_makes_its_row_done(sandbox, import_, monkeypatch):
    monkeypatch.setattr("users.sync.bulk.run.ROUND_PAUSES", (0.0, 0.0))
    sandbox.fault("POST /users", "reset", apply=True)
    sandbox.fault("POST /users", "status", status=503, times=None)
    sandbox.fault("GET /users", "status", status=503, times=None)
    code, out = import_(TWO[:2], "--sign-in", "create", "--apply")
    assert code == 2, out
    sandbox.clear_faults()
    time_is_over()
    assert [result.resolved for result in recovery.recover_all()] == [True]
    user = BuilderUser.objects.get()
    done = BulkRun.objects.get()
    code, out = run("import_users", "--resume", done.pk)
    assert "no row left" in out
    assert BulkRow.objects.get().state == "done"
    assert [account["id"] for account in sandbox.users()] == [user.clerk_id]


def test_a_pending_create_of_a_form_is_waited_for(sandbox, import_, client, monkeypatch):
    monkeypatch.setattr("users.sync.bulk.run.ROUND_PAUSES", (0.0, 0.0))
    SyncAttempt.objects.create(
        operation="create", source="admin", label="Ann Lee", user_id=BuilderUserFactory.build().pk,
        changes={"email": [None, ANN], "name": [None, "Ann Lee"]},
        details={"account": "create"}, late_until=timezone.now() + timedelta(minutes=2),
    )  # fmt: skip
    code, out = import_(TWO, "--sign-in", "create", "--apply")
    assert code == 2, out
    assert "is not confirmed by Clerk yet" in out
    assert set(BuilderUser.objects.values_list("email", flat=True)) == {BOB}
    assert BulkRow.objects.get(state="waiting").changes["email"] == [None, ANN]


def test_undo_says_that_people_are_deleted_in_the_admin(import_):
    import_(TWO, "--sign-in", "none", "--apply")
    code, out = run("import_users", "--undo", BulkRun.objects.get().pk, "--no-refresh")
    assert code == 1
    assert "Users created: 2. That cannot be undone here" in out
    assert BuilderUser.objects.count() == 2
