"""Facts that arrive after somebody has looked: both stores, and the words."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from tests.support.change_form import in_clerk, page_of, said, stored, submit, text_of
from tests.support.events import arrive
from tests.support.factories import (
    BuilderUserFactory,
    change_here,
    linked,
)
from tests.support.html_form import fields_of
from tests.support.interruptions import at_step, in_thread, recover
from tests.support.unknown import NOT_CONFIRMED, the_copy_is_old, time_is_over
from users.models import BuilderUser, Invitation, SyncAttempt
from users.sync import maintenance
from users.sync.outbound import checkpoints
from users.sync.outbound.dual_write import dual_write
from users.sync.services import users as users_service

pytestmark = pytest.mark.django_db(transaction=True)

INVITE = "POST /invitations"
RENAME = "PATCH /users/{user_id}"
REVOKE = "POST /invitations/{invitation_id}/revoke"


def act(client, user, name, **fields):
    return client.post(reverse(f"admin:users_builderuser_{name}", args=[user.pk]), fields)


def invite(client, user):
    return act(client, user, "invite")


def change_email(client, user, email="new@example.com"):
    return act(client, user, "email", email=email, how="invite")


def set_password(client, user, password="correct horse battery"):
    return act(client, user, "password", password1=password, password2=password)


def assert_same(sandbox, user, *, first, last):
    assert stored(user).name == f"{first} {last}"
    assert in_clerk(sandbox, user) == (first, last)


def delete(client, user):
    page = reverse("admin:users_builderuser_delete", args=[user.pk])
    return client.post(page, {"post": "yes"}, follow=True)


def delete_by_sql(user):
    """Delete the row as the earlier application does: it knows no other table."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM users WHERE id = %s", [user.pk])


def statuses(sandbox):
    return [invitation["status"] for invitation in sandbox.invitations()]


# --- An invitation that nobody would own ---------------------------------------------------------


class TestDeletionMeetsAnInvitation:
    @pytest.fixture
    def invited_meanwhile(self, client, monkeypatch):
        """Invite the user after the deletion has looked for an open invitation."""

        @contextmanager
        def between(user, way=invite):
            todo = [lambda: in_thread(lambda: way(client, user))]

            def late(operation, *args, **options):
                if operation.kind == "delete" and todo:
                    todo.pop()()
                return dual_write(operation, *args, **options)

            monkeypatch.setattr(users_service, "dual_write", late)
            yield
            assert not todo

        return between

    def test_of_a_user_without_an_account(self, client, sandbox, invited_meanwhile):
        user = BuilderUserFactory(email="ann@example.com")
        with invited_meanwhile(user):
            page = delete(client, user)
        assert "The invitation to ann@example.com is still open" in text_of(page)
        assert stored(user).email == "ann@example.com"
        assert statuses(sandbox) == ["pending"]
        delete(client, user)
        assert not BuilderUser.objects.exists()
        assert statuses(sandbox) == ["revoked"]

    def test_of_a_linked_user(self, client, sandbox, invited_meanwhile):
        user = linked(sandbox)
        with invited_meanwhile(user, change_email):
            page = delete(client, user)
        assert "The invitation to new@example.com is still open" in text_of(page)
        assert sandbox.user(user.clerk_id)
        assert stored(user).clerk_id == user.clerk_id
        assert statuses(sandbox) == ["pending"]
        assert SyncAttempt.objects.get(operation="delete").status == "dropped"
        delete(client, user)
        assert not BuilderUser.objects.exists()
        assert statuses(sandbox) == ["revoked"]

    def test_that_is_closed_here_and_still_open_in_clerk(self, client, sandbox):
        """A newer decision closed it; the worker has not revoked it in Clerk yet."""
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        chosen = sandbox.add_user(email="ann.home@example.com")
        link = reverse("admin:users_builderuser_link", args=[user.pk])
        client.post(link, {"clerk_id": chosen["id"]})
        assert (Invitation.objects.get().revoke_due, statuses(sandbox)) == (True, ["pending"])
        delete(client, user)
        assert not BuilderUser.objects.exists()
        assert statuses(sandbox) == ["revoked"]


def test_a_deletion_does_not_forget_the_old_account_that_is_still_to_be_banned(client, sandbox):
    """Their new account has just replaced it, and the worker has not banned it yet."""
    user = linked(sandbox)
    old = user.clerk_id
    change_email(client, user)
    new = sandbox.accept(sandbox.invitations()[0]["id"])
    arrive(sandbox)
    assert stored(user).clerk_id == new["id"]
    delete(client, user)
    assert not BuilderUser.objects.exists()
    [note] = maintenance.run().notes
    assert "its user was deleted before it could be banned" in note
    assert not sandbox.user(old)["banned"]
    page = text_of(client.get(reverse("admin:users_clerkaccount_change", args=[old])))
    assert "ban or delete it in Clerk" in page
    assert maintenance.run().notes == []


def test_a_replaced_account_that_was_linked_meanwhile_is_not_banned(client, sandbox):
    """Staff give it to another user after the worker has listed the accounts to ban."""
    user, heir = linked(sandbox), BuilderUserFactory(name="Zoë Berg")
    old = user.clerk_id
    change_email(client, user)
    sandbox.accept(sandbox.invitations()[0]["id"])
    arrive(sandbox)
    page = reverse("admin:users_builderuser_link", args=[heir.pk])
    link = partial(client.post, page, {"clerk_id": old})
    with at_step(checkpoints.BEFORE_ATTEMPT, lambda: in_thread(link)):
        assert maintenance.ban_replaced() == []
    assert stored(heir).clerk_id == old
    assert not sandbox.user(old)["banned"]
    assert stored(heir).account.note == ""


def test_an_invitation_whose_change_is_discarded_is_revoked(client, sandbox):
    """Recovery cannot finish it, as another application has given the row another account."""
    user = linked(sandbox)
    sandbox.fault(INVITE, "late", seconds=None, how="close")
    assert NOT_CONFIRMED in text_of(change_email(client, user))
    other = sandbox.add_user(email="other@example.com", first_name="Mary Ann", last_name="Smith")
    change_here(user, clerk_id=other["id"])
    sandbox.apply_late()
    time_is_over()
    recover()
    assert "this user was changed here since" in SyncAttempt.objects.get().message
    response = act(client, user, "take_over")
    assert response.status_code == 302
    attempt = SyncAttempt.objects.get(operation="invite")
    assert (attempt.status, statuses(sandbox)) == ("dropped", ["revoked"])
    assert "The invitation to new@example.com was revoked." in attempt.message


class TestUserDeletedElsewhereWhileInvited:
    @pytest.fixture
    def user(self, client, sandbox):
        """Their invitation was sent, its answer is lost, and their row is deleted."""
        user = BuilderUserFactory(email="ann@example.com")
        sandbox.fault(INVITE, "late", seconds=None, how="close")
        assert NOT_CONFIRMED in text_of(
            client.post(reverse("admin:users_builderuser_invite", args=[user.pk]), follow=True)
        )
        delete_by_sql(user)
        sandbox.apply_late()
        return user

    def test_it_is_revoked(self, sandbox, user):
        recover()
        attempt = SyncAttempt.objects.get()
        assert statuses(sandbox) == ["revoked"]
        assert attempt.status == "dropped"
        assert "deleted" in attempt.message
        assert "the invitation to ann@example.com was revoked" in attempt.message
        assert not BuilderUser.objects.exists()
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize("status", [403, 500])
    def test_it_stays_pending_until_it_is_revoked(self, client, sandbox, user, status):
        sandbox.fault(REVOKE, "status", status=status, code="authorization_invalid")
        time_is_over()
        recover()
        attempt = SyncAttempt.objects.get()
        assert (attempt.status, statuses(sandbox)) == ("started", ["pending"])
        assert "could not be revoked" in attempt.message
        recover()
        assert SyncAttempt.objects.get().status == "dropped"
        assert statuses(sandbox) == ["revoked"]

    def test_one_that_was_accepted_already_is_shown(self, client, sandbox, user):
        account = sandbox.accept(sandbox.invitations()[0]["id"])
        recover()
        attempt = SyncAttempt.objects.get()
        assert attempt.status == "dropped"
        assert "was accepted" in attempt.message
        arrive(sandbox)
        page = reverse("admin:users_clerkaccount_change", args=[account["id"]])
        assert "ann@example.com" in text_of(client.get(page))


# --- A password typed again ----------------------------------------------------------------------


class TestPasswordTypedAgain:
    def test_the_words_do_not_promise_that_it_can_be_repeated(self, client, sandbox):
        """No password is stored, so nobody can tell whether two are the same."""
        user = linked(sandbox, clerk={"password_last_updated_at": 1})
        sandbox.fault(RENAME, "late", seconds=None, how="close")
        words = text_of(set_password(client, user))
        until = f"{SyncAttempt.objects.get().late_until:%Y-%m-%d %H:%M:%S}"
        assert NOT_CONFIRMED in words
        assert "Repeating the same is safe" not in words
        assert "nothing is lost" not in words
        assert "nothing is lost" not in text_of(client.get(page_of(user)))
        assert f"set it again after {until} UTC" in words
        again = text_of(set_password(client, user))
        assert f"may still arrive there until {until} UTC" in again
        assert "Passwords are not stored, so they cannot be compared" in again
        assert len(sandbox.writes()) == 1
        sandbox.apply_late()
        time_is_over()
        maintenance.run()
        response = set_password(client, user)
        assert response.status_code == 302
        assert len(sandbox.writes()) == 2


# --- Work in the background that one refusal stops -----------------------------------------------


def closed_here(client, sandbox, number):
    """An invitation that a newer decision closed here, still open in Clerk."""
    user = BuilderUserFactory(email=f"ann{number}@example.com")
    invite(client, user)
    chosen = sandbox.add_user(email=f"ann{number}.home@example.com")
    link = reverse("admin:users_builderuser_link", args=[user.pk])
    client.post(link, {"clerk_id": chosen["id"]})
    return Invitation.objects.get(user=user)


def in_clerks_list(sandbox, invitation):
    [found] = [one for one in sandbox.invitations() if one["id"] == invitation.clerk_invitation_id]
    return found["status"]


class TestOneRefusalDoesNotStopTheOthers:
    def test_to_revoke(self, client, sandbox):
        one, two = closed_here(client, sandbox, 1), closed_here(client, sandbox, 2)
        sandbox.fault(REVOKE, "status", status=422, code="invitation_locked")
        notes = maintenance.run().notes
        assert [in_clerks_list(sandbox, each) for each in (one, two)] == ["pending", "revoked"]
        assert "not revoked in Clerk yet" in notes[0]
        assert notes[1].endswith("revoked, as a newer decision has closed it.")

    def test_to_revoke_although_many_are_refused_for_ever(self, client, sandbox, monkeypatch):
        monkeypatch.setattr("users.sync.services.invitation_upkeep.CHECKED_AT_ONCE", 1)
        one, two = closed_here(client, sandbox, 1), closed_here(client, sandbox, 2)
        sandbox.fault(REVOKE, "status", status=422, code="invitation_locked")
        maintenance.run()
        maintenance.run()
        assert [in_clerks_list(sandbox, each) for each in (one, two)] == ["pending", "revoked"]

    def test_to_check(self, client, sandbox):
        for number in (1, 2):
            invite(client, BuilderUserFactory(email=f"ann{number}@example.com"))
        one, two = Invitation.objects.order_by("id")
        sandbox.accept(one.clerk_invitation_id)
        Invitation.objects.filter(pk=one.pk).update(updated_at=timezone.now() - timedelta(hours=2))
        Invitation.objects.filter(pk=two.pk).update(updated_at=timezone.now() - timedelta(hours=1))
        sandbox.fault("GET /users", "status", status=422, code="form_param_value_invalid")
        revoke_in_clerk(sandbox, two)
        maintenance.run()
        two.refresh_from_db()
        assert two.status == "revoked"

    def test_to_send(self, client, sandbox):
        """The outcome of the first stays unknown; the next round begins with the second."""
        users = [BuilderUserFactory(email=f"ann{number}@example.com") for number in (1, 2)]
        for user in users:
            sandbox.fault(INVITE, "status", status=429, code="too_many_requests")
            invite(client, user)
        assert Invitation.objects.filter(status="waiting").count() == 2
        Invitation.objects.update(send_after=timezone.now() - timedelta(minutes=1))
        sandbox.clear_requests()
        for expected in ("ann1@example.com", "ann2@example.com"):
            sandbox.fault(INVITE, "status", status=500)
            maintenance.run()
            asked = [one for one in sandbox.writes() if one.path == "/invitations"]
            assert asked[-1].body["email_address"] == expected
        assert sandbox.mails() == []


def revoke_in_clerk(sandbox, invitation):
    with sandbox.state.lock:
        sandbox.state.invitations[invitation.clerk_invitation_id]["status"] = "revoked"


# --- One clock -----------------------------------------------------------------------------------


@pytest.fixture(params=[-600, 600], ids=lambda seconds: f"{seconds} s")
def our_clock(request, monkeypatch):
    """Set our clock apart from the database's."""
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=request.param))


class TestOneClock:
    def test_an_invitation_after_a_change_of_email_stays_open(self, client, sandbox, our_clock):
        user = linked(sandbox)
        change_email(client, user, email="old@example.com")
        page = reverse("admin:users_builderuser_email", args=[user.pk])
        client.post(page, {"email": "newer@example.com", "how": "replace"})
        assert [one.status for one in Invitation.objects.all()] == ["revoked"]
        change_email(client, stored(user), email="newest@example.com")
        arrive(sandbox)
        maintenance.run()
        assert Invitation.objects.get(email="newest@example.com").status == "pending"
        assert stored(user).email == "newer@example.com"
        account = sandbox.accept(Invitation.objects.get(status="pending").clerk_invitation_id)
        arrive(sandbox)
        assert stored(user).clerk_id == account["id"]
        assert stored(user).email == "newest@example.com"


# --- What Clerk held before the request ----------------------------------------------------------


class TestWhatClerkHeldBefore:
    """A value in Clerk proves that our request arrived only if another one was read before it."""

    def lost(self, sandbox, user):
        """Mary is renamed in Clerk by herself; our request of the same name is still under way."""
        sandbox.edit(user.clerk_id, last_name="Jones")
        sandbox.fault(RENAME, "late", seconds=None, how="close")

    def assert_the_late_one_harms_nobody(self, client, sandbox, user):
        response = submit(client, stored(user), name="Mary Ann Brown")
        assert "may still arrive there until" in text_of(response)
        sandbox.apply_late()
        time_is_over()
        submit(client, stored(user), name="Mary Ann Brown")
        sandbox.apply_late()
        assert_same(sandbox, user, first="Mary Ann", last="Brown")

    def test_a_copy_of_the_last_seconds_proves_nothing(self, client, sandbox):
        user = linked(sandbox)
        self.lost(sandbox, user)
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
        self.assert_the_late_one_harms_nobody(client, sandbox, user)

    @pytest.mark.parametrize("old", [False, True])
    def test_neither_does_an_attempt_that_recovery_finds(self, client, sandbox, old):
        user = linked(sandbox)
        self.lost(sandbox, user)
        if old:
            the_copy_is_old(user)
        sandbox.fault("GET /users/{user_id}", "status", status=500, times=10, skip=int(old))
        assert NOT_CONFIRMED in text_of(submit(client, user, name="Mary Ann Jones"))
        sandbox.clear_faults()
        recover()
        assert SyncAttempt.objects.get().status == "applied"
        self.assert_the_late_one_harms_nobody(client, sandbox, user)

    def test_a_name_that_was_read_before_proves_it(self, client, sandbox):
        user = linked(sandbox)
        the_copy_is_old(user)
        sandbox.fault(RENAME, "close", apply=True)
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
        assert submit(client, stored(user), name="Mary Ann Brown").status_code == 302
        assert_same(sandbox, user, first="Mary Ann", last="Brown")

    def test_also_if_recovery_finds_it(self, client, sandbox):
        user = linked(sandbox)
        the_copy_is_old(user)
        sandbox.fault(RENAME, "close", apply=True)
        sandbox.fault("GET /users/{user_id}", "status", status=500, times=10, skip=1)
        assert NOT_CONFIRMED in text_of(submit(client, user, name="Mary Ann Jones"))
        sandbox.clear_faults()
        recover()
        assert submit(client, stored(user), name="Mary Ann Brown").status_code == 302
        assert_same(sandbox, user, first="Mary Ann", last="Brown")

    def test_a_password_of_the_persons_own_before_the_lock(self, client, sandbox):
        """She sets her own between the first step of the save and its lock."""
        user = linked(
            sandbox,
            clerk={"password_enabled": True, "password_last_updated_at": 1_700_000_000_000},
        )
        sandbox.fault(RENAME, "late", seconds=None, how="close")

        def set_her_own():
            account = sandbox.user(user.clerk_id)
            sandbox.edit(user.clerk_id, password_last_updated_at=account["updated_at"] + 1_000)

        with at_step(checkpoints.AFTER_ATTEMPT, set_her_own):
            words = text_of(set_password(client, user))
        assert NOT_CONFIRMED in words
        assert SyncAttempt.objects.get().status == "started"
        assert not LogEntry.objects.exists()


# --- A conflict is decided once ------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_a_conflict_that_was_decided_is_not_asked_again(client, sandbox, old):
    """Here and in Clerk the name is the one that the form showed as theirs."""
    user = linked(sandbox)
    fields = form_fields(client, user)
    sandbox.edit(user.clerk_id, last_name="Jones")
    change_here(user, name="Mary Ann Jones")
    response = client.post(page_of(user), fields | {"name": "Mary Ann Brown"})
    assert "Changed since you opened the form" in text_of(response)
    if old:
        the_copy_is_old(user)
    response = client.post(page_of(user), form_fields(client, user) | {"name": "Mary Ann Brown"})
    assert "Saved here and in Clerk." in said(response)[0]
    assert_same(sandbox, user, first="Mary Ann", last="Brown")


def form_fields(client, user):
    return fields_of(client.get(page_of(user)))


def test_what_clerk_held_before_the_first_try_is_what_undo_restores(sandbox, client):
    """The first request has arrived meanwhile: Clerk shows its value before the second one."""
    user = linked(sandbox, name="Mary Ann Smith")
    change_here(user, name="Mary Ann Jones")
    sandbox.fault(RENAME, "reset", apply=True)
    sandbox.fault("GET /users/{user_id}", "status", status=503, times=None)
    push = reverse("admin:users_builderuser_push", args=[user.pk, "name"])
    client.post(push)
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
    sandbox.clear_faults()
    the_copy_is_old(user)
    client.post(push)
    first, second = SyncAttempt.objects.order_by("id")
    assert (first.status, second.status) == ("applied", "applied")
    assert second.changes == first.changes == {"name": ["Mary Ann Smith", "Mary Ann Jones"]}
