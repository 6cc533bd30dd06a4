"""What a dead process left behind is settled by what Clerk has, once, for the one who did it."""

from __future__ import annotations

import json
import threading
import time

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from tests.support.change_form import in_clerk, page_of, said, stored, submit, text_of
from tests.support.factories import BuilderUserFactory, StaffFactory, SyncAttemptFactory, linked
from tests.support.interruptions import abandoned, elsewhere
from tests.support.patience import PATIENCE, deadline_for
from users.models import BuilderGroup, BuilderUser, ClerkAccount, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)


def recover(capsys, *options, code=0):
    """Run the command; its exit code must be `code`."""
    try:
        call_command("clerk_recover", *options)
        exited = 0
    except SystemExit as stop:
        exited = stop.code
    assert exited == code
    return capsys.readouterr().out


class TestTheCommand:
    def test_clerk_has_the_change(self, sandbox, capsys):
        actor, user = StaffFactory(), linked(sandbox)
        group = BuilderGroup.objects.create(name="Cedar Homes")
        attempt = abandoned(user, actor=actor)
        attempt.changes["builder_group"] = [None, str(group.pk)]
        attempt.save()
        sandbox.edit(user.clerk_id, last_name="Jones")
        assert "Saved" in recover(capsys)
        assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Jones", group)
        assert stored(user).account.last_name == "Jones"
        attempt.refresh_from_db()
        assert attempt.status == "applied"
        assert LogEntry.objects.get().user == actor
        assert "No change is pending." in recover(capsys)
        assert LogEntry.objects.count() == 1

    def test_clerk_has_it_not_and_gets_it_again(self, sandbox, capsys):
        user = linked(sandbox)
        attempt = abandoned(user)
        assert "It was sent again" in recover(capsys)
        attempt.refresh_from_db()
        assert attempt.status == "applied"
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert LogEntry.objects.count() == 1

    def test_clerk_holds_a_third_name(self, client, sandbox, capsys):
        user = linked(sandbox)
        attempt = abandoned(user)
        sandbox.edit(user.clerk_id, last_name="Third")
        assert "a third name, “Mary Ann Third”" in recover(capsys, code=2)
        assert stored(user).name == user.name
        # The next edit is told, and a person decides.
        assert "a third name" in text_of(submit(client, user, name="Bob"))
        client.post(reverse("admin:users_builderuser_take_over", args=[user.pk]))
        attempt.refresh_from_db()
        assert attempt.status == "dropped"
        assert stored(user).name == "Mary Ann Third"
        assert submit(client, stored(user), name="Bob").status_code == 302

    def test_clerk_does_not_answer(self, sandbox, capsys):
        user = linked(sandbox)
        attempt = abandoned(user)
        sandbox.fault("*", "status", status=503, times=None)
        document = json.loads(recover(capsys, "--json", code=2))
        assert document["left"] == 1
        assert "Clerk could not be read" in document["attempts"][0]["message"]
        attempt.refresh_from_db()
        assert attempt.status == "started"
        sandbox.clear_faults()
        recover(capsys)
        attempt.refresh_from_db()
        assert attempt.status == "applied"

    def test_a_save_that_is_alive_is_left_alone(self, sandbox, capsys):
        user = linked(sandbox)
        attempt = abandoned(user)
        with elsewhere(lambda: BuilderUser.objects.select_for_update().get(pk=user.pk)):
            assert "is being saved by someone else right now" in recover(capsys, code=2)
        attempt.refresh_from_db()
        assert attempt.status == "started"
        assert sandbox.requests() == []


class TestEveryOperation:
    def test_a_create_that_clerk_has(self, sandbox, capsys):
        user = BuilderUserFactory.build(name="Zoë Berg")
        account = sandbox.add_user(
            email=user.email, public_metadata={"cascade_user_id": str(user.pk)}
        )
        SyncAttemptFactory(
            operation="create",
            user_id=user.pk,
            changes={"name": [None, "Zoë Berg"], "email": [None, user.email],
                     "role": [None, "BUILDER"]},
            details={"user_id": str(user.pk), "account": "create"},
        )  # fmt: skip
        recover(capsys)
        assert stored(user).clerk_id == account["id"]
        assert LogEntry.objects.get().is_addition()

    def test_a_create_that_clerk_never_saw(self, sandbox, capsys):
        user = BuilderUserFactory.build()
        sandbox.add_user(email=user.email)  # somebody else's account with that address
        attempt = SyncAttemptFactory(
            operation="create",
            user_id=user.pk,
            changes={"name": [None, "Zoë"], "email": [None, user.email]},
            details={"user_id": str(user.pk), "account": "create"},
        )
        recover(capsys)
        attempt.refresh_from_db()
        assert attempt.status == "dropped"
        assert not BuilderUser.objects.exists()

    def test_a_delete_that_clerk_did(self, sandbox, capsys):
        user = linked(sandbox)
        sandbox.delete(user.clerk_id)
        SyncAttemptFactory(
            operation="delete", user=user, changes={"email": [user.email, None]},
            details={"user_id": str(user.pk)},
        )  # fmt: skip
        recover(capsys)
        assert not BuilderUser.objects.exists()
        assert LogEntry.objects.get().is_deletion()

    def test_a_new_email_that_clerk_has(self, sandbox, capsys):
        user = linked(sandbox, email="old@example.com")
        sandbox.edit(user.clerk_id, email="new@example.com")
        SyncAttemptFactory(
            operation="replace_email", user=user,
            changes={"email": ["old@example.com", "new@example.com"]},
        )  # fmt: skip
        recover(capsys)
        assert stored(user).email == "new@example.com"

    def test_a_new_email_that_another_row_took_meanwhile(self, sandbox, capsys):
        user = linked(sandbox, email="old@example.com")
        sandbox.edit(user.clerk_id, email="new@example.com")
        BuilderUserFactory(email="new@example.com")
        SyncAttemptFactory(
            operation="replace_email", user=user,
            changes={"email": ["old@example.com", "new@example.com"]},
        )  # fmt: skip
        assert "Another builder user has this email" in recover(capsys, code=2)
        assert stored(user).email == "old@example.com"


class TestOnTheWay:
    def test_the_next_edit_settles_it_first(self, client, sandbox):
        user = linked(sandbox)
        attempt = abandoned(user)
        assert submit(client, user, name="Mary Ann Brown").status_code == 302
        attempt.refresh_from_db()
        assert attempt.status == "dropped"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")

    def test_an_edit_that_was_finished_first_is_theirs(self, client, sandbox):
        user = linked(sandbox)
        abandoned(user, actor=StaffFactory(first_name="Kim", last_name="Other"))
        sandbox.edit(user.clerk_id, last_name="Jones")
        response = submit(client, user, name="Mary Ann Brown")
        assert "changed by Kim Other" in text_of(response)
        assert stored(user).name == "Mary Ann Jones"

    def test_the_form_and_the_list_and_readyz_say_that_it_is_open(self, client, sandbox):
        user = linked(sandbox)
        attempt = abandoned(user)
        assert "not confirmed by Clerk yet" in text_of(client.get(page_of(user)))
        assert "Waiting for Clerk" in text_of(client.get("/admin/users/builderuser/"))
        ready = client.get("/readyz/")
        assert ready.status_code == 200
        assert b"open attempts: 1" in ready.content
        client.post(reverse("admin:users_syncattempt_check", args=[attempt.pk]))
        attempt.refresh_from_db()
        assert attempt.status == "applied", "it is sent again"

    def test_two_recoveries_at_once_do_it_once(self, sandbox):
        user = linked(sandbox)
        abandoned(user)
        sandbox.edit(user.clerk_id, last_name="Jones")
        start = threading.Barrier(4)

        def run():
            start.wait(PATIENCE)
            try:
                call_command("clerk_recover", "--json")
            except SystemExit:
                pass  # the row was being recovered by another
            finally:
                connection.close()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert SyncAttempt.objects.get().status == "applied"
        assert LogEntry.objects.count() == 1
        assert stored(user).name == "Mary Ann Jones"


def test_somebody_else_is_saving(client, sandbox):
    user = linked(sandbox)
    with elsewhere(lambda: BuilderUser.objects.select_for_update().get(pk=user.pk)):
        response = submit(client, user, name="Bob")
    assert "being saved by someone else right now" in text_of(response)
    assert stored(user).name == user.name
    assert sandbox.writes() == []
    assert said(response) == []


def test_an_attempt_that_breaks_recovery_does_not_stop_the_others(sandbox, capsys):
    user = linked(sandbox)
    SyncAttemptFactory(operation="update", user=linked(sandbox), changes={}, details={})
    sandbox.edit(user.clerk_id, last_name="Jones")
    attempt = abandoned(user)
    assert "could not be recovered (KeyError)" in recover(capsys, code=2)
    attempt.refresh_from_db()
    assert attempt.status == "applied"


def test_a_scan_that_points_at_the_user_is_no_editor(client, sandbox):
    """A row that refers to the user takes a lock on its key alone."""
    user = linked(sandbox)

    def scan():
        ClerkAccount.objects.create(
            clerk_id="user_other", user=None, replaced_for=user, seen_at=timezone.now()
        )
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    with elsewhere(scan):
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
    assert stored(user).name == "Mary Ann Jones"


def test_resolving_an_earlier_change_first_stays_within_the_deadline(client, sandbox, settings):
    """The look at the earlier change and the save share one deadline."""
    user = linked(sandbox)
    short = deadline_for(lambda: client.get(page_of(user)), at_least=2.0)
    settings.CLERK_EDIT_DEADLINE = short
    abandoned(user)
    sandbox.fault("GET /users/{user_id}", "hang", times=None)
    started = time.monotonic()
    response = submit(client, user, name="Mary Ann Brown")
    # Two deadlines one after the other would take twice as long.
    assert time.monotonic() - started < 2 * short
    assert "not resolved yet" in text_of(response)
    assert stored(user).name == user.name
    assert sandbox.writes() == []


def test_cron_hears_only_of_what_stays_pending(sandbox, capsys):
    assert recover(capsys, "--quiet") == ""
    resolved, waiting = linked(sandbox), linked(sandbox)
    sandbox.edit(resolved.clerk_id, first_name="Mary Ann", last_name="Jones")
    abandoned(resolved)
    abandoned(waiting)
    sandbox.edit(waiting.clerk_id, last_name="Third")
    [line] = recover(capsys, "--quiet", code=2).splitlines()
    assert "a third name" in line
    assert SyncAttempt.objects.get(user=resolved).status == "applied"
