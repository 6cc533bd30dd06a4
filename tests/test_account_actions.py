"""What staff do to an account in Clerk: each with its permission, its page and its attempt."""

from __future__ import annotations

import html

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from tests.support.change_form import page_of, said, stored, text_of
from tests.support.events import arrive
from tests.support.factories import BuilderUserFactory, StaffFactory, change_here, linked
from tests.support.interruptions import elsewhere
from tests.support.unknown import NOT_CONFIRMED
from users.models import BuilderUser, ClerkAccount, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)

ACTIONS = {
    "ban": ("ban", {}, {"banned": True}, "ban"),
    "unban": ("unban", {"banned": True}, {"banned": False}, "ban"),
    "unlock": ("unlock", {"locked": True}, {"locked": False}, "unlock"),
    "reset_mfa": (
        "reset_mfa",
        {"two_factor_enabled": True},
        {"two_factor_enabled": False},
        "reset_mfa",
    ),
}


def url(user, name):
    return reverse(f"admin:users_builderuser_{name}", args=[user.pk])


def assert_journaled(user, staff, operation):
    attempt = SyncAttempt.objects.get()
    assert (attempt.operation, attempt.status) == (operation, "applied")
    assert (attempt.user, attempt.actor, attempt.source) == (user, staff, "admin")
    assert LogEntry.objects.get().user == staff


@pytest.mark.parametrize(("name", "before", "after", "permission"), ACTIONS.values(), ids=ACTIONS)
class TestEach:
    def test_it_says_what_it_does_and_does_it(
        self, client, sandbox, staff, name, before, after, permission
    ):
        user = linked(sandbox, clerk=before)
        page = client.get(url(user, name))
        assert "person" in text_of(page)
        assert sandbox.writes() == []
        response = client.post(url(user, name))
        assert response.url == page_of(user)
        account = sandbox.user(user.clerk_id)
        assert {key: account[key] for key in after} == after
        known = ClerkAccount.objects.get()
        assert {key: getattr(known, key) for key in after} == after
        assert_journaled(user, staff, name)
        assert stored(user).updated_at == user.updated_at
        arrive(sandbox)
        assert SyncAttempt.objects.count() == 1

    def test_it_needs_its_own_permission(self, sandbox, name, before, after, permission):
        user = linked(sandbox, clerk=before)
        other = StaffFactory(is_superuser=False)
        other.user_permissions.set(
            Permission.objects.filter(codename__in=["view_builderuser", "change_builderuser"])
        )
        client = Client()
        client.force_login(other)
        assert client.post(url(user, name)).status_code == 403
        assert url(user, name) not in text_of(client.get(page_of(user)))
        assert sandbox.writes() == []
        other.user_permissions.add(Permission.objects.get(codename=permission))
        assert url(user, name) in text_of(client.get(page_of(user)))
        assert client.post(url(user, name)).status_code == 302

    def test_a_refusal_is_said_on_the_page(self, client, sandbox, name, before, after, permission):
        user = linked(sandbox, clerk=before)
        sandbox.fault("*", "status", status=409, code="resource_locked", message="Try again.")
        response = client.post(url(user, name))
        assert "Clerk is busy with another change of this user." in text_of(response)
        assert "Clerk's trace id" in text_of(response)
        assert SyncAttempt.objects.get().status == "refused"
        assert not LogEntry.objects.exists()

    def test_an_answer_that_is_lost(self, client, sandbox, staff, name, before, after, permission):
        user = linked(sandbox, clerk=before)
        sandbox.fault("*", "reset", apply=True)
        client.post(url(user, name))
        assert_journaled(user, staff, name)
        assert len(sandbox.writes()) == 1


OWN = {
    "ban": "ban", "unban": "ban", "unlock": "unlock", "reset_mfa": "reset_mfa",
    "sign_out": "sign_out", "unlink": "link", "link": "link", "invite": "invite",
}  # fmt: skip
"""The page of each action → the permission that it needs."""


@pytest.mark.parametrize("held", [None, *sorted(set(OWN.values()) | {"replace_email"})])
def test_each_action_has_its_own_permission(sandbox, held):
    """Who holds one of them may do that, and nothing else."""
    user, nobody = linked(sandbox), BuilderUserFactory()
    other = StaffFactory(is_superuser=False)
    other.user_permissions.set(
        Permission.objects.filter(codename__in=["view_builderuser", "change_builderuser"])
    )
    if held:
        other.user_permissions.add(Permission.objects.get(codename=held))
    client = Client()
    client.force_login(other)
    for name, permission in OWN.items():
        page = url(nobody if name in ("link", "invite") else user, name)
        assert client.get(page).status_code == (200 if permission == held else 403), name
        if permission != held:
            assert client.post(page).status_code == 403, name
    assert sandbox.writes() == []
    assert not SyncAttempt.objects.exists()


def test_the_form_is_needed_too(sandbox):
    """A permission of an action without that of looking at users opens nothing."""
    user, other = linked(sandbox), StaffFactory(is_superuser=False)
    other.user_permissions.set(Permission.objects.filter(codename__in=set(OWN.values())))
    client = Client()
    client.force_login(other)
    assert {client.post(url(user, name)).status_code for name in OWN} == {403}
    assert sandbox.writes() == []


CAN, MAY = "the person can still sign in.", "they may still be able to sign in."


@pytest.mark.parametrize(
    ("name", "write", "refused", "unknown"),
    [
        ("ban", "POST /users/{user_id}/ban", f"Not banned yet: {CAN}", f"banned: {MAY}"),
        ("delete", "DELETE /users/{user_id}", f"Not deleted yet: {CAN}", f"deleted: {MAY}"),
        (
            "sign_out",
            "POST /sessions/{session_id}/revoke",
            "Not signed out yet: the person may still be signed in.",
            "signed out: they may still be signed in.",
        ),
    ],
)
class TestWhoIsNotKeptOut:
    """The first sentence says what is true of the sign-in, before what Clerk said."""

    def failed(self, client, sandbox, name, write, **fault):
        user = linked(sandbox)
        sandbox.sign_in(user.clerk_id)
        sandbox.fault(write, "status", times=None, **fault)
        response = client.post(url(user, name), {"post": "yes"}, follow=True)
        assert stored(user)
        assert not sandbox.user(user.clerk_id)["banned"]
        return text_of(response)

    def test_after_a_refusal(self, client, sandbox, name, write, refused, unknown):
        page = self.failed(client, sandbox, name, write, status=403, code="not_allowed")
        assert f"{refused} Failed to sync with Clerk authentication system." in page
        assert SyncAttempt.objects.get().message.startswith(refused)

    def test_after_a_lost_answer(self, client, sandbox, name, write, refused, unknown):
        page = self.failed(client, sandbox, name, write, status=500)
        words = f"It is not known yet whether the person is {unknown}"
        assert f"{words} Failed to sync with Clerk authentication system." in page
        assert refused not in page
        assert NOT_CONFIRMED in page


@pytest.mark.parametrize("name", ["ban", "delete"])
def test_while_a_colleague_saves_the_same_person_nothing_is_said_for_certain(client, sandbox, name):
    """The colleague may be banning this person right now."""
    user = linked(sandbox)
    with elsewhere(lambda: BuilderUser.objects.select_for_update().get(pk=user.pk)):
        page = text_of(client.post(url(user, name), {"post": "yes"}, follow=True))
    assert "being saved by someone else right now" in page
    assert MAY in page
    assert CAN not in page
    assert sandbox.writes() == []


@pytest.mark.parametrize("state", ["banned", "locked"])
def test_of_who_is_kept_out_no_page_says_that_they_sign_in(client, sandbox, state):
    user, free = linked(sandbox, clerk={state: True}), linked(sandbox)
    for page in (page_of(user), url(user, "unlink")):
        shown = text_of(client.get(page))
        assert "can still sign in" not in shown
        assert "This email is how they sign in." not in shown
        assert f"{'stays banned' if state == 'banned' else 'is locked now'}" in shown
    assert f"the account is {state}." in text_of(client.get(page_of(user)))
    assert "This email is how they sign in." in text_of(client.get(page_of(free)))
    assert "the person can still sign in there" in text_of(client.get(url(free, "unlink")))


def test_who_cannot_sign_in_anyway_is_not_said_to(client, sandbox):
    user = linked(sandbox, clerk={"banned": True})
    sandbox.fault("DELETE /users/{user_id}", "status", status=403, code="not_allowed")
    page = client.post(url(user, "delete"), {"post": "yes"}, follow=True)
    assert "Failed to sync with Clerk" in text_of(page)
    assert "can still sign in" not in text_of(page).split("messagelist")[1].split("</ul>")[0]


def test_a_plan_without_bans_is_explained(client, sandbox):
    user = linked(sandbox)
    sandbox.fault("POST /users/{user_id}/ban", "status", status=402,
                  code="unsupported_subscription_plan_features", message="Upgrade.")  # fmt: skip
    page = text_of(client.post(url(user, "ban")))
    assert "The plan of this Clerk instance does not include this" in page
    assert not sandbox.user(user.clerk_id)["banned"]


def test_signing_out_ends_every_session(client, sandbox, staff):
    user = linked(sandbox)
    for _ in range(3):
        sandbox.sign_in(user.clerk_id)
    client.post(url(user, "sign_out"))
    assert [write.path.split("/")[-1] for write in sandbox.writes()] == ["revoke"] * 3
    assert_journaled(user, staff, "sign_out")
    sandbox.clear_requests()
    client.post(url(user, "sign_out"))
    assert sandbox.writes() == []


def test_a_session_that_clerk_shows_as_active_is_not_told_as_ended(client, sandbox):
    user = linked(sandbox)
    for _ in range(3):
        sandbox.sign_in(user.clerk_id)
    sandbox.fault("POST /sessions/{session_id}/revoke", "stale", skip=1)
    page = text_of(client.post(url(user, "sign_out")))
    assert "1 of 3 sessions were ended." in page
    assert NOT_CONFIRMED in page
    assert "signed out everywhere" not in page
    client.post(url(user, "sign_out"))
    assert {one["status"] for one in sandbox.state.sessions.values()} == {"revoked"}


def test_senseless_actions_are_not_offered(client, sandbox):
    user, nobody = linked(sandbox), BuilderUserFactory()
    page = text_of(client.get(page_of(user)))
    assert url(user, "ban") in page
    for name in ("unban", "unlock", "reset_mfa", "invite", "link"):
        assert url(user, name) not in page
    page = text_of(client.get(page_of(nobody)))
    assert url(nobody, "ban") not in page
    assert url(nobody, "invite") in page
    assert url(nobody, "link") in page
    assert "no Clerk account" in text_of(client.post(url(nobody, "ban")))


class TestLinking:
    def test_found_by_search_and_linked(self, client, sandbox, staff):
        user = BuilderUserFactory(email="ann@example.com", name="Ann Lee")
        account = sandbox.add_user(email="a.lee@example.com", first_name="Ann", last_name="Lee")
        page = client.get(url(user, "link") + "?q=lee")
        assert "a.lee@example.com" in text_of(page)
        assert client.post(url(user, "link"), {"clerk_id": account["id"]}).status_code == 302
        assert stored(user).clerk_id == account["id"]
        assert ClerkAccount.objects.get().user == user
        assert sandbox.writes() == []
        attempt = SyncAttempt.objects.get()
        assert attempt.changes == {"clerk_id": [None, account["id"]]}
        assert LogEntry.objects.get().user == staff
        assert "Doesn't match Clerk" in html.unescape(
            text_of(client.get("/admin/users/builderuser/"))
        )

    def test_an_account_of_another_row_is_not_taken(self, client, sandbox):
        owner, user = linked(sandbox), BuilderUserFactory()
        assert "Belongs to" in text_of(client.get(url(user, "link") + "?q=mary"))
        page = client.post(url(user, "link"), {"clerk_id": owner.clerk_id})
        assert f"This account belongs to {owner}" in text_of(page)
        assert not stored(user).linked

    @pytest.mark.parametrize("clerk_id", ["", "user_gone", "../x", "user_1\0", "user_1/ban"])
    def test_an_account_that_is_not_there(self, client, sandbox, clerk_id):
        user = BuilderUserFactory()
        page = client.post(url(user, "link"), {"clerk_id": clerk_id})
        assert page.status_code == 200
        assert not stored(user).linked

    def test_one_that_has_an_account_already(self, client, sandbox):
        user, other = linked(sandbox), sandbox.add_user(email="x@example.com")
        page = client.post(url(user, "link"), {"clerk_id": other["id"]})
        assert "Unlink that one first" in text_of(page)

    def test_unlinked_and_linked_again(self, client, sandbox):
        user = linked(sandbox)
        client.post(url(user, "unlink"))
        assert not stored(user).linked
        assert ClerkAccount.objects.get().released_at
        assert sandbox.writes() == []
        client.post(url(user, "link"), {"clerk_id": user.clerk_id})
        assert stored(user).clerk_id == user.clerk_id
        assert ClerkAccount.objects.get().released_at is None

    def test_clerk_does_not_answer(self, client, sandbox):
        user = BuilderUserFactory()
        sandbox.fault("*", "status", status=503, times=None)
        assert "Failed to sync with Clerk" in text_of(client.get(url(user, "link") + "?q=x"))


class TestPanel:
    def test_push_brings_the_name_to_clerk(self, client, sandbox, staff):
        user = linked(sandbox)
        change_here(user, name="Mary Ann Jones")
        client.post(reverse("admin:users_builderuser_refresh", args=[user.pk]))
        assert "Doesn't match" in text_of(client.get(page_of(user)))
        before = stored(user)
        client.post(reverse("admin:users_builderuser_push", args=[user.pk, "name"]))
        assert sandbox.user(user.clerk_id)["last_name"] == "Jones"
        assert_journaled(user, staff, "push_name")
        assert stored(user).updated_at == before.updated_at

    def test_push_of_the_email_needs_its_permission(self, client, sandbox):
        user = linked(sandbox, email="other@example.com")
        change_here(user, email="ann@example.com")
        client.post(reverse("admin:users_builderuser_refresh", args=[user.pk]))
        push = reverse("admin:users_builderuser_push", args=[user.pk, "email"])
        other = StaffFactory(is_superuser=False)
        other.user_permissions.set(
            Permission.objects.filter(codename__in=["view_builderuser", "change_builderuser"])
        )
        limited = Client()
        limited.force_login(other)
        assert limited.post(push).status_code == 403
        client.post(push)
        assert [found["id"] for found in sandbox.find("ann@example.com")] == [user.clerk_id]
        assert sandbox.find("other@example.com") == []

    def test_pull_brings_one_field_here(self, client, sandbox, staff):
        user = linked(sandbox, email="mary@example.com")
        change_here(user, name="Ann Smith", email="ann@example.com")
        sandbox.edit(user.clerk_id, last_name="Jones", email="new@example.com")
        client.post(reverse("admin:users_builderuser_pull", args=[user.pk, "name"]))
        assert (stored(user).name, stored(user).email) == ("Mary Ann Jones", "ann@example.com")
        client.post(reverse("admin:users_builderuser_pull", args=[user.pk, "email"]))
        assert stored(user).email == "new@example.com"
        assert sandbox.writes() == []
        assert SyncAttempt.objects.filter(operation="follow", actor=staff).count() == 2

    def test_a_refresh_lets_a_row_follow_that_did_not_move(self, client, sandbox):
        user = linked(sandbox, email="ann@example.com")
        sandbox.edit(user.clerk_id, last_name="Jones", email="new@example.com")
        client.post(reverse("admin:users_builderuser_refresh", args=[user.pk]))
        assert (stored(user).name, stored(user).email) == ("Mary Ann Jones", "new@example.com")
        assert "Doesn't match" not in text_of(client.get(page_of(user)))
        attempt = SyncAttempt.objects.get()
        assert (attempt.operation, attempt.status) == ("follow", "applied")
        assert sandbox.writes() == []

    def test_the_page_never_waits_for_clerk(self, client, sandbox):
        user = linked(sandbox, clerk={"password_enabled": True, "last_sign_in_at": 1767312000000})
        sandbox.link_google(user.clerk_id)
        arrive(sandbox)
        sandbox.clear_requests()
        sandbox.fault("*", "hang", times=None)
        page = text_of(client.get(page_of(user)))
        assert "Password, Google, Code by email" in page
        assert "2026-01-02 00:00 UTC" in page
        assert f"https://dashboard.clerk.com/last-active?path=users/{user.clerk_id}" in page
        assert sandbox.requests() == []

    def test_a_strange_field(self, client, sandbox):
        user = linked(sandbox)
        for name in ("push", "pull"):
            page = reverse(f"admin:users_builderuser_{name}", args=[user.pk, "clerk_id"])
            assert client.post(page).status_code == 404

    def test_refresh_in_the_background(self, client, sandbox):
        user = linked(sandbox)
        sandbox.edit(user.clerk_id, banned=True)
        page = reverse("admin:users_builderuser_refresh", args=[user.pk])
        panel = client.post(page, headers={"X-Requested-With": "fetch"})
        assert "Banned" in text_of(panel)
        assert "<html" not in text_of(panel)
        sandbox.fault("*", "status", status=503, times=None)
        panel = client.post(page, headers={"X-Requested-With": "fetch"})
        assert "Failed to sync with Clerk" in text_of(panel)
        sandbox.clear_faults()
        sandbox.delete(user.clerk_id)
        panel = client.post(page, headers={"X-Requested-With": "fetch"})
        assert "Deleted in Clerk" not in text_of(panel)
        assert said(client.post(page))[0].startswith("User not found in Clerk.")
        assert ClerkAccount.objects.get().not_found_at is not None
