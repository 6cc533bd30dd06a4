"""Actions on the accounts of many users at once."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.utils import timezone

from sandbox import Sandbox
from sandbox.limits import Limits
from tests.support.change_form import text_of
from tests.support.commands import run, trusting
from tests.support.documents import document
from tests.support.events import arrive
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    StaffFactory,
    change_here,
    linked,
)
from tests.support.terminal import ESCAPE, harmless
from users.models import BuilderUser, BulkRow, BulkRun, ClerkAccount, Invitation, SyncAttempt
from users.sync import maintenance
from users.sync.bulk import circuit
from users.sync.bulk import run as runs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_pause_between_rounds(monkeypatch):
    monkeypatch.setattr(runs, "ROUND_PAUSES", (0.0, 0.05, 0.05, 0.05))
    monkeypatch.setattr(circuit, "PAUSES", (0.01, 0.01, 0.01))


def act(*arguments) -> tuple[int, str]:
    """Run the command; our copy of Clerk's side is trusted."""
    return run("clerk_action", *trusting(arguments), "--rate", "1000")


def ids_of(users: list[BuilderUser]) -> list[str]:
    return [text for user in users for text in ("--id", str(user.pk))]


def banned(sandbox: Sandbox, users: list[BuilderUser]) -> list[bool]:
    """Whether each account is banned, by Clerk; our copy must say the same."""
    in_clerk = [sandbox.user(user.clerk_id)["banned"] for user in users]
    copies = [ClerkAccount.objects.get(pk=user.clerk_id).banned for user in users]
    assert copies == in_clerk
    return in_clerk


def there(users: list[BuilderUser]) -> list[bool]:
    return [BuilderUser.objects.filter(pk=user.pk).exists() for user in users]


def in_clerk(sandbox: Sandbox, users: list[BuilderUser]) -> list[bool]:
    return [sandbox.user(user.clerk_id) is not None for user in users]


def rows() -> dict[str, tuple[str, str]]:
    """State and reason of each row of all runs, by the id of its user."""
    return {str(row.user_id): (row.state, row.reason) for row in BulkRow.objects.all()}


def outcomes(folder: Path) -> dict[int, tuple[str, str]]:
    """What the newest result file says of each line."""
    newest = max(folder.glob("people.result*.csv"), key=lambda file: file.stat().st_mtime_ns)
    with newest.open(encoding="utf-8", newline="") as text:
        return {int(row["line"]): (row["outcome"], row["reason"]) for row in csv.DictReader(text)}


@pytest.fixture
def people(tmp_path):
    """Write the lines to a spreadsheet."""

    def write(*lines: str) -> Path:
        file = tmp_path / "people.csv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return write


@pytest.fixture
def needed_elsewhere() -> Iterator:
    """Let a table of another application refer to a user."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE warranties (user_id uuid CONSTRAINT warranties_user "
            "REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED)"
        )

    def refer(user: BuilderUser) -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO warranties VALUES (%s)", [user.pk])

    yield refer
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE warranties")


# --- Each action ---------------------------------------------------------------------------------


def test_a_plan_says_what_would_be_done_to_whom_and_does_nothing(sandbox):
    user = linked(sandbox, email="mary@example.com")
    code, out = act("ban", "--email", "mary@example.com")
    assert code == 2
    for text in ("Mary Ann Smith", "Ban", "banned", "no", "yes", "1 to change", "--apply"):
        assert text in out
    assert banned(sandbox, [user]) == [False]
    assert not sandbox.requests()
    assert not BulkRun.objects.exists()


@pytest.mark.parametrize(("action", "before"), [("ban", False), ("unban", True)])
def test_people_are_banned_and_unbanned(sandbox, action, before):
    engineer = StaffFactory(username="engineer")
    group = BuilderGroupFactory(name="Oak Hill")
    users = [linked(sandbox, builder_group=group, clerk={"banned": before}) for _ in range(3)]
    other = linked(sandbox, clerk={"banned": before})
    code, out = act(action, "--group", "oak hill", "--apply", "--actor", "engineer")
    assert code == 0, out
    assert banned(sandbox, users) == [not before] * 3
    assert banned(sandbox, [other]) == [before]
    done = BulkRun.objects.get()
    values = set(SyncAttempt.objects.values_list("operation", "status", "source", "actor", "run"))
    assert values == {(action, "applied", "command", engineer.pk, done.pk)}
    assert LogEntry.objects.filter(user=engineer).count() == 3
    assert set(rows().values()) == {("done", "")}
    for user in users:
        kept = BuilderUser.objects.get(pk=user.pk)
        assert (kept.clerk_id, kept.updated_at) == (user.clerk_id, user.updated_at)


def test_people_are_signed_out_everywhere(sandbox):
    mary, john = linked(sandbox), linked(sandbox)
    for user in (mary, mary, john):
        sandbox.sign_in(user.clerk_id)
    code, out = act("sign_out", *ids_of([mary]), "--apply")
    assert code == 0, out
    states = {
        session["id"]: (session["user_id"], session["status"])
        for session in sandbox.state.sessions.values()
    }
    assert sorted(states.values()) == sorted(
        [(mary.clerk_id, "revoked"), (mary.clerk_id, "revoked"), (john.clerk_id, "active")]
    )
    assert SyncAttempt.objects.get().details == {"sessions": 2, "ended": 2}


def test_people_are_invited(sandbox):
    users = [BuilderUserFactory() for _ in range(2)]
    code, out = act("invite", *ids_of(users), "--apply")
    assert code == 0, out
    assert {mail["to"] for mail in sandbox.mails()} == {user.email for user in users}
    assert {one.user for one in Invitation.objects.filter(status="pending")} == set(users)
    assert "Invitations wait" not in out
    for known in sandbox.invitations():
        sandbox.accept(known["id"])
    arrive(sandbox)
    assert BuilderUser.objects.linked().count() == 2


def test_people_are_deleted_here_and_in_clerk(sandbox):
    mary, kept = linked(sandbox), linked(sandbox)
    here_alone = BuilderUserFactory(name="John Doe")
    code, out = act("delete", *ids_of([mary, here_alone]), "--apply", "--confirm", "2")
    assert code == 0, out
    assert "2 users to delete, 1 of them in Clerk too. That cannot be undone." in out
    assert there([mary, here_alone, kept]) == [False, False, True]
    assert in_clerk(sandbox, [mary, kept]) == [False, True]
    assert ClerkAccount.objects.get(pk=mary.clerk_id).deleted_at
    assert rows() == {str(mary.pk): ("done", ""), str(here_alone.pk): ("done", "")}
    assert {row.attempt.status for row in BulkRow.objects.all()} == {"applied"}
    exported = list(csv.DictReader(run("runs", "export")[1].splitlines()))
    assert {row["user_id"] for row in exported} == {str(mary.pk), str(here_alone.pk)}
    assert LogEntry.objects.filter(action_flag=3).count() == 2


def test_an_open_invitation_is_shown_and_revoked_before_its_user_is_deleted(sandbox):
    user = BuilderUserFactory(email="ann@example.com")
    act("invite", *ids_of([user]), "--apply")
    code, out = act("delete", *ids_of([user]), "--apply", "--confirm", "1")
    assert code == 0, out
    assert "invitation" in out
    assert not BuilderUser.objects.exists()
    assert [known["status"] for known in sandbox.invitations()] == ["revoked"]
    deletion = BulkRun.objects.latest("pk")
    found = set(SyncAttempt.objects.filter(run=deletion).values_list("operation", "source"))
    assert found == {("revoke_invitation", "command"), ("delete", "command")}


def test_a_user_whom_clerk_does_not_have_any_more_is_deleted_here(sandbox):
    user = linked(sandbox)
    sandbox.delete(user.clerk_id)
    assert act("delete", *ids_of([user]), "--apply", "--confirm", "1")[0] == 0
    assert not BuilderUser.objects.exists()


# --- Who is meant --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Say what to do: invite, ban, unban, sign_out, refresh, delete."),
        (["ban"], "Name the users: a spreadsheet, --id"),
        (["delete", "--apply", "--confirm", "2"], "Name the users"),
        (["ban", "--all", "--role", "BUILDER"], "--all cannot be combined with --role"),
        (["ban", "people.csv", "--all"], "--all cannot be combined with FILE"),
        (["ban", "--all", "--result", "x.csv"], "--result needs a spreadsheet"),
        (["ban", "--all", "--encoding", "utf-8"], "--encoding needs a spreadsheet"),
        (["ban", "--all", "--ignore-unknown-columns"], "--ignore-unknown-columns needs a"),
        (["delete", "--all", "--confirm", "2"], "--confirm needs --apply"),
        (["ban", "--resume", "1"], "--resume cannot be combined with ACTION"),
        (["ban", "--undo", "1"], "--undo cannot be combined with ACTION"),
        (["ban", "--plan", "x", "--all"], "--plan cannot be combined with ACTION, --all"),
        (["punish", "--all"], "invalid choice"),
        (["ban", "--email", "nobody@example.com"], "Not found: email nobody@example.com"),
    ],
)
def test_options_that_make_no_sense_are_refused(sandbox, arguments, said):
    user = linked(sandbox)
    code, out = act(*arguments)
    assert (code, said in out) == (1, True), out
    assert banned(sandbox, [user]) == [False]
    assert not sandbox.requests()


def test_all_means_every_user(sandbox):
    users = [linked(sandbox) for _ in range(3)]
    assert act("sign_out", "--all")[0] == 2
    assert act("ban", "--all", "--apply")[0] == 0
    assert banned(sandbox, users) == [True] * 3


def test_who_cannot_be_acted_on_is_left_out_and_named_with_the_reason(sandbox):
    mary = linked(sandbox, name="Mary Ann Smith")
    admin = linked(sandbox, name="Ada Admin", role="ADMIN")
    nobody = BuilderUserFactory(name="Nora None", email="nora@example.com")
    already = linked(sandbox, name="Bill Banned", clerk={"banned": True})
    gone = linked(sandbox, name="Gil Gone")
    ClerkAccount.objects.filter(pk=gone.clerk_id).update(deleted_at=timezone.now())
    unseen = linked(sandbox, name="Una Unseen")
    ClerkAccount.objects.filter(pk=unseen.clerk_id).delete()
    code, out = act("ban", "--all", "--apply")
    assert code == 0, out
    for text in (
        f"Left out: 1 user with the role Admin (act on each of them in the admin): {admin} (",
        "Left out: 1 user without a Clerk account: Nora None (nora@example.com).",
        f"Left out: 1 user already banned: {already} (",
        f"Left out: 1 user whose account was deleted in Clerk: {gone} (",
        f"Left out: 1 user whose account was not seen yet (--no-refresh?): {unseen} (",
    ):
        assert text in out
    assert set(rows()) == {str(mary.pk)}
    assert [sandbox.user(user.clerk_id)["banned"] for user in (mary, admin, already, unseen)] == [
        True, False, True, False,
    ]  # fmt: skip
    assert not nobody.linked
    assert act("ban", "--all", "--apply")[0] == 0
    assert BulkRun.objects.count() == 1


def test_who_cannot_be_invited_is_left_out(sandbox):
    linked(sandbox, name="Mary Ann Smith")
    invited = BuilderUserFactory(name="Ivy Invited")
    act("invite", *ids_of([invited]), "--apply")
    in_clerk_alone = linked(sandbox, name="Cleo Clerk")
    change_here(in_clerk_alone, clerk_id=None)
    ClerkAccount.objects.filter(pk=in_clerk_alone.clerk_id).update(user=None)
    new = BuilderUserFactory(name="Nora New")
    code, out = act("invite", "--all", "--apply")
    assert code == 0, out
    for text in (
        "1 user with a Clerk account already: Mary Ann Smith",
        "1 user with an open invitation: Ivy Invited",
        "1 user whose email has an account in Clerk already (see clerk_link): Cleo Clerk",
    ):
        assert text in out
    assert [mail["to"] for mail in sandbox.mails()] == [invited.email, new.email]


def test_an_administrator_is_neither_banned_nor_deleted_in_bulk_but_may_be_unbanned(sandbox):
    admin = linked(sandbox, role="ADMIN")
    assert "Nothing to do." in act("delete", *ids_of([admin]), "--apply")[1]
    assert "Nothing to do." in act("ban", *ids_of([admin]), "--apply")[1]
    assert (there([admin]), banned(sandbox, [admin])) == ([True], [False])
    other = linked(sandbox, role="ADMIN", clerk={"banned": True})
    assert act("unban", *ids_of([other]), "--apply")[0] == 0
    assert banned(sandbox, [other]) == [False]


# --- Spreadsheets --------------------------------------------------------------------------------


def test_a_spreadsheet_names_the_people_and_gets_a_result_for_each_line(sandbox, people, tmp_path):
    mary = linked(sandbox, email="mary@example.com")
    john = linked(sandbox, email="john@example.com")
    BuilderUserFactory(email="nora@example.com", role="ADMIN")
    linked(sandbox, email="bill@example.com", clerk={"banned": True})
    file = people("E-mail", "Mary@Example.com", "", "nora@example.com", "bill@example.com",
                  "john@example.com")  # fmt: skip
    sandbox.fault("POST /users/{user_id}/ban", "status", status=409, user_id=john.clerk_id,
                  code="user_managed_by_scim", times=None)  # fmt: skip
    code, out = act("ban", file, "--apply")
    assert code == 2, out
    assert banned(sandbox, [mary, john]) == [True, False]
    found = outcomes(tmp_path)
    assert found.pop(6)[0] == "failed"
    assert found == {
        2: ("changed", ""),
        4: ("skipped", "The role is Admin: act on this user in the admin."),
        5: ("skipped", "This user is banned already."),
    }
    sandbox.clear_faults()
    again = f"clerk_action --resume {BulkRun.objects.get().pk} --apply --retry-failed"
    assert again in out
    assert act(*again.split()[1:])[0] == 0
    assert banned(sandbox, [john]) == [True]
    assert outcomes(tmp_path)[6] == ("changed", "")


def test_accounts_are_read_again_and_the_result_says_so(sandbox, people, tmp_path):
    mary = linked(sandbox, email="mary@example.com")
    BuilderUserFactory(email="nora@example.com")
    sandbox.edit(mary.clerk_id, last_name="Jones")
    code, out = act("refresh", people("E-mail", "mary@example.com", "nora@example.com"), "--apply")
    assert (code, "1 to read, 0 to change, 0 to delete" in out) == (0, True), out
    mary.refresh_from_db()
    assert mary.name == "Mary Ann Jones"
    assert sandbox.writes() == []
    assert outcomes(tmp_path) == {
        2: ("read", ""), 3: ("skipped", "This user has no Clerk account."),
    }  # fmt: skip


def test_the_options_choose_among_the_people_of_a_spreadsheet(sandbox, people, tmp_path):
    elm = BuilderGroupFactory(name="Elm")
    mary, john = linked(sandbox), linked(sandbox, builder_group=elm)
    file = people("clerk_id", mary.clerk_id, john.clerk_id)
    assert act("ban", file, "--group", "Elm", "--apply")[0] == 0
    assert banned(sandbox, [mary, john]) == [False, True]
    assert outcomes(tmp_path) == {2: ("unchanged", ""), 3: ("changed", "")}


def test_an_export_of_ours_is_read_as_it_is(sandbox, people):
    mary = linked(sandbox, email="mary@example.com")
    file = people(
        "id,clerk_id,First name,email,role,created_at",
        f"{mary.pk},{mary.clerk_id},Mary,mary@example.com,BUILDER,2026-01-02",
    )
    code, out = act("ban", file, "--apply")
    assert code == 0, out
    assert "Not read: “First name”, “role”, “created_at”." in out
    assert banned(sandbox, [mary]) == [True]


def test_every_fault_of_a_spreadsheet_is_told_at_once_before_clerk_is_asked(sandbox, people):
    mary = linked(sandbox, email="mary@example.com")
    john = linked(sandbox, email="john@example.com")
    file = people(
        "id,email,phone",
        f"{mary.pk},john@example.com,",
        "nobody,,",
        ",mary@example.com,",
        f"{john.pk},,",
        f"{john.pk},,",
    )
    code, out = run("clerk_action", "delete", file, "--apply", "--confirm", "2", "--json")
    assert code == 1
    errors = json.loads(out.splitlines()[0])["errors"]
    assert [(error["line"], error["column"]) for error in errors] == [
        (1, "column C"), (2, "email"), (3, "id"), (4, "id"), (6, "id"),
    ]  # fmt: skip
    assert errors[1]["message"].startswith("“Mary Ann Smith” has another email")
    assert there([mary, john]) == [True, True]
    assert not sandbox.requests()


def test_a_spreadsheet_without_a_key_is_refused(sandbox, people):
    code, out = act("ban", people("name", "Mary"))
    assert (code, "no key: one of the columns id, clerk_id, email is needed" in out) == (1, True)


# --- Deleting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ([], "The plan deletes 2 users. Nothing was changed. Use --confirm 2 to allow that."),
        (["--confirm", "3"], "The plan deletes 2 users, not 3. Nothing was changed."),
        (["--confirm", "0"], "The plan deletes 2 users, not 0. Nothing was changed."),
    ],
)
def test_a_deletion_without_the_right_number_deletes_nobody(sandbox, typed, words):
    users = [linked(sandbox) for _ in range(2)]
    code, out = act("delete", *ids_of(users), "--apply", *typed)
    assert (code, words in out) == (1, True), out
    assert (there(users), in_clerk(sandbox, users)) == ([True] * 2, [True] * 2)
    assert not sandbox.requests()
    assert not BulkRun.objects.exists()


def test_a_plan_of_deletions_says_what_to_type(sandbox):
    users = [linked(sandbox) for _ in range(2)]
    out = act("delete", *ids_of(users))[1]
    assert "Run it again with --apply --confirm 2 to do this." in out
    assert "0 to change, 2 to delete" in out


def test_a_number_that_nobody_asked_for_is_refused(sandbox):
    user = linked(sandbox)
    code, out = act("ban", *ids_of([user]), "--apply", "--confirm", "1")
    assert (code, "The plan deletes 0 users, not 1." in out) == (1, True)
    assert banned(sandbox, [user]) == [False]


def test_a_plan_in_a_file_and_the_rest_of_a_run_need_the_number_too(sandbox, tmp_path):
    users = [linked(sandbox) for _ in range(3)]
    plan = tmp_path / "plan.json"
    assert act("delete", *ids_of(users), "--plan-out", plan)[0] == 2
    code, out = act("--plan", plan, "--apply", "--limit", "1")
    assert (code, "Use --confirm 3" in out) == (1, True)
    code, out = act("--plan", plan, "--apply", "--limit", "1", "--confirm", "3")
    assert code == 2
    assert there(users).count(False) == 1
    deletion = BulkRun.objects.get()
    go_on = f"clerk_action --resume {deletion.pk} --apply --confirm 2"
    assert f"Go on with: manage.py {go_on}" in out
    assert "Use --confirm 2" in act("--resume", deletion.pk, "--apply")[1]
    assert act(*go_on.split()[1:])[0] == 0
    assert (there(users), in_clerk(sandbox, users)) == ([False] * 3, [False] * 3)


def test_more_than_the_limit_of_changes_needs_both_numbers(sandbox):
    users = [BuilderUserFactory() for _ in range(3)]
    confirmed = ["--apply", "--confirm", "3"]
    code, out = act("delete", "--all", *confirmed, "--max-changes", "2")
    assert (code, "--max-changes 3" in out) == (1, True)
    assert there(users) == [True] * 3


def test_a_user_that_other_records_need_fails_as_in_the_form_and_the_others_are_deleted(
    sandbox, client, needed_elsewhere
):
    users = [linked(sandbox, name=f"Mary Ann Smith{n}") for n in range(3)]
    needed = users[1]
    needed_elsewhere(needed)
    code, out = act("delete", *ids_of(users), "--apply", "--confirm", "3")
    assert code == 2
    assert (there(users), in_clerk(sandbox, users)) == ([False, True, False],) * 2
    state, reason = rows()[str(needed.pk)]
    assert state == "failed"
    assert f"Failed: {needed}. {reason}" in out
    page = f"/admin/users/builderuser/{needed.pk}/delete/"
    assert "1 warranty" in text_of(client.post(page, {"post": "yes"}))
    assert reason.startswith(
        "Not deleted yet: the person can still sign in. "
        "The other application still has 1 warranty of this user."
    )


def test_a_refused_row_in_the_middle_stops_nobody_else(sandbox):
    users = [linked(sandbox) for _ in range(3)]
    managed = users[1]
    sandbox.fault("DELETE /users/{user_id}", "status", status=409, user_id=managed.clerk_id,
                  code="user_managed_by_scim", times=None)  # fmt: skip
    code, out = act("delete", *ids_of(users), "--apply", "--confirm", "3")
    assert (code, "company directory (SCIM)" in out) == (2, True)
    assert (there(users), in_clerk(sandbox, users)) == ([False, True, False],) * 2
    sandbox.clear_faults()
    deletion = BulkRun.objects.get()
    retry = f"clerk_action --resume {deletion.pk} --apply --confirm 1 --retry-failed"
    assert retry in out
    assert act(*retry.split()[1:])[0] == 0
    assert there(users) == [False] * 3


def test_a_deletion_that_is_confirmed_later_makes_its_row_done(sandbox, client):
    user = linked(sandbox)
    sandbox.fault("DELETE /users/{user_id}", "reset", apply=True)
    sandbox.fault("DELETE /users/{user_id}", "status", status=503, times=None)
    sandbox.fault("GET /users/{user_id}", "status", status=503, times=None)
    assert act("delete", *ids_of([user]), "--apply", "--confirm", "1")[0] == 2
    assert (there([user]), in_clerk(sandbox, [user])) == ([True], [False])
    assert rows()[str(user.pk)][0] == "waiting"
    sandbox.clear_faults()
    deletion = BulkRun.objects.get()
    assert run("clerk_recover")[0] == 0
    assert there([user]) == [False]
    page = client.get(f"/admin/users/bulkrun/{deletion.pk}/change/").content.decode()
    assert "1 done" in page
    assert "--undo" not in page
    assert rows() == {str(user.pk): ("done", "")}
    assert "no row left" in act("--resume", deletion.pk, "--apply", "--confirm", "1")[1]


def test_a_limit_counts_a_deletion_that_is_confirmed_when_the_run_goes_on(sandbox):
    """Nobody is deleted whom the plan of the rest did not show."""
    users = [linked(sandbox) for _ in range(3)]
    sandbox.fault("DELETE /users/{user_id}", "reset", apply=True)
    sandbox.fault("DELETE /users/{user_id}", "status", status=503, times=None)
    sandbox.fault("GET /users/{user_id}", "status", status=503, times=None)
    one = ("--apply", "--limit", "1")
    assert act("delete", *ids_of(users), *one, "--confirm", "3")[0] == 2
    assert (there(users), in_clerk(sandbox, users).count(False)) == ([True] * 3, 1)
    sandbox.clear_faults()
    deletion = BulkRun.objects.get()
    assert act("--resume", deletion.pk, *one, "--confirm", "1")[0] == 2
    assert (there(users).count(False), in_clerk(sandbox, users).count(False)) == (1, 1)


def test_a_user_who_was_deleted_meanwhile_is_skipped(sandbox, client, tmp_path):
    mary, john = linked(sandbox), linked(sandbox)
    plan = tmp_path / "plan.json"
    act("delete", *ids_of([mary, john]), "--plan-out", plan)
    client.post(f"/admin/users/builderuser/{mary.pk}/delete/", {"post": "yes"})
    assert act("--plan", plan, "--apply", "--confirm", "2")[0] == 2
    assert there([mary, john]) == [False, False]
    assert rows() == {
        str(mary.pk): ("skipped", "The user was deleted since the plan was made."),
        str(john.pk): ("done", ""),
    }


# --- What changed since the plan -----------------------------------------------------------------


def test_what_changed_since_the_plan_is_skipped_and_named(sandbox, tmp_path):
    promoted, renamed = linked(sandbox), linked(sandbox, email="old@example.com")
    relinked, unchanged = linked(sandbox), linked(sandbox)
    users = [promoted, renamed, relinked, unchanged]
    plan = tmp_path / "plan.json"
    assert act("delete", *ids_of(users), "--plan-out", plan)[0] == 2
    change_here(promoted, role="ADMIN")
    change_here(renamed, email="new@example.com")
    change_here(relinked, clerk_id=sandbox.add_user(email="x@example.com")["id"])
    code, out = act("--plan", plan, "--apply", "--confirm", "4")
    assert code == 2, out
    assert there(users) == [True, True, True, False]
    found = rows()
    assert found[str(promoted.pk)][1] == "The role is Admin: act on this user in the admin."
    assert "email is new@example.com now" in found[str(renamed.pk)][1]
    assert "another Clerk account" in found[str(relinked.pk)][1]
    assert [request.method for request in sandbox.writes()] == ["DELETE"]


def test_a_person_who_was_banned_meanwhile_is_skipped_so_that_undo_leaves_that_ban(
    sandbox, tmp_path
):
    mary, john = linked(sandbox), linked(sandbox)
    plan = tmp_path / "plan.json"
    act("ban", *ids_of([mary, john]), "--plan-out", plan)
    arrive(sandbox)
    sandbox.edit(mary.clerk_id, banned=True)
    arrive(sandbox)
    assert act("--plan", plan, "--apply")[0] == 2
    assert rows()[str(mary.pk)] == ("skipped", "This user is banned already.")
    assert act("--undo", BulkRun.objects.get().pk, "--apply")[0] == 0
    assert banned(sandbox, [mary, john]) == [True, False]


def test_somebody_who_was_invited_meanwhile_gets_no_second_mail(sandbox, client, tmp_path):
    user = BuilderUserFactory()
    plan = tmp_path / "plan.json"
    act("invite", *ids_of([user]), "--plan-out", plan)
    client.post(f"/admin/users/builderuser/{user.pk}/invite/")
    assert act("--plan", plan, "--apply")[0] == 2
    assert rows()[str(user.pk)] == ("skipped", "This user has an open invitation already.")
    assert len(sandbox.mails()) == 1


# --- Clerk's limits and faults -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "route"),
    [
        ("ban", "POST /users/{user_id}/ban"),
        ("sign_out", "GET /sessions"),
        ("delete", "DELETE /users/{user_id}"),
    ],
)
def test_rows_that_meet_a_429_come_again_and_nothing_is_lost(sandbox, action, route):
    users = [linked(sandbox) for _ in range(8)]
    for user in users:
        sandbox.sign_in(user.clerk_id)
    sandbox.fault(route, "status", status=429, retry_after=1, times=4)
    confirm = ["--confirm", "8"] if action == "delete" else []
    code, out = act(action, *ids_of(users), "--apply", *confirm)
    assert code == 0, out
    assert set(rows().values()) == {("done", "")}
    if action == "delete":
        assert (there(users), in_clerk(sandbox, users)) == ([False] * 8, [False] * 8)
    elif action == "ban":
        assert banned(sandbox, users) == [True] * 8
    else:
        states = {session["status"] for session in sandbox.state.sessions.values()}
        assert states == {"revoked"}


def test_invitations_over_the_limit_wait_and_the_command_says_until_when(sandbox, monkeypatch):
    monkeypatch.setattr("users.sync.services.invitation_limit.PER_HOUR", 2)
    users = [BuilderUserFactory() for _ in range(5)]
    in_two_hours = f"about {timezone.now() + timedelta(hours=2):%Y-%m-%d %H:}"
    assert in_two_hours in act("invite", "--all")[1]
    code, out = act("invite", "--all", "--apply")
    assert code == 0, out
    assert "Invitations wait, as Clerk takes 2 an hour. The worker sends them" in out
    assert len(sandbox.mails()) == Invitation.objects.filter(status="pending").count() == 2
    assert Invitation.objects.filter(status="waiting").count() == 3
    assert sum("It is sent after" in reason for _, reason in rows().values()) == 3
    monkeypatch.setattr("users.sync.services.invitation_limit.PER_HOUR", 100)
    Invitation.objects.filter(status="waiting").update(send_after=timezone.now())
    maintenance.run()
    assert {mail["to"] for mail in sandbox.mails()} == {user.email for user in users}


def test_invitations_that_clerk_itself_puts_off_wait(sandbox):
    sandbox.limiter.limits = Limits(invitations=(3, 3600.0))
    try:
        [BuilderUserFactory() for _ in range(8)]
        code, out = act("invite", "--all", "--apply")
        assert code == 0, out
        assert len(sandbox.mails()) == 3
        assert Invitation.objects.filter(status="waiting").count() == 5
    finally:
        sandbox.limiter.limits = None


def test_a_row_whose_invitation_waits_is_done_when_it_is_tried_again_after_a_kill(
    sandbox, monkeypatch
):
    monkeypatch.setattr("users.sync.services.invitation_limit.PER_HOUR", 1)
    users = [BuilderUserFactory() for _ in range(2)]
    act("invite", "--all", "--apply")
    killed = BulkRun.objects.get()
    # As if it died before it stored them.
    BulkRow.objects.update(state="waiting", reason="")
    BulkRun.objects.update(state="interrupted")
    monkeypatch.setattr("users.sync.services.invitation_limit.PER_HOUR", 100)
    assert act("--resume", killed.pk, "--apply")[0] == 0
    assert [rows()[str(user.pk)][0] for user in users] == ["done", "done"]
    assert set(Invitation.objects.values_list("status", flat=True)) == {"pending", "waiting"}
    assert len(sandbox.mails()) == 1


def test_a_plan_of_clerk_without_bans_stops_the_run_and_its_rows_wait(sandbox):
    users = [linked(sandbox) for _ in range(30)]
    sandbox.fault("POST /users/{user_id}/ban", "status", status=402, times=None,
                  code="unsupported_subscription_plan_features")  # fmt: skip
    code, out = act("ban", "--all", "--apply")
    assert (code, "The plan of this Clerk instance" in out) == (2, True)
    stopped = BulkRun.objects.get()
    assert stopped.state == "stopped"
    assert set(stopped.rows.values_list("state", flat=True)) == {"waiting"}
    sandbox.clear_faults()
    assert act("--resume", stopped.pk, "--apply")[0] == 0
    assert banned(sandbox, users) == [True] * 30


@pytest.mark.parametrize("action", ["ban", "delete"])
def test_an_answer_that_is_lost_is_not_asked_for_twice(sandbox, action):
    users = [linked(sandbox) for _ in range(2)]
    sandbox.fault("*", "reset", apply=True)
    confirm = ["--confirm", "2"] if action == "delete" else []
    code, out = act(action, *ids_of(users), "--apply", *confirm)
    assert code == 0, out
    assert len(sandbox.writes()) == 2
    assert set(rows().values()) == {("done", "")}
    assert not SyncAttempt.objects.filter(status="started").exists()


# --- Undo ----------------------------------------------------------------------------------------


def test_undo_of_a_ban_unbans_and_undo_of_that_bans_again(sandbox):
    users = [linked(sandbox) for _ in range(2)]
    act("ban", *ids_of(users), "--apply")
    code, out = act("--undo", BulkRun.objects.get().pk)
    assert (code, "Unban: 2" in out) == (2, True)
    assert banned(sandbox, users) == [True, True]
    assert act("--undo", BulkRun.objects.get().pk, "--apply")[0] == 0
    assert banned(sandbox, users) == [False, False]
    assert act("--undo", BulkRun.objects.latest("pk").pk, "--apply")[0] == 0
    assert banned(sandbox, users) == [True, True]


def test_undo_of_a_ban_leaves_alone_who_has_another_account_now(sandbox):
    mary = linked(sandbox)
    act("ban", *ids_of([mary]), "--apply")
    other = sandbox.add_user(email="x@example.com", banned=True)
    change_here(mary, clerk_id=other["id"])
    code, out = act("--undo", BulkRun.objects.get().pk, "--apply")
    assert (code, "the user has another Clerk account now" in out) == (0, True)
    assert sandbox.user(other["id"])["banned"]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("sign_out", "Users signed out: 1. That cannot be undone"),
        ("refresh", "Users refreshed: 1. That only asked Clerk"),
        ("invite", "Invitations mailed: 1. That cannot be undone here"),
        ("delete", "Users deleted: 1. That cannot be undone: Clerk has forgotten"),
    ],
)
def test_what_cannot_be_undone_is_refused(sandbox, action, words):
    user = BuilderUserFactory() if action == "invite" else linked(sandbox)
    confirm = ["--confirm", "1"] if action == "delete" else []
    assert act(action, *ids_of([user]), "--apply", *confirm)[0] == 0
    done = BulkRun.objects.get()
    code, out = act("--undo", done.pk, "--apply")
    assert (code, f"Run {done.pk} cannot be undone. {words}" in out) == (1, True), out


# --- Told ----------------------------------------------------------------------------------------


def test_machines_get_plan_run_and_refusal_in_the_documented_form(sandbox):
    user = linked(sandbox)
    wanted = ("clerk_action", "delete", "--id", str(user.pk), "--no-refresh")
    planned = document(*wanted)
    [row] = planned["plan"]["rows"]
    assert (row["operation"], row["changes"]) == ("delete", {"email": [user.email, None]})
    assert "--confirm 1" in document(*wanted, "--apply")["error"]
    applied = document(*wanted, "--apply", "--confirm", "1")
    assert applied["run"]["counts"] == {"Done": 1}


def test_names_with_control_characters_reach_no_terminal_and_no_result(sandbox, people, tmp_path):
    eve, admin = linked(sandbox), linked(sandbox, role="ADMIN")
    for user in (eve, admin):
        change_here(user, name=ESCAPE)
    code, out = act("ban", people("id", str(eve.pk), str(admin.pk)), "--apply")
    assert code == 0
    assert out.count("Eve") == 2
    assert harmless(out)
    assert harmless((tmp_path / f"people.result.{BulkRun.objects.get().pk}.csv").read_text())


def test_the_check_and_the_admin_say_how_to_go_on_with_a_deletion(sandbox, client):
    users = [linked(sandbox) for _ in range(2)]
    act("delete", *ids_of(users), "--apply", "--confirm", "2", "--limit", "1")
    deletion = BulkRun.objects.get()
    wanted = f"manage.py clerk_action --resume {deletion.pk} --apply --confirm 1"
    findings = json.loads(run("clerk_check", "--json")[1])["findings"]
    assert wanted in [finding["fix"] for finding in findings if finding["subject"] == "Bulk run"]
    page = client.get(f"/admin/users/bulkrun/{deletion.pk}/change/").content.decode()
    assert wanted in page
