"""Nothing happens beside the words, and every submitted save leaves a trace."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.support.change_form import said, stored, submit, text_of
from tests.support.factories import BuilderUserFactory, linked
from tests.support.unknown import NOT_CONFIRMED
from users.models import BuilderUser, Invitation, SyncAttempt
from users.sync.outbound import recovery

pytestmark = pytest.mark.django_db(transaction=True)


def invited(client, sandbox):
    """A linked user with an open invitation to a new address."""
    user = linked(sandbox)
    page = reverse("admin:users_builderuser_email", args=[user.pk])
    client.post(page, {"email": "new@example.com", "how": "invite"})
    assert Invitation.objects.get().status == "pending"
    return user


def test_a_refused_delete_says_that_the_invitation_is_revoked(client, sandbox):
    user = invited(client, sandbox)
    sandbox.fault("DELETE /users/{user_id}", "status", status=403, code="authorization_invalid")
    page = reverse("admin:users_builderuser_delete", args=[user.pk])
    message = said(client.post(page, {"post": "yes"}))[-1]
    assert "The open invitation to new@example.com was revoked." in message
    assert "The user was not deleted" in message
    assert Invitation.objects.get().status == "revoked"
    assert [one["status"] for one in sandbox.invitations()] == ["revoked"]
    assert sandbox.user(user.clerk_id)
    assert BuilderUser.objects.exists()


def test_sign_out_says_how_many_sessions_were_ended(client, sandbox):
    user = linked(sandbox)
    for _ in range(3):
        sandbox.sign_in(user.clerk_id)
    sandbox.fault(
        "POST /sessions/{session_id}/revoke", "status", status=429, code="too_many_requests",
        retry_after=7, skip=1,
    )  # fmt: skip
    page = reverse("admin:users_builderuser_sign_out", args=[user.pk])
    text = text_of(client.post(page))
    assert "1 of 3 sessions were ended, the others were not." in text
    assert "1 of 3 sessions" in SyncAttempt.objects.get().message
    assert SyncAttempt.objects.get().status == "refused"
    assert client.post(page).status_code == 302
    assert SyncAttempt.objects.filter(status="applied").count() == 1


def test_resend_has_one_deadline_and_says_what_was_done(client, sandbox):
    invited(client, sandbox)
    sandbox.fault("POST /invitations", "status", status=403, code="authorization_invalid")
    page = reverse("admin:users_invitation_resend", args=[Invitation.objects.get().pk])
    text = text_of(client.post(page))
    assert "The invitation before is revoked. The new one was not sent" in text
    assert [one["status"] for one in sandbox.invitations()] == ["revoked"]


class TestAnOutcomeThatIsNotKnown:
    """What may still arrive is not told as not done."""

    def test_of_a_delete_after_its_revocation(self, client, sandbox):
        user = invited(client, sandbox)
        sandbox.fault("DELETE /users/{user_id}", "late", seconds=None, status=504)
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        message = said(client.post(page, {"post": "yes"}))[-1]
        assert "The open invitation to new@example.com was revoked." in message
        assert "It is not known yet whether the user was deleted" in message
        assert NOT_CONFIRMED in message
        sandbox.apply_late()
        recovery.recover_user(user.pk)
        assert not BuilderUser.objects.exists()

    def test_of_an_invitation_after_its_revocation(self, client, sandbox):
        invited(client, sandbox)
        sandbox.fault("POST /invitations", "late", seconds=None, status=504)
        page = reverse("admin:users_invitation_resend", args=[Invitation.objects.get().pk])
        text = text_of(client.post(page))
        assert "The invitation before is revoked. It is not known yet whether the new one" in text
        assert "was not sent" not in text
        sandbox.apply_late()
        assert [one["status"] for one in sandbox.invitations()] == ["revoked", "pending"]

    def test_of_a_session_after_the_first(self, client, sandbox):
        user = linked(sandbox)
        for _ in range(3):
            sandbox.sign_in(user.clerk_id)
        sandbox.fault("POST /sessions/{session_id}/revoke", "status", status=500, skip=1)
        page = reverse("admin:users_builderuser_sign_out", args=[user.pk])
        text = text_of(client.post(page))
        assert "1 of 3 sessions were ended. " in text
        assert NOT_CONFIRMED in text


class TestTraces:
    def test_of_a_save_without_a_key(self, client, sandbox, settings):
        user = linked(sandbox)
        settings.CLERK_SECRET_KEY = ""
        submit(client, user, name="Mary Ann Jones")
        attempt = SyncAttempt.objects.get()
        assert attempt.changes == {"name": ["Mary Ann Smith", "Mary Ann Jones"]}
        assert (attempt.status, attempt.user) == ("dropped", user)
        assert "Clerk authentication not configured" in attempt.message

    def test_of_a_guarded_email(self, client, sandbox):
        user = linked(sandbox)
        submit(client, user, email="new@example.com")
        attempt = SyncAttempt.objects.get()
        assert (attempt.status, attempt.error_code) == ("refused", "email_guarded")
        assert attempt.changes["email"] == [user.email, "new@example.com"]
        assert sandbox.requests() == []

    def test_of_a_duplicate_here(self, client, sandbox):
        other, user = BuilderUserFactory(email="taken@example.com"), BuilderUserFactory()
        submit(client, user, email=other.email)
        assert SyncAttempt.objects.get().status == "refused"
        assert stored(user).email == user.email

    def test_of_a_user_that_cannot_be_added(self, client, sandbox):
        BuilderUserFactory(email="taken@example.com")
        client.post(
            reverse("admin:users_builderuser_add"),
            {"name": "Zoë", "email": "taken@example.com", "role": "BUILDER",
             "internal_role": "", "builder_group": "", "account": "none"},
        )  # fmt: skip
        assert SyncAttempt.objects.get().status == "refused"
        assert BuilderUser.objects.count() == 1

    def test_of_a_form_that_cannot_be_compared(self, client, sandbox):
        user = linked(sandbox)
        submit(client, user, name="Mary Ann Jones", version="forged")
        attempt = SyncAttempt.objects.get()
        assert (attempt.status, attempt.error_code) == ("refused", "conflict")
        assert attempt.changes == {"name": ["Mary Ann Smith", "Mary Ann Jones"]}
        assert sandbox.requests() == []

    def test_of_an_invitation_to_an_address_that_another_user_has(self, client, sandbox):
        other, user = BuilderUserFactory(email="taken@example.com"), linked(sandbox)
        page = reverse("admin:users_builderuser_email", args=[user.pk])
        client.post(page, {"email": other.email, "how": "invite"})
        assert SyncAttempt.objects.get().status == "refused"
        assert sandbox.requests() == []

    def test_of_a_link_to_an_account_that_another_user_has(self, client, sandbox):
        other, user = linked(sandbox), BuilderUserFactory()
        page = reverse("admin:users_builderuser_link", args=[user.pk])
        client.post(page, {"clerk_id": other.clerk_id})
        assert SyncAttempt.objects.get().status == "refused"
        assert stored(user).clerk_id is None
