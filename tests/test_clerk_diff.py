"""What is out of step, said with its likely cause."""

from __future__ import annotations

import csv
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tests.support.change_form import form_of, page_of
from tests.support.commands import run
from tests.support.factories import (
    BuilderUserFactory,
    SyncAttemptFactory,
    change_here,
    delete_here,
    linked,
)
from users.clerk import ClerkUser, Deadline, clerk
from users.models import BuilderUser, BulkRun, ClerkAccount
from users.sync.bulk.lock import one_at_a_time
from users.sync.inbound.reconcile import reconcile_due
from users.sync.mirror import store

pytestmark = pytest.mark.django_db(transaction=True)


def differences(*arguments) -> dict[str, dict]:
    """What `clerk_diff` says, by kind; every kind once."""
    code, out = run("clerk_diff", "--json", *arguments)
    document = json.loads(out.splitlines()[-1])
    assert code == (2 if document["differences"] else 0), out
    return {row["kind"]: row for row in document["differences"]}


def in_clerk(sandbox, **fields) -> ClerkUser:
    """Somebody who signed up in Clerk; a scan has seen them."""
    account = ClerkUser.parse(sandbox.add_user(**fields))
    store.keep(account)
    return account


def test_who_is_in_step_is_no_difference(sandbox):
    linked(sandbox, name="Mary  Ann Smith")  # an old row's double space is none
    BuilderUserFactory()
    code, out = run("clerk_diff")
    assert (code, "No difference in what was read." in out) == (0, True)


def test_it_says_how_old_our_copy_is(sandbox):
    linked(sandbox)
    assert "Not all of Clerk's users have been read yet" in run("clerk_diff")[1]
    assert json.loads(run("clerk_diff", "--json")[1])["looked_at"] is None
    run("clerk_diff", "--refresh")
    BulkRun.objects.update(started_at=timezone.now() - timedelta(hours=3, minutes=5))
    assert "All of Clerk's users were last read 3 h 5 min ago" in run("clerk_diff")[1]
    looked_at = json.loads(run("clerk_diff", "--json")[1])["looked_at"]
    assert looked_at == BulkRun.objects.get().started_at.isoformat()


def test_a_user_who_was_not_looked_at_yet_is_no_missing_one(sandbox):
    account = sandbox.add_user(email="mary@example.com", first_name="Mary", last_name="Smith")
    user = BuilderUserFactory(clerk_id=account["id"], email="mary@example.com", name="Mary Smith")
    elsewhere = BuilderUserFactory(clerk_id="user_never_seen")
    _, out = run("clerk_diff", "--json", "--kind", "unseen", "--kind", "missing")
    rows = json.loads(out)["differences"]
    assert {(row["kind"], row["user_id"]) for row in rows} == {
        ("unseen", str(user.pk)),
        ("unseen", str(elsewhere.pk)),
    }
    run("clerk_diff", "--refresh")
    assert differences("--kind", "unseen", "--kind", "missing")["missing"]["user_id"] == str(
        elsewhere.pk
    )


def test_a_name_that_was_edited_in_the_database_without_an_attempt(sandbox, client):
    user = linked(sandbox)
    client.post(page_of(user), form_of(user, name="Mary Ann Jones"))
    change_here(user, name="Mary Ann Brown")
    row = differences()["name"]
    assert (row["ours"], row["theirs"]) == ("Mary Ann Brown", "Mary Ann Jones")
    assert row["cause"].startswith("Changed in the database alone")
    assert row["user_id"] == str(user.pk)


def test_a_name_that_was_edited_in_clerk_and_whose_event_was_lost(sandbox, client):
    user = linked(sandbox)
    client.post(page_of(user), form_of(user, name="Mary Ann Jones"))
    sandbox.edit(user.clerk_id, last_name="Brown")
    assert differences() == {}  # as far as our copy knows
    row = differences("--refresh")["name"]
    assert (row["ours"], row["theirs"]) == ("Mary Ann Jones", "Mary Ann Brown")
    assert row["cause"].startswith("Changed in Clerk.")
    reconcile_due()  # as the worker does
    assert differences() == {}
    assert BuilderUser.objects.get().name == "Mary Ann Brown"


def test_without_an_attempt_the_side_that_moved_is_named(sandbox):
    user = linked(sandbox, email="a@example.com")
    change_here(user, email="b@example.com")
    assert "Changed in the database alone" in differences()["email"]["cause"]
    clerk().replace_email(user.clerk_id, email="c@example.com", deadline=Deadline(30))
    assert "Changed on both sides" in differences("--refresh")["email"]["cause"]
    change_here(user, email="a@example.com")
    assert "Changed in Clerk" in differences()["email"]["cause"]


def test_values_that_were_never_the_same_have_no_known_cause(sandbox):
    linked(sandbox, name="Mary Ann Smith", first_name="Jane", last_name="Roe")
    assert "never the same" in differences()["name"]["cause"]


def test_an_email_that_could_not_follow_says_why(sandbox):
    user = linked(sandbox)
    note = "Its email belongs to another builder user."
    ClerkAccount.objects.filter(pk=user.clerk_id).update(email="x@example.com", note=note)
    assert differences()["email"]["cause"] == note


def test_every_other_kind(sandbox):
    missing = BuilderUserFactory(clerk_id="user_never_seen")
    deleted = linked(sandbox)
    store.keep_deleted(deleted.clerk_id)
    unfinished = linked(sandbox)
    SyncAttemptFactory(user=unfinished, message="Clerk did not answer.")
    waiting = BuilderUserFactory(email="waiting@example.com")
    match = in_clerk(sandbox, email="waiting@example.com")
    stranger = in_clerk(sandbox, email="stranger@example.com")
    found = differences()
    assert found["unseen"]["user_id"] == str(missing.pk)
    assert found["deleted"]["user_id"] == str(deleted.pk)
    assert found["unfinished"]["cause"] == "Clerk did not answer."
    assert found["match"]["clerk_id"] == match.id
    assert "clerk_link" in found["match"]["cause"]
    assert found["only_in_clerk"]["clerk_id"] == stranger.id
    assert set(found) == {"unseen", "deleted", "unfinished", "match", "only_in_clerk"}
    assert waiting.clerk_id is None


def test_twins_in_clerk(sandbox):
    user = linked(sandbox, email="a@example.com")
    twin = in_clerk(sandbox, email="b@example.com")
    ClerkAccount.objects.filter(pk=twin.id).update(email="a@example.com")
    code, out = run("clerk_diff", "--kind", "twins", "--json")
    rows = json.loads(out)["differences"]
    assert code == 2
    assert {row["clerk_id"] for row in rows} == {user.clerk_id, twin.id}


def test_accounts_that_staff_let_go_are_no_difference(sandbox):
    account = in_clerk(sandbox, email="old@example.com")
    ClerkAccount.objects.filter(pk=account.id).update(released_at=timezone.now())
    assert differences() == {}


def test_a_table_for_people_and_cells_that_are_no_formulas(sandbox):
    user = linked(sandbox)
    change_here(user, name="=cmd|' /C calc'!A0")
    code, out = run("clerk_diff")
    assert code == 2
    for text in ("Name differs", "Mary Ann Smith", "Likely cause", "Name differs: 1"):
        assert text in out
    code, out = run("clerk_diff", "--format", "csv")
    [row] = csv.DictReader(out.splitlines()[1:])  # below what stderr says
    assert row["ours"] == "'=cmd|' /C calc'!A0"
    assert (code, row["kind"]) == (2, "name")


def test_users_are_chosen_by_their_difference(sandbox):
    named, mailed = linked(sandbox), linked(sandbox)
    change_here(named, name="Mary Ann Brown")
    change_here(mailed, email="new@example.com", name="Jane Roe")
    arguments = ("clerk_push", "--no-refresh", "--json", "--drift", "email")
    plan = json.loads(run(*arguments, "--field", "email", "--field", "name")[1])["plan"]
    assert {row["user_id"] for row in plan["rows"]} == {str(mailed.pk)}


def test_what_it_cannot_do_it_says(sandbox, settings):
    settings.CLERK_SECRET_KEY = ""
    code, out = run("clerk_diff", "--refresh")
    assert (code, "CLERK_SECRET_KEY" in out) == (1, True)


def test_a_match_names_its_user_and_can_be_chosen(sandbox):
    waiting, other = (BuilderUserFactory(email=f"{name}@example.com") for name in "ab")
    account = in_clerk(sandbox, email="a@example.com")
    in_clerk(sandbox, email="b@example.com")
    _, out = run("clerk_diff", "--kind", "match", "--json")
    rows = {row["user_id"]: row for row in json.loads(out)["differences"]}
    assert set(rows) == {str(waiting.pk), str(other.pk)}
    assert rows[str(waiting.pk)]["label"] == waiting.name
    arguments = ("--id", waiting.pk, "--drift", "match", "--apply", "--no-refresh")
    assert run("clerk_link", *arguments)[0] == 0
    assert BuilderUser.objects.get(pk=waiting.pk).clerk_id == account.id
    assert BuilderUser.objects.get(pk=other.pk).clerk_id is None
    assert set(differences()) == {"match"}  # the other one


def test_a_match_that_nothing_links_by_itself_does_not_advise_it(sandbox):
    BuilderUserFactory(email="a@example.com")
    account = in_clerk(sandbox, email="a@example.com", verified=False)
    assert "not verified" in differences()["match"]["cause"]
    plan = json.loads(run("clerk_link", "--no-refresh", "--json", "--drift", "match")[1])["plan"]
    assert (plan["rows"], "not verified" in plan["notes"][0]) == ([], True)
    ClerkAccount.objects.filter(pk=account.id).update(banned=True)
    assert set(differences()) == {"only_in_clerk"}


def test_rows_with_one_email_that_came_in_without_the_index(sandbox):
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX users_email_lower_unique")
        try:
            BuilderUserFactory(email="a@example.com")
            BuilderUserFactory(email="A@example.com")
            code, out = run("clerk_diff", "--kind", "twin_rows", "--json")
            rows = json.loads(out)["differences"]
            assert code == 2
            assert {row["ours"] for row in rows} == {"a@example.com", "A@example.com"}
        finally:
            delete_here()
            cursor.execute("CREATE UNIQUE INDEX users_email_lower_unique ON users (lower(email))")


def test_a_look_at_all_users_does_not_begin_beside_bulk_work(sandbox):
    with one_at_a_time():
        code, out = run("clerk_diff", "--refresh")
        assert (code, "Only one runs at a time" in out) == (1, True)
        assert sandbox.requests() == []
        assert run("clerk_diff")[0] == 0
    assert run("clerk_diff", "--refresh")[0] == 0


SLOWEST = "--rate must be a number of calls a second, 0.01 or more."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "nan"], SLOWEST),
        (["--rate", "1e-320"], SLOWEST),
        (["--refresh", "--rate", "nan"], SLOWEST),
        (["--rate", "5"], "--rate needs --refresh."),
        (["--accept-missing"], "--accept-missing needs --refresh."),
    ],
)
def test_options_that_would_be_ignored_are_refused(sandbox, arguments, said):
    assert run("clerk_diff", *arguments) == (1, said)
    assert not sandbox.requests()


def test_cron_hears_only_of_differences(sandbox):
    user = linked(sandbox)
    assert run("clerk_diff", "--refresh", "--quiet") == (0, "")
    assert run("clerk_diff", "--quiet", "--format", "csv") == (0, "")
    assert json.loads(run("clerk_diff", "--quiet", "--json")[1])["differences"] == []
    change_here(user, name="Mary Ann Jones")
    code, out = run("clerk_diff", "--refresh", "--quiet")
    assert (code, "Mary Ann Jones" in out) == (2, True)
