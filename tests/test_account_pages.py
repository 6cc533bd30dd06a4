"""*Change email*, *Set password*, creating and deleting, each against both stores."""

from __future__ import annotations

import html
from datetime import UTC, datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from tests.support.change_form import stored, text_of
from tests.support.events import mistaken
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, StaffFactory, linked
from tests.support.unknown import NOT_CONFIRMED, time_is_over
from users.models import BuilderUser, ClerkAccount, SyncAttempt
from users.sync import maintenance

pytestmark = pytest.mark.django_db(transaction=True)


def email_page(user):
    return reverse("admin:users_builderuser_email", args=[user.pk])


def password_page(user):
    return reverse("admin:users_builderuser_password", args=[user.pk])


def replace(client, user, email):
    return client.post(email_page(user), {"email": email, "how": "replace"})


def set_password(client, user, password="correct horse battery", again=None, **fields):
    return client.post(
        password_page(user),
        {"password1": password, "password2": password if again is None else again, **fields},
    )


class TestReplaceNow:
    def test_the_new_address_signs_in_and_the_old_one_finds_nobody(self, client, sandbox):
        user = linked(sandbox, email="old@example.com")
        response = replace(client, user, " New@Example.com ")
        assert response.status_code == 302
        assert stored(user).email == "new@example.com"
        assert sandbox.find("old@example.com") == []
        [account] = sandbox.find("new@example.com")
        assert account["id"] == user.clerk_id
        [write] = sandbox.writes()
        assert (write.method, write.path) == ("PUT", f"/users/{user.clerk_id}/email_address")
        assert stored(user).account.email == "new@example.com"
        assert SyncAttempt.objects.get().changes == {
            "email": ["old@example.com", "new@example.com"]
        }
        assert LogEntry.objects.count() == 1
        assert [mail["to"] for mail in sandbox.mails()] == ["old@example.com"]

    def test_an_address_that_clerk_knows_already(self, client, sandbox):
        user = linked(sandbox)
        sandbox.add_user(email="taken@example.com")
        response = replace(client, user, "taken@example.com")
        assert response.context["form"].errors["email"] == [
            "Invalid update data: That email address is taken. Please try another.",
            "An account in Clerk has this address. No user here is known to use that account. "
            "Ask an engineer whether that account is still needed.",
        ]
        assert stored(user).email == user.email

    def test_an_address_that_another_row_has_is_not_asked_of_clerk(self, client, sandbox):
        user, other = linked(sandbox), BuilderUserFactory(email="taken@example.com")
        response = replace(client, user, "TAKEN@example.com")
        assert "Another builder user has this email." in response.context["form"].errors["email"]
        assert sandbox.writes() == []
        assert stored(other).email == "taken@example.com"

    def test_an_address_of_a_google_sign_in_is_refused_with_clerks_reason(self, client, sandbox):
        user = linked(sandbox)
        account = sandbox.user(user.clerk_id)
        account["email_addresses"][0]["linked_to"] = [{"type": "oauth_google", "id": "idn_1"}]
        sandbox.edit(user.clerk_id, email_addresses=account["email_addresses"])
        response = replace(client, user, "new@example.com")
        assert "linked to a connected account" in str(response.context["form"].errors["email"])
        assert stored(user).email == user.email

    @pytest.mark.parametrize("kind", ["reset", "status", "broken_json"])
    def test_applied_and_then_failed(self, client, sandbox, kind):
        user = linked(sandbox)
        sandbox.fault("PUT /users/{user_id}/email_address", kind, apply=True)
        assert replace(client, user, "new@example.com").status_code == 302
        assert stored(user).email == "new@example.com"
        assert len(sandbox.writes()) == 1

    def test_staff_without_the_permission_cannot(self, sandbox, db):
        user = linked(sandbox)
        other = StaffFactory(is_superuser=False)
        other.user_permissions.add(
            *Permission.objects.filter(codename__in=["view_builderuser", "change_builderuser"])
        )
        client = Client()
        client.force_login(other)
        assert "You don't have permission for this" in text_of(client.get(email_page(user)))
        assert replace(client, user, "new@example.com").status_code == 403
        assert stored(user).email == user.email
        assert sandbox.writes() == []

    def test_a_user_without_account_is_sent_to_the_form(self, client, sandbox):
        user = BuilderUserFactory()
        assert "on <a href" in text_of(client.get(email_page(user)))


class TestSetPassword:
    def test_it_goes_to_clerk_and_nowhere_else(self, client, sandbox, caplog):
        user = linked(sandbox)
        before = list(BuilderUser.objects.values())
        response = set_password(client, user, sign_out="on")
        assert response.status_code == 302
        [write] = sandbox.writes()
        assert write.method == "PATCH"
        assert write.body["password"] == "(set)"
        assert write.body["sign_out_of_other_sessions"] is True
        assert sandbox.user(user.clerk_id)["password_enabled"]
        assert list(BuilderUser.objects.values()) == before
        attempt = SyncAttempt.objects.get()
        assert attempt.changes == {"password": ["", "(set)"]}
        assert "horse" not in repr(vars(attempt)) + caplog.text + repr(LogEntry.objects.values())

    @pytest.mark.parametrize(
        ("password", "words"), [("short", "8 characters or more"), ("password123", "data breach")]
    )
    def test_clerks_policy_stands_at_the_field(self, client, sandbox, password, words):
        user = linked(sandbox)
        response = set_password(client, user, password)
        assert words in response.context["form"].errors["password1"][0]
        assert password not in html.unescape(response.content.decode())
        assert SyncAttempt.objects.get().status == "refused"

    def test_two_that_differ_are_not_sent(self, client, sandbox):
        user = linked(sandbox)
        assert set_password(client, user, again="another one").status_code == 200
        assert sandbox.requests() == []

    def test_applied_and_then_failed(self, client, sandbox):
        user = linked(sandbox, clerk={"password_last_updated_at": 1})
        sandbox.fault("PATCH /users/{user_id}", "reset", apply=True)
        assert set_password(client, user).status_code == 302
        assert SyncAttempt.objects.get().status == "applied"

    def test_lost_before_clerk_had_it(self, client, sandbox):
        user = linked(sandbox, clerk={"password_last_updated_at": 1})
        sandbox.fault("PATCH /users/{user_id}", "reset")
        assert NOT_CONFIRMED in text_of(set_password(client, user))
        assert SyncAttempt.objects.get().status == "started"
        time_is_over()
        call_command("clerk_recover")
        assert SyncAttempt.objects.get().status == "dropped"

    def test_a_user_without_account_cannot_have_one(self, client, sandbox):
        user = BuilderUserFactory()
        form = text_of(client.get(user.get_absolute_url()))
        assert password_page(user) not in form
        assert "<dt>Set password</dt><dd>Not connected to a Clerk account.</dd>" in form
        assert password_page(linked(sandbox)) in text_of(
            client.get(BuilderUser.objects.exclude(pk=user.pk).get().get_absolute_url())
        )
        assert "has no Clerk account" in text_of(client.get(password_page(user)))
        assert "has no Clerk account" in text_of(set_password(client, user))
        assert not SyncAttempt.objects.exists()


class TestCreate:
    URL = "/admin/users/builderuser/add/"

    def fields(self, **fields):
        return {"name": "Zoë van der Berg", "email": "Zoe@Example.com", "role": "BUILDER", **fields}

    def test_with_an_account(self, client, sandbox, staff):
        group = BuilderGroupFactory()
        response = client.post(self.URL, self.fields(builder_group=group.pk, account="create"))
        assert response.status_code == 302
        user = BuilderUser.objects.get()
        [account] = sandbox.find("zoe@example.com")
        assert user.clerk_id == account["id"]
        assert (account["first_name"], account["last_name"]) == ("Zoë", "van der Berg")
        assert account["public_metadata"] == {"cascade_user_id": str(user.pk)}
        assert user.builder_group == group
        assert user.account.email == "zoe@example.com"
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_id, entry.is_addition()) == (staff, str(user.pk), True)
        attempt = SyncAttempt.objects.get()
        assert (attempt.user, attempt.status) == (user, "applied")

    def test_without_an_account(self, client, sandbox):
        client.post(self.URL, self.fields(account="none"))
        assert BuilderUser.objects.get().clerk_id is None
        assert sandbox.requests() == []

    def test_an_address_that_clerk_has(self, client, sandbox):
        sandbox.add_user(email="zoe@example.com")
        response = client.post(self.URL, self.fields(account="create"))
        assert "is taken" in response.context["adminform"].form.errors["email"][0]
        assert 'value="Zoë van der Berg"' in text_of(response)
        assert not BuilderUser.objects.exists()
        assert not LogEntry.objects.exists()

    def test_an_address_that_a_row_has(self, client, sandbox):
        BuilderUserFactory(email="zoe@example.com")
        response = client.post(self.URL, self.fields(account="create"))
        assert "Another builder user" in response.context["adminform"].form.errors["email"][0]
        assert sandbox.requests() == []

    def test_made_in_clerk_and_the_answer_lost(self, client, sandbox):
        sandbox.fault("POST /users", "reset", apply=True)
        assert client.post(self.URL, self.fields(account="create")).status_code == 302
        assert BuilderUser.objects.get().clerk_id == sandbox.find("zoe@example.com")[0]["id"]
        assert len(sandbox.writes()) == 1


class TestDelete:
    def test_in_clerk_and_here(self, client, sandbox, staff):
        user = linked(sandbox)
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        assert "deleted in Clerk first" in text_of(client.get(page))
        assert client.post(page, {"post": "yes"}).status_code == 302
        assert sandbox.user(user.clerk_id) is None
        assert not BuilderUser.objects.exists()
        assert ClerkAccount.objects.get().deleted_at
        assert LogEntry.objects.get().is_deletion()
        assert SyncAttempt.objects.get().status == "applied"

    def test_two_people_of_one_name_are_told_apart_before_it(self, client, sandbox):
        group = BuilderGroupFactory(name="Cedar Ridge Homes")
        moment = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)
        clerk = {"last_sign_in_at": int(moment.timestamp() * 1000)}
        one = linked(sandbox, email="one@example.com", builder_group=group, clerk=clerk)
        other = BuilderUserFactory(name=one.name, email="other@example.com")
        page = text_of(client.get(reverse("admin:users_builderuser_delete", args=[one.pk])))
        for words in ("one@example.com", "Cedar Ridge Homes", "2026-03-04 10:30 UTC"):
            assert words in page
        page = text_of(client.get(reverse("admin:users_builderuser_delete", args=[other.pk])))
        for words in ("other@example.com", "No group", "No Clerk account"):
            assert words in page

    def test_gone_in_clerk_already_counts_as_done(self, client, sandbox):
        user = linked(sandbox)
        sandbox.delete(user.clerk_id)
        client.post(reverse("admin:users_builderuser_delete", args=[user.pk]), {"post": "yes"})
        assert not BuilderUser.objects.exists()

    def test_refused_by_clerk_deletes_nothing(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("DELETE /users/{user_id}", "status", status=403, code="not_allowed")
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        response = client.post(page, {"post": "yes"}, follow=True)
        assert "Failed to sync with Clerk" in text_of(response)
        assert stored(user)
        assert sandbox.user(user.clerk_id)
        assert not LogEntry.objects.exists()


class TestAProxysPage:
    """A page with status 200 that is not Clerk's: nothing was done, and nobody says that it was."""

    def test_in_place_of_the_answer_to_a_delete(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("DELETE /users/{user_id}", "html_200")
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        response = client.post(page, {"post": "yes"}, follow=True)
        assert NOT_CONFIRMED in text_of(response)
        assert sandbox.user(user.clerk_id)
        assert stored(user).clerk_id == user.clerk_id
        assert SyncAttempt.objects.get().status == "started"
        time_is_over()
        call_command("clerk_recover")
        assert SyncAttempt.objects.get().status == "dropped"

    def test_in_place_of_the_answer_to_a_new_email(self, client, sandbox):
        user = linked(sandbox, email="old@example.com")
        sandbox.fault("PUT /users/{user_id}/email_address", "html_200")
        assert NOT_CONFIRMED in text_of(replace(client, user, "new@example.com"))
        assert sandbox.find("old@example.com")
        assert stored(user).email == "old@example.com"


def test_a_mistake_in_what_follows_for_others_loses_no_change(client, sandbox):
    """The change is saved on both sides; the worker derives the rest again."""
    user = linked(sandbox, email="ann@example.com")
    with mistaken():
        response = replace(client, user, "ann.new@example.com")
    assert response.status_code == 302, text_of(response)
    assert stored(user).email == "ann.new@example.com"
    assert [account["id"] for account in sandbox.find("ann.new@example.com")] == [user.clerk_id]
    assert SyncAttempt.objects.get().status == "applied"
    assert ClerkAccount.objects.get().reconcile_due
    maintenance.run()
    assert not ClerkAccount.objects.get().reconcile_due
