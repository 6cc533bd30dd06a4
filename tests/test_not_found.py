"""A 404 is no deletion: it is believed of our own instance alone, and an answer takes it back."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.urls import reverse

from sandbox import Sandbox
from tests.support.change_form import page_of, said, stored, submit, text_of
from tests.support.commands import run
from tests.support.events import arrive, happened
from tests.support.factories import linked
from tests.support.unknown import NOT_CONFIRMED, time_is_over
from users.models import BuilderUser, ClerkAccount, Invitation, RememberedInstance, SyncAttempt
from users.sync import maintenance
from users.sync.inbound import reconcile
from users.sync.mirror import instance, store

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/users/builderuser/"
NOT_FOUND = {"kind": "status", "status": 404, "code": "resource_not_found"}


@pytest.fixture
def elsewhere():
    """Another instance of Clerk, which has none of our users."""
    other = Sandbox(secret_key="sk_test_elsewhere").start()
    other.instance_id = "ins_elsewhere"
    yield other
    other.stop()


@pytest.fixture
def wrong_key(elsewhere, settings):
    """CLERK_SECRET_KEY is of another instance; a call takes it back."""
    ours = settings.CLERK_API_URL, settings.CLERK_SECRET_KEY

    def repair():
        settings.CLERK_API_URL, settings.CLERK_SECRET_KEY = ours

    def use():
        settings.CLERK_API_URL, settings.CLERK_SECRET_KEY = elsewhere.url, elsewhere.secret_key
        return repair

    yield use
    repair()


def refresh(client, user):
    return client.post(reverse("admin:users_builderuser_refresh", args=[user.pk]))


def deleted():
    return ClerkAccount.objects.filter(deleted_at__isnull=False).exists()


def test_one_404_marks_nobody_as_deleted(client, sandbox):
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", **NOT_FOUND)
    text = text_of(submit(client, user, name="Mary Ann Jones"))
    assert "User not found in Clerk. They may have been deleted." in text
    assert "right Clerk instance" in text
    assert not deleted()
    assert "Not found in Clerk" in text_of(client.get(LIST))
    assert (stored(user).name, SyncAttempt.objects.get().status) == (user.name, "refused")
    # The actions are still there, and the next answer takes it back.
    assert "Sign out everywhere" in text_of(client.get(page_of(user)))
    assert submit(client, user, name="Mary Ann Jones").status_code == 302
    assert "Matches Clerk" in text_of(client.get(LIST))
    assert "Not found in Clerk" not in text_of(client.get(page_of(user)))


@pytest.mark.parametrize("known", [True, False], ids=["with a copy", "without a copy"])
def test_refresh_shows_that_clerk_does_not_find_the_account(client, sandbox, known):
    user = linked(sandbox)
    if not known:
        user.account.delete()
    account = sandbox.user(user.clerk_id)
    sandbox.fault("GET /users/{user_id}", **NOT_FOUND)
    refresh(client, user)
    assert not deleted()
    assert "Not found in Clerk" in text_of(client.get(LIST))
    refresh(client, user)
    assert account["id"] == stored(user).account.clerk_id
    assert "Matches Clerk" in text_of(client.get(LIST))


class TestAnotherInstance:
    def test_nothing_is_believed_of_it(self, client, sandbox, wrong_key):
        user = linked(sandbox)
        repair = wrong_key()
        [message] = said(refresh(client, user))
        assert "Is this the right instance?" in message
        text = text_of(submit(client, user, name="Mary Ann Jones"))
        assert "User not found in Clerk. They may have been deleted." in text
        code, out = run("clerk_diff", "--refresh")
        assert code == 1
        assert "ins_elsewhere" in out
        assert not deleted()
        repair()
        assert "Matches Clerk" in text_of(client.get(LIST))
        assert submit(client, user, name="Mary Ann Jones").status_code == 302

    def test_a_delete_is_refused(self, client, sandbox, wrong_key):
        user = linked(sandbox)
        repair = wrong_key()
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        [message] = said(client.post(page, {"post": "yes"}))
        assert "right Clerk instance" in message
        assert stored(user).clerk_id == user.clerk_id
        assert SyncAttempt.objects.get().status == "refused"
        repair()
        assert sandbox.user(user.clerk_id), "the person could still sign in"
        client.post(page, {"post": "yes"})
        assert not BuilderUser.objects.exists()
        assert sandbox.user(user.clerk_id) is None

    def test_a_pending_change_is_not_decided_by_it(self, client, sandbox, wrong_key):
        user = linked(sandbox)
        sandbox.fault("DELETE /users/{user_id}", "close")
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        assert NOT_CONFIRMED in said(client.post(page, {"post": "yes"}))[0]
        time_is_over()
        repair = wrong_key()
        maintenance.run()
        assert SyncAttempt.objects.get().status == "started"
        assert "Is this the right instance?" in SyncAttempt.objects.get().message
        repair()
        maintenance.run()
        assert SyncAttempt.objects.get().status == "dropped"
        assert stored(user).clerk_id == user.clerk_id

    @pytest.mark.parametrize("account", ["create", "invite"])
    def test_a_new_user_whom_it_does_not_list_stays_pending(
        self, client, sandbox, wrong_key, account
    ):
        linked(sandbox)
        route = {"create": "POST /users", "invite": "POST /invitations"}[account]
        sandbox.fault(route, "late", seconds=None, status=504)
        new = {"name": "Ann Lee", "email": "ann@example.com", "role": "BUILDER"}
        assert NOT_CONFIRMED in text_of(client.post(f"{LIST}add/", {**new, "account": account}))
        sandbox.apply_late()
        time_is_over()
        repair = wrong_key()
        maintenance.run()
        assert SyncAttempt.objects.get().status == "started"
        assert "Is this the right instance?" in SyncAttempt.objects.get().message
        repair()
        maintenance.run()
        assert SyncAttempt.objects.get().status == "applied"
        assert BuilderUser.objects.get(email="ann@example.com").linked == (account == "create")

    def test_sessions_that_it_does_not_list_are_not_ended(self, client, sandbox, wrong_key):
        user = linked(sandbox)
        sandbox.sign_in(user.clerk_id)
        sandbox.fault("GET /sessions", "status", status=500, times=None)
        page = reverse("admin:users_builderuser_sign_out", args=[user.pk])
        assert NOT_CONFIRMED in text_of(client.post(page))
        sandbox.clear_faults()
        time_is_over()
        repair = wrong_key()
        maintenance.run()
        assert SyncAttempt.objects.get().status == "started"
        repair()
        maintenance.run()
        assert SyncAttempt.objects.get().status == "dropped", "the person is still signed in"

    def test_an_engineer_accepts_it(self, sandbox, elsewhere, wrong_key):
        linked(sandbox)
        wrong_key()
        code, out = run("clerk_check")
        assert "ins_elsewhere" in out
        assert code == 1
        code, out = run("clerk_check", "--accept-instance", "ins_typo")
        assert (code, "not ins_typo" in out) == (1, True)
        assert instance.remembered().instance_id == sandbox.instance_id
        run("clerk_check", "--accept-instance", "ins_elsewhere")
        assert instance.remembered().instance_id == "ins_elsewhere"


class TestRemembered:
    def test_the_worker_learns_it_from_our_users(self, sandbox):
        linked(sandbox)
        RememberedInstance.objects.all().delete()
        maintenance.run()
        assert instance.remembered().instance_id == sandbox.instance_id

    def test_an_instance_without_our_users_is_not_learned(self, sandbox, wrong_key):
        linked(sandbox)
        RememberedInstance.objects.all().delete()
        wrong_key()
        maintenance.run()
        assert instance.remembered() is None

    def test_a_404_before_anything_is_known_is_not_believed(self, client, sandbox):
        user = linked(sandbox)
        RememberedInstance.objects.all().delete()
        sandbox.delete(user.clerk_id)
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        assert "right Clerk instance" in said(client.post(page, {"post": "yes"}))[0]
        assert BuilderUser.objects.exists()


class TestDeleted:
    def test_by_an_event(self, client, sandbox):
        user = linked(sandbox)
        happened(sandbox)
        sandbox.delete(user.clerk_id)
        arrive(sandbox)
        assert deleted()
        assert "Deleted in Clerk" in text_of(client.get(LIST))

    def test_by_a_complete_scan(self, client, sandbox):
        user, other = linked(sandbox), linked(sandbox)
        sandbox.delete(user.clerk_id)
        run("clerk_diff", "--refresh")
        assert list(ClerkAccount.objects.filter(deleted_at__isnull=False)) == [user.account]
        assert stored(other).account.deleted_at is None

    def test_by_ourselves(self, client, sandbox):
        user = linked(sandbox)
        client.post(reverse("admin:users_builderuser_delete", args=[user.pk]), {"post": "yes"})
        assert deleted()

    @pytest.mark.parametrize("way", ["refresh", "save", "scan"])
    def test_a_readable_answer_takes_it_back(self, client, sandbox, way):
        user = linked(sandbox)
        ClerkAccount.objects.update(deleted_at="2026-01-01T00:00:00Z")
        if way == "refresh":
            refresh(client, user)
        elif way == "save":
            submit(client, user, name="Mary Ann Jones")
        else:
            call_command("clerk_diff", "--refresh")
        assert not deleted()

    def test_an_event_does_not(self, client, sandbox):
        user = linked(sandbox)
        happened(sandbox)
        store.keep_deleted(user.clerk_id)
        sandbox.edit(user.clerk_id, first_name="Marie")
        arrive(sandbox)
        assert stored(user).account.first_name == "Marie"
        assert deleted()

    def test_an_account_that_lives_after_all_has_its_row_again(self, sandbox):
        """Meanwhile a second one with its address had got the row."""
        user = linked(sandbox, email="max@example.com")
        decided = user.clerk_id
        happened(sandbox)
        store.keep_deleted(decided)
        sandbox.edit(decided, email="max.home@example.com")
        second = sandbox.add_user(email="max@example.com")["id"]
        arrive(sandbox)
        assert stored(user).clerk_id == second
        run("clerk_diff", "--refresh")
        reconcile.reconcile_due()
        assert stored(user).clerk_id == decided
        assert stored(user).email == "max.home@example.com"


def test_an_invitation_that_clerk_does_not_find_says_nothing_of_the_account(client, sandbox):
    user = linked(sandbox)
    instance.remember(sandbox.instance_id, "development")
    page = reverse("admin:users_builderuser_email", args=[user.pk])
    client.post(page, {"email": "new@example.com", "how": "invite"})
    sandbox.fault("POST /invitations/{invitation_id}/revoke", **NOT_FOUND)
    sandbox.fault("GET /instance", "status", status=422, code="unknown")
    invitation = Invitation.objects.get()
    revoke = reverse("admin:users_invitation_revoke", args=[invitation.pk])
    told = text_of(client.post(revoke))
    assert "Clerk does not have this invitation" in told
    assert "User not found in Clerk" not in told
    assert ClerkAccount.objects.get(pk=user.clerk_id).not_found_at is None
    invitation.refresh_from_db()
    assert (invitation.status, SyncAttempt.objects.latest("id").status) == ("pending", "refused")
    client.post(revoke)
    invitation.refresh_from_db()
    assert invitation.status == "revoked"
