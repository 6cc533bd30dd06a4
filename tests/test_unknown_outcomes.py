"""What staff are told stays true, whatever Clerk applies later, and whoever lost a connection."""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.urls import reverse

from tests.support.change_form import form_of, in_clerk, page_of, said, stored, submit, text_of
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    StaffFactory,
    change_here,
    delete_here,
    linked,
)
from tests.support.interruptions import at_step, in_thread, lose_backend, recover, the_attempt
from tests.support.patience import deadline_for
from tests.support.unknown import NOT_CONFIRMED, minutes_pass, the_copy_is_old, time_is_over
from users.models import BuilderUser, SyncAttempt
from users.sync import maintenance
from users.sync.display import time_text
from users.sync.outbound import checkpoints

pytestmark = pytest.mark.django_db(transaction=True)

RENAME = "PATCH /users/{user_id}"
REPLACE = "PUT /users/{user_id}/email_address"
LATE = {
    "no answer": {"how": "hang"},
    "a closed connection": {"how": "close"},
    "a 500": {"how": "status", "status": 500},
}


@pytest.fixture
def other(db):
    """Another staff member, signed in."""
    client = Client()
    client.force_login(StaffFactory(username="other", first_name="Kim", last_name="Other"))
    return client


def act(client, user, name):
    return client.post(reverse(f"admin:users_builderuser_{name}", args=[user.pk]))


def replace_email(client, user, email):
    page = reverse("admin:users_builderuser_email", args=[user.pk])
    return client.post(page, {"email": email, "how": "replace"})


def unlink_here(user):
    change_here(user, clerk_id=None)


@contextmanager
def refused_by_a_trigger(event, *, when="true"):
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no'; END $$;
            CREATE TRIGGER refuse BEFORE {event} FOR EACH ROW
            WHEN ({when}) EXECUTE FUNCTION refuse()
            """
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION refuse CASCADE")


def assert_same(sandbox, user, *, first, last):
    assert stored(user).name == f"{first} {last}"
    assert in_clerk(sandbox, user) == (first, last)


# --- "Has not" is no proof -----------------------------------------------------------------------


@pytest.mark.parametrize("how", LATE.values(), ids=LATE)
class TestAppliedLate:
    @pytest.fixture(autouse=True)
    def _short(self, client, sandbox, settings, how):
        if how["how"] == "hang":
            settings.CLERK_EDIT_DEADLINE = deadline_for(
                lambda: client.get("/admin/users/builderuser/"), at_least=1.5
            )

    def test_a_save_is_not_told_as_not_saved(self, client, sandbox, how):
        user = linked(sandbox)
        sandbox.fault(RENAME, "late", seconds=None, **how)
        response = submit(client, user, name="Mary Ann Jones")
        assert NOT_CONFIRMED in text_of(response)
        assert "Nothing was saved" not in text_of(response)
        assert 'value="Mary Ann Jones"' in text_of(response)
        assert the_attempt().status == "started"
        assert stored(user).name == user.name
        recover()
        assert the_attempt().status == "started", "Clerk may still take it"
        sandbox.apply_late()
        recover()
        assert the_attempt().status == "applied"
        assert_same(sandbox, user, first="Mary Ann", last="Jones")
        assert LogEntry.objects.count() == 1

    def test_a_different_value_waits_and_says_until_when(self, client, other, sandbox, how):
        user = linked(sandbox)
        sandbox.fault(RENAME, "late", seconds=None, **how)
        submit(client, user, name="Mary Ann Jones")
        response = submit(other, user, name="Mary Ann Brown")
        text = text_of(response)
        assert "by Sam Staff" in text
        assert "may still arrive there until" in text
        assert 'value="Mary Ann Brown"' in text
        assert len(sandbox.writes()) == 1
        sandbox.apply_late()
        time_is_over()
        recover()
        assert_same(sandbox, user, first="Mary Ann", last="Jones")
        submit(other, stored(user), name="Mary Ann Brown")
        assert_same(sandbox, user, first="Mary Ann", last="Brown")

    def test_the_same_again_is_allowed_and_resolves_the_words_of_both(self, client, sandbox, how):
        user = linked(sandbox)
        sandbox.fault(RENAME, "late", seconds=None, **how)
        submit(client, user, name="Mary Ann Jones")
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
        assert_same(sandbox, user, first="Mary Ann", last="Jones")
        assert set(SyncAttempt.objects.values_list("status", flat=True)) == {"applied"}
        # The first request is still under way: a different value would be overwritten by it.
        response = submit(client, stored(user), name="Mary Ann Brown")
        assert "may still arrive there until" in text_of(response)
        sandbox.apply_late()
        assert_same(sandbox, user, first="Mary Ann", last="Jones")
        time_is_over()
        assert submit(client, stored(user), name="Mary Ann Brown").status_code == 302
        assert_same(sandbox, user, first="Mary Ann", last="Brown")

    def test_a_group_is_edited_freely_meanwhile(self, client, other, sandbox, how):
        user, group = linked(sandbox), BuilderGroupFactory()
        sandbox.fault(RENAME, "late", seconds=None, **how)
        submit(client, user, name="Mary Ann Jones")
        assert submit(other, user, builder_group=group.pk).status_code == 302
        sandbox.apply_late()
        recover()
        assert_same(sandbox, user, first="Mary Ann", last="Jones")
        assert stored(user).builder_group == group

    def test_a_delete_that_is_applied_later_is_not_told_as_refused(self, client, sandbox, how):
        user = linked(sandbox)
        sandbox.fault("DELETE /users/{user_id}", "late", seconds=None, **how)
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        response = client.post(page, {"post": "yes"})
        [message] = said(response)
        assert NOT_CONFIRMED in message
        assert "may still arrive there until" in text_of(submit(client, user, name="Bob"))
        assert sandbox.user(user.clerk_id) is not None
        sandbox.apply_late()
        recover()
        assert sandbox.user(user.clerk_id) is None
        assert not BuilderUser.objects.exists()
        assert the_attempt(operation="delete").status == "applied"


class TestShownBefore:
    """Clerk held the wanted value before anything was sent: then that it shows the value does not
    prove that the request has arrived."""

    @pytest.mark.parametrize(
        ("first", "second", "before", "after"),
        [("ban", "unban", True, False), ("unban", "ban", False, True)],
        ids=["banned in the dashboard", "unbanned in the dashboard"],
    )
    def test_the_opposite_waits(self, client, sandbox, first, second, before, after):
        user = linked(sandbox, clerk={"banned": not before})
        sandbox.edit(user.clerk_id, banned=before)
        sandbox.fault(f"POST /users/{{user_id}}/{first}", "late", seconds=None, status=504)
        assert act(client, user, first).status_code == 302
        assert the_attempt().status == "applied"
        assert "may still arrive there until" in text_of(act(client, user, second))
        sandbox.apply_late()
        assert sandbox.user(user.clerk_id)["banned"] is before
        time_is_over()
        assert act(client, user, second).status_code == 302
        assert sandbox.user(user.clerk_id)["banned"] is after

    def test_another_address_waits(self, client, sandbox):
        user = linked(sandbox, email="old@example.com")
        sandbox.edit(user.clerk_id, email="new@example.com")
        the_copy_is_old(user)
        sandbox.fault(REPLACE, "late", seconds=None, status=504)
        assert replace_email(client, user, "new@example.com").status_code == 302
        text = text_of(replace_email(client, user, "third@example.com"))
        assert "may still arrive there until" in text
        sandbox.apply_late()
        assert stored(user).email == "new@example.com"
        assert [one["id"] for one in sandbox.find("new@example.com")] == [user.clerk_id]

    def test_the_account_stays_with_its_row(self, client, sandbox):
        """Another row would not know of the request, and a late one would land on its name."""
        user = linked(sandbox)
        sandbox.edit(user.clerk_id, first_name="Mary Ann", last_name="Jones")
        the_copy_is_old(user)
        sandbox.fault(RENAME, "late", seconds=None, status=504)
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
        assert "may still arrive there until" in text_of(act(client, user, "unlink"))
        assert stored(user).clerk_id == user.clerk_id
        sandbox.apply_late()
        time_is_over()
        assert act(client, user, "unlink").status_code == 302


@pytest.mark.parametrize("leave", [unlink_here, delete_here])
class TestAnAccountThatAnotherRowGets:
    """Another application moves it while a change of its first row may still arrive."""

    @pytest.fixture
    def heir(self, client, sandbox, leave):
        """A user who has the account of another one, whose rename is under way."""
        first = linked(sandbox)
        sandbox.fault(RENAME, "late", seconds=None, how="close")
        assert NOT_CONFIRMED in text_of(submit(client, first, name="Mary Ann Jones"))
        leave(first)
        heir = BuilderUserFactory(name="Mary Ann Smith")
        change_here(heir, clerk_id=first.clerk_id)
        return stored(heir)

    def test_a_different_name_waits(self, other, sandbox, heir):
        assert "may still arrive there until" in text_of(submit(other, heir, name="Mary Ann Brown"))
        assert len(sandbox.writes()) == 1
        sandbox.apply_late()
        assert in_clerk(sandbox, heir) == ("Mary Ann", "Jones")
        assert stored(heir).name == "Mary Ann Smith", "nobody was told that it is Brown"
        time_is_over()
        assert submit(other, heir, name="Mary Ann Brown").status_code == 302
        assert_same(sandbox, heir, first="Mary Ann", last="Brown")

    def test_the_same_name_is_saved_and_says_nothing_of_the_first_row(self, other, sandbox, heir):
        assert submit(other, heir, name="Mary Ann Jones").status_code == 302
        assert_same(sandbox, heir, first="Mary Ann", last="Jones")
        assert [one.status for one in SyncAttempt.objects.order_by("pk")] == ["started", "applied"]
        response = submit(other, stored(heir), name="Mary Ann Brown")
        assert "may still arrive there until" in text_of(response)
        sandbox.apply_late()
        assert_same(sandbox, heir, first="Mary Ann", last="Jones")


@pytest.mark.parametrize("leave", [unlink_here, delete_here])
def test_a_link_to_an_account_waits_for_its_deletion(client, other, sandbox, leave):
    """Another application frees the account, which Clerk may be about to delete."""
    first, second = linked(sandbox), BuilderUserFactory(name="Mary Ann Brown")
    sandbox.fault("DELETE /users/{user_id}", "late", seconds=None, how="close")
    client.post(reverse("admin:users_builderuser_delete", args=[first.pk]), {"post": "yes"})
    leave(first)
    page = reverse("admin:users_builderuser_link", args=[second.pk])
    response = other.post(page, {"clerk_id": first.clerk_id})
    assert "may still arrive there until" in text_of(response)
    sandbox.apply_late()
    time_is_over()
    recover()
    assert "User not found in Clerk" in text_of(other.post(page, {"clerk_id": first.clerk_id}))
    assert stored(second).clerk_id is None


def test_a_read_proves_nothing_before_the_time_is_over_and_everything_after(client, sandbox):
    user = linked(sandbox)
    sandbox.fault("PUT /users/{user_id}/email_address", "status", status=500)
    page = reverse("admin:users_builderuser_email", args=[user.pk])
    response = client.post(page, {"email": "new@example.com", "how": "replace"})
    assert NOT_CONFIRMED in text_of(response)
    recover()
    assert the_attempt().status == "started"
    time_is_over()
    recover()
    assert the_attempt().status == "dropped", "an address is never sent again unasked"
    assert sandbox.find("new@example.com") == []
    assert stored(user).email == user.email
    # Whoever typed it has left the page; the word is on their home page.
    assert the_attempt().unseen


def test_a_worker_killed_in_the_call_while_another_person_edits(client, other, sandbox):
    """The process is gone with its lock; its request is not."""
    user = linked(sandbox)

    def die():
        raise SystemExit

    with at_step(checkpoints.BEFORE_CALL, die), pytest.raises(SystemExit):
        submit(client, user, name="Mary Ann Jones")
    response = submit(other, user, name="Mary Ann Brown")
    assert "may still arrive there until" in text_of(response)
    sandbox.edit(user.clerk_id, last_name="Jones")  # the request of the dead process lands
    recover()
    assert_same(sandbox, user, first="Mary Ann", last="Jones")
    assert [entry.user.username for entry in LogEntry.objects.all()] == ["staff"]


def test_a_lost_backend_before_the_call_loses_no_edit(client, other, sandbox):
    """The live process calls Clerk without its lock, while another person edits."""
    user = linked(sandbox)
    answers = []

    def lose_it():
        lose_backend()
        in_thread(lambda: answers.append(submit(other, user, name="Mary Ann Brown")))
        in_thread(recover)

    with at_step(checkpoints.BEFORE_CALL, lose_it):
        response = submit(client, user, name="Mary Ann Jones")
    connection.close()
    assert "may still arrive there until" in text_of(answers[0])
    assert "checked again at" in text_of(response)
    recover()
    assert_same(sandbox, user, first="Mary Ann", last="Jones")
    assert the_attempt(status="applied").changes["name"][1] == "Mary Ann Jones"


class TestABackendLostAfterClerkHasIt:
    @pytest.fixture(params=[checkpoints.AFTER_CALL, checkpoints.BEFORE_COMMIT])
    def lost(self, request):
        """The database ends the connection, and staff are told this."""

        def post(client, page, **data):
            with at_step(request.param, lose_backend):
                response = client.post(page, data)
            connection.close()
            assert the_attempt().status == "started"
            return text_of(response)

        return post

    def test_it_says_when_that_is_checked(self, client, sandbox, lost):
        user = linked(sandbox)
        text = lost(client, page_of(user), **form_of(user, name="Mary Ann Jones"))
        until = time_text(the_attempt().late_until, seconds=True)
        assert f"Whether it was saved here is checked again at {until}; nothing is lost." in text
        recover()
        assert_same(sandbox, user, first="Mary Ann", last="Jones")

    def test_a_ban_is_not_called_uncertain_nor_sent_again(self, client, sandbox, lost):
        user = linked(sandbox)
        text = lost(client, reverse("admin:users_builderuser_ban", args=[user.pk]))
        assert "Clerk has the change" in text
        assert "may still be able to sign in" not in text
        assert sandbox.user(user.clerk_id)["banned"] is True
        sandbox.edit(user.clerk_id, banned=False)  # somebody in Clerk's dashboard
        time_is_over()
        recover()
        assert the_attempt().status == "applied"
        assert sandbox.user(user.clerk_id)["banned"] is False

    def test_a_password_is_not_called_uncertain_later(self, client, sandbox, lost):
        user = linked(sandbox)
        page = reverse("admin:users_builderuser_password", args=[user.pk])
        typed = "correct horse battery"
        assert "Clerk has the change" in lost(client, page, password1=typed, password2=typed)
        time_is_over()
        recover()
        assert the_attempt().status == "applied"
        assert sandbox.user(user.clerk_id)["password_enabled"] is True


# --- No outage loses an edit ---------------------------------------------------------------------


class TestSentAgain:
    def test_a_name_is_sent_again_when_nothing_can_arrive_any_more(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "close")
        submit(client, user, name="Mary Ann Jones")
        recover()
        assert len(sandbox.writes()) == 1
        time_is_over()
        maintenance.run()
        assert the_attempt().status == "applied"
        assert_same(sandbox, user, first="Mary Ann", last="Jones")
        assert the_attempt().unseen

    def test_with_growing_pauses_and_not_for_ever(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "close", times=None)
        submit(client, user, name="Mary Ann Jones")
        waited = []
        for _ in range(60):
            if the_attempt().status != "started":
                break
            before = len(sandbox.writes())
            minutes_pass(1)
            recover()
            waited.append(len(sandbox.writes()) - before)
        assert the_attempt().status == "dropped"
        sent = [minute for minute, count in enumerate(waited) if count]
        pauses = [later - sooner for sooner, later in itertools.pairwise(sent)]
        assert pauses == sorted(pauses)
        assert len(set(pauses)) > 1
        assert len(waited) <= 31
        assert "does not have the change" in the_attempt().message
        assert stored(user).name == user.name

    def test_not_over_what_was_changed_here_since(self, client, other, sandbox):
        user = linked(sandbox)
        group, later = BuilderGroupFactory(), BuilderGroupFactory()
        sandbox.fault(RENAME, "close")
        submit(client, user, name="Mary Ann Jones", builder_group=group.pk)
        BuilderUser.objects.filter(pk=user.pk).update(builder_group=later)
        time_is_over()
        recover()
        assert (the_attempt().status, the_attempt().unseen) == ("dropped", True)
        assert "changed here since (builder group)" in the_attempt().message
        assert len(sandbox.writes()) == 1
        assert stored(user).builder_group == later

    def test_not_over_a_third_name_in_clerk(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "close")
        submit(client, user, name="Mary Ann Jones")
        sandbox.edit(user.clerk_id, last_name="Third")
        time_is_over()
        recover()
        assert the_attempt().status == "started"
        assert "a third name, “Mary Ann Third”" in the_attempt().message
        assert in_clerk(sandbox, user) == ("Mary Ann", "Third")

    def test_a_ban_is_sent_again_and_a_password_is_not(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("POST /users/{user_id}/ban", "close")
        client.post(reverse("admin:users_builderuser_ban", args=[user.pk]))
        sandbox.fault(RENAME, "close")
        page = reverse("admin:users_builderuser_password", args=[user.pk])
        client.post(page, {"password1": "correct horse 1", "password2": "correct horse 1"})
        sandbox.clear_requests()
        time_is_over()
        recover()
        assert sandbox.user(user.clerk_id)["banned"]
        assert [write.path for write in sandbox.writes()] == [f"/users/{user.clerk_id}/ban"]
        assert the_attempt(operation="set_password").status != "applied"

    def test_a_ban_that_is_sent_again_and_refused_says_that_they_can_still_sign_in(
        self, client, sandbox
    ):
        user = linked(sandbox)
        sandbox.fault("POST /users/{user_id}/ban", "close")
        client.post(reverse("admin:users_builderuser_ban", args=[user.pk]))
        sandbox.fault("POST /users/{user_id}/ban", "status", status=422, code="ban_refused")
        time_is_over()
        recover()
        assert not sandbox.user(user.clerk_id)["banned"]
        assert the_attempt().status == "refused"
        assert the_attempt().message == (
            "Not banned yet: the person can still sign in. Failed to sync with Clerk "
            "authentication system. Oops, an unexpected error occurred. Clerk refused the change."
        )

    def test_two_recoveries_send_it_once(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "close")
        submit(client, user, name="Mary Ann Jones")
        time_is_over()
        threads = [threading.Thread(target=in_thread, args=[recover]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        # Two that meet at the row's lock leave it to the next one.
        time_is_over(minutes=10)
        recover()
        assert len(sandbox.writes()) == 2
        assert_same(sandbox, user, first="Mary Ann", last="Jones")
        assert LogEntry.objects.count() == 1


# --- A 2xx is judged like a read-back ------------------------------------------------------------


class TestOldValues:
    def test_a_200_with_the_old_name_is_no_success(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "stale")
        response = submit(client, user, name="Mary Ann Jones")
        assert NOT_CONFIRMED in text_of(response)
        assert (stored(user).name, the_attempt().status) == (user.name, "started")

    def test_a_200_with_the_old_name_that_was_applied_is_found_by_reading(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "stale", apply=True)
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
        assert_same(sandbox, user, first="Mary Ann", last="Jones")

    def test_a_put_answered_with_another_address(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("PUT /users/{user_id}/email_address", "stale")
        page = reverse("admin:users_builderuser_email", args=[user.pk])
        response = client.post(page, {"email": "new@example.com", "how": "replace"})
        assert NOT_CONFIRMED in text_of(response)
        assert "now signs in" not in text_of(response)
        assert stored(user).email == user.email

    def test_a_ban_answered_with_banned_false(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("POST /users/{user_id}/ban", "stale")
        response = client.post(reverse("admin:users_builderuser_ban", args=[user.pk]))
        assert NOT_CONFIRMED in text_of(response)
        assert not sandbox.user(user.clerk_id)["banned"]


@pytest.mark.parametrize("body", ["html", "json"])
@pytest.mark.parametrize("status", [400, 403, 413, 429])
def test_a_refusal_that_is_not_clerks_own_may_have_been_applied(client, sandbox, status, body):
    user = linked(sandbox)
    sandbox.fault(RENAME, "foreign_4xx", status=status, body=body)
    assert submit(client, user, name="Mary Ann Jones").status_code == 302
    assert_same(sandbox, user, first="Mary Ann", last="Jones")


# --- Passwords -----------------------------------------------------------------------------------


class TestPasswords:
    def set_password(self, client, user):
        page = reverse("admin:users_builderuser_password", args=[user.pk])
        return client.post(page, {"password1": "correct horse 1", "password2": "correct horse 1"})

    def test_without_a_time_in_clerk_it_ends_as_unproven(self, client, sandbox):
        sandbox.hide_password_times = True
        user = linked(sandbox, clerk={"password_enabled": True})
        sandbox.fault(RENAME, "close", apply=True)
        response = self.set_password(client, user)
        assert NOT_CONFIRMED in text_of(response)
        recover()
        assert the_attempt().status == "started"
        until = the_attempt().late_until
        time_is_over()
        until = the_attempt().late_until
        recover()
        assert the_attempt().status == "unproven"
        assert f"Set it again after {until:%Y-%m-%d %H:%M:%S} UTC" in the_attempt().message
        assert not LogEntry.objects.exists()

    def test_a_password_that_the_person_changed_herself_is_not_logged_as_staffs(
        self, client, sandbox
    ):
        user = linked(sandbox, clerk={"password_enabled": True})
        sandbox.fault(RENAME, "close")
        self.set_password(client, user)
        account = sandbox.user(user.clerk_id)
        sandbox.edit(user.clerk_id, password_last_updated_at=account["updated_at"] + 1_000_000)
        time_is_over()
        recover()
        assert the_attempt().status == "unproven"
        assert not LogEntry.objects.exists()

    def test_a_password_that_clerk_did_not_take_is_told_so(self, client, sandbox):
        user = linked(
            sandbox,
            clerk={"password_enabled": True, "password_last_updated_at": 1_700_000_000_000},
        )
        sandbox.fault(RENAME, "close")
        self.set_password(client, user)
        time_is_over()
        recover()
        assert the_attempt().status == "dropped"


# --- Recovery compares the row -------------------------------------------------------------------


def test_recovery_does_not_write_an_old_accounts_name_onto_a_relinked_row(client, sandbox):
    user = linked(sandbox)
    sandbox.fault(RENAME, "late", seconds=None, how="close")
    submit(client, user, name="Mary Ann Jones")
    new = sandbox.add_user(email="elsewhere@example.com", first_name="Mary Ann", last_name="Smith")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE users SET clerk_id = %s", [new["id"]])
    sandbox.apply_late()
    recover()
    assert stored(user).name == user.name
    assert the_attempt().status == "started"
    assert "was changed here since (clerk id)" in the_attempt().message
    time_is_over()
    client.post(reverse("admin:users_builderuser_take_over", args=[user.pk]))
    assert the_attempt(operation="update").status == "dropped"
    assert (stored(user).name, stored(user).email) == (user.name, "elsewhere@example.com")


def test_a_change_of_a_row_that_another_application_unlinked_can_be_discarded(client, sandbox):
    user = linked(sandbox)
    sandbox.fault(RENAME, "late", seconds=None, how="close")
    submit(client, user, name="Mary Ann Jones")
    change_here(user, clerk_id=None)
    sandbox.apply_late()
    time_is_over()
    recover()
    assert the_attempt().status == "started"
    client.post(reverse("admin:users_builderuser_take_over", args=[user.pk]))
    assert the_attempt().status == "dropped"


def test_an_attempt_that_a_trigger_refuses_does_not_stop_the_others(client, sandbox):
    bad, good = linked(sandbox, name="Bad Luck"), linked(sandbox)
    for user in (bad, good):
        sandbox.fault(RENAME, "late", seconds=None, how="close")
        submit(client, user, name=user.name.replace(user.name.split()[-1], "Jones"))
    sandbox.apply_late()
    with refused_by_a_trigger("UPDATE ON users", when="NEW.name LIKE 'Bad%'"):
        maintenance.run()
        page = reverse("admin:users_builderuser_check", args=[bad.pk])
        assert client.post(page).status_code == 302
    assert the_attempt(user=bad).status == "started"
    assert the_attempt(user=good).status == "applied"
    recover()
    assert the_attempt(user=bad).status == "applied"


# --- Read under the lock -------------------------------------------------------------------------


class TestReadUnderTheLock:
    def test_using_clerks_version_reads_it_under_the_lock(self, client, other, sandbox):
        """A colleague cannot save between the read and the write."""
        user = linked(sandbox)
        sandbox.edit(user.clerk_id, last_name="Clerk")
        answers = []
        asked = threading.Event()
        sandbox.fault("GET /users/{user_id}", "delay", seconds=600)

        def take_over():
            page = reverse("admin:users_builderuser_take_over", args=[user.pk])
            answers.append(client.post(page))

        thread = threading.Thread(target=in_thread, args=[take_over])
        thread.start()
        for _ in range(6000):
            if sandbox.requests():
                asked.set()
                break
            thread.join(0.01)
        assert asked.is_set()
        response = submit(other, user, name="Mary Ann Brown")
        assert "being saved by someone else right now" in text_of(response)
        sandbox.clear_faults()
        thread.join(120)
        assert_same(sandbox, user, first="Mary Ann", last="Clerk")

    def test_a_name_that_was_changed_in_clerk_is_a_conflict(self, client, sandbox):
        user = linked(sandbox)
        the_copy_is_old(user)
        sandbox.edit(user.clerk_id, last_name="Clerk")
        response = submit(client, user, name="Mary Ann Jones")
        text = text_of(response)
        assert "was changed in Clerk" in text
        assert "Mary Ann Clerk" in text
        assert "Mary Ann Jones" in text
        assert in_clerk(sandbox, user) == ("Mary Ann", "Clerk")
        assert stored(user).name == user.name
        # Knowing it, they save their own.
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
        assert_same(sandbox, user, first="Mary Ann", last="Jones")

    def test_a_mirror_that_cannot_be_written_hides_no_conflict(self, client, sandbox):
        user = linked(sandbox)
        the_copy_is_old(user)
        sandbox.edit(user.clerk_id, last_name="Clerk")
        with refused_by_a_trigger("UPDATE ON users_clerkaccount"):
            text = text_of(submit(client, user, name="Mary Ann Jones"))
        assert "was changed in Clerk" in text
        assert "Mary Ann Clerk" in text
        assert (the_attempt().status, stored(user).name) == ("dropped", user.name)

    def test_a_mirror_that_cannot_be_written_hides_no_refusal(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "status", status=404, code="resource_not_found")
        with refused_by_a_trigger("UPDATE ON users_clerkaccount"):
            text = text_of(submit(client, user, name="Mary Ann Jones"))
        assert "User not found in Clerk. They may have been deleted." in text
        assert (the_attempt().status, stored(user).name) == ("refused", user.name)

    def test_an_unchanged_name_costs_one_read_and_a_fresh_copy_none(self, client, sandbox):
        user = linked(sandbox)
        submit(client, user, name="Mary Ann Jones")
        assert [request.method for request in sandbox.requests()] == ["PATCH"]
        the_copy_is_old(user)
        sandbox.clear_requests()
        submit(client, stored(user), name="Mary Ann Brown")
        assert [request.method for request in sandbox.requests()] == ["GET", "PATCH"]

    def test_an_address_that_was_changed_in_clerk_is_a_conflict(self, client, sandbox):
        user = linked(sandbox)
        the_copy_is_old(user)
        sandbox.edit(user.clerk_id, email="own@example.com")
        page = reverse("admin:users_builderuser_email", args=[user.pk])
        response = client.post(page, {"email": "new@example.com", "how": "replace"})
        assert "was changed in Clerk" in text_of(response)
        assert sandbox.find("new@example.com") == []


# --- The same again of what makes something ------------------------------------------------------


class TestMadeOnce:
    def add(self, client, **fields):
        return client.post(
            reverse("admin:users_builderuser_add"),
            {"name": "Zoë Berg", "email": "zoe@example.com", "role": "BUILDER",
             "internal_role": "", "builder_group": "", **fields},
        )  # fmt: skip

    @pytest.mark.parametrize("late_first", [True, False])
    def test_a_repeated_create_keeps_the_first_ones_row_id(self, client, sandbox, late_first):
        sandbox.fault("POST /users", "late", seconds=None, how="close")
        response = self.add(client, account="create")
        assert NOT_CONFIRMED in text_of(response)
        assert not BuilderUser.objects.exists()
        if late_first:
            sandbox.apply_late()
        assert self.add(client, account="create").status_code == 302
        sandbox.apply_late()
        [account] = sandbox.users()
        row = BuilderUser.objects.get()
        assert row.clerk_id == account["id"]
        assert account["public_metadata"]["cascade_user_id"] == str(row.pk)
        assert not SyncAttempt.objects.filter(status="started").exists()

    def test_a_proxy_that_takes_no_more_leaves_the_invitation_unknown(self, client, sandbox):
        sandbox.fault("POST /invitations", "foreign_4xx", status=429, apply=False)
        response = self.add(client, account="invite")
        assert NOT_CONFIRMED in text_of(response)
        assert not BuilderUser.objects.exists()
        assert the_attempt().status == "started"

    @pytest.mark.parametrize("late_first", [True, False])
    def test_a_repeated_invitation_keeps_its_reference(self, client, sandbox, late_first):
        sandbox.fault("POST /invitations", "late", seconds=None, how="close")
        self.add(client, account="invite")
        if late_first:
            sandbox.apply_late()
        assert self.add(client, account="invite").status_code == 302
        sandbox.apply_late()
        [sent] = sandbox.invitations()
        invitation = BuilderUser.objects.get().invitations.get()
        assert invitation.clerk_invitation_id == sent["id"]


def test_the_pages_say_until_when_it_is_pending(client, sandbox):
    user = linked(sandbox)
    sandbox.fault(RENAME, "close")
    submit(client, user, name="Mary Ann Jones")
    until = the_attempt().late_until
    assert f"{until:%Y-%m-%d %H:%M:%S}" in text_of(client.get(page_of(user)))


def test_using_clerks_version_waits_until_nothing_can_arrive(client, sandbox):
    user = linked(sandbox)
    sandbox.fault(RENAME, "late", seconds=None, how="close")
    submit(client, user, name="Mary Ann Jones")
    page = reverse("admin:users_builderuser_take_over", args=[user.pk])
    assert "may still arrive there until" in said(client.post(page))[0]
    assert the_attempt().status == "started"
    time_is_over()
    client.post(page)
    assert the_attempt().status == "dropped"
    assert_same(sandbox, user, first="Mary Ann", last="Smith")
