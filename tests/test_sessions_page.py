"""The page *Sessions and devices*: what Clerk tells of them, and the end of a single one."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from tests.support.change_form import page_of, said, text_of
from tests.support.factories import BuilderUserFactory, linked
from tests.support.personas import browser_of, staff_who_may
from tests.support.unknown import time_is_over
from users.models import ClerkAccount, SyncAttempt
from users.sync.outbound import recovery

pytestmark = pytest.mark.django_db(transaction=True)

REVOKE = "POST /sessions/{session_id}/revoke"
PHONE = {
    "id": "idn_1", "object": "phone_number", "phone_number": "+13035550100", "reserved": False,
    "verification": None, "linked_to": [], "created_at": 1, "updated_at": 1,
}  # fmt: skip


def url(user):
    return reverse("admin:users_builderuser_sessions", args=[user.pk])


def active(sandbox, user) -> list[str]:
    sessions = sandbox.state.sessions.values()
    return [one["id"] for one in sessions if one["user_id"] == user.clerk_id
            and one["status"] == "active"]  # fmt: skip


@pytest.fixture
def mary(sandbox):
    return linked(sandbox, email="mary@example.com")


def test_it_lists_devices_places_and_all_addresses(client, sandbox, mary):
    sandbox.sign_in(mary.clerk_id, browser_name="Safari", device_type="iPhone", city="Oslo")
    sandbox.edit(mary.clerk_id, phone_numbers=[PHONE], first_name="Marie")
    page = text_of(client.get(url(mary)))
    for said_there in ("Safari on iPhone", "Oslo, US", "203.0.113.7", "mary@example.com", "Primary",
                       "+13035550100", "Not verified"):  # fmt: skip
        assert said_there in page
    assert ClerkAccount.objects.get().first_name == "Marie"
    assert not SyncAttempt.objects.filter(operation="end_session").exists()


def test_a_sign_in_that_is_not_finished_is_listed_and_ended(client, sandbox, mary):
    """Clerk calls it pending: the person still has a task, such as a second factor to set up."""
    stays = sandbox.sign_in(mary.clerk_id)["id"]
    ends = sandbox.sign_in(mary.clerk_id, pending=True, browser_name="Safari")["id"]
    page = text_of(client.get(url(mary)))
    assert 'Safari on Macintosh <span class="state">Sign-in not finished</span>' in page
    assert page.count("Sign-in not finished") == 1
    response = client.post(url(mary), {"session": ends})
    assert said(response) == ["Mary Ann Smith is signed out on one device: Safari on Macintosh."]
    assert sandbox.state.sessions[ends]["status"] == "revoked"
    assert active(sandbox, mary) == [stays]
    assert "Sign-in not finished" not in text_of(client.get(url(mary)))


def test_signing_out_everywhere_ends_a_sign_in_that_is_not_finished(client, sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id, pending=True)["id"]
    client.post(reverse("admin:users_builderuser_sign_out", args=[mary.pk]))
    assert sandbox.state.sessions[session]["status"] == "revoked"
    assert SyncAttempt.objects.get().details["ended"] == 1


def test_a_device_is_listed_however_many_sessions_ended_since(client, sandbox, mary):
    sandbox.sign_in(mary.clerk_id, browser_name="Safari")
    for _ in range(501):
        session = sandbox.sign_in(mary.clerk_id)["id"]
        sandbox.state.sessions[session]["status"] = "ended"
    page = text_of(client.get(url(mary)))
    assert "Safari on Macintosh" in page
    assert "Chrome" not in page


def test_one_device_is_signed_out_and_the_others_stay(client, sandbox, staff, mary):
    stays = sandbox.sign_in(mary.clerk_id)["id"]
    ends = sandbox.sign_in(mary.clerk_id, browser_name="Safari", device_type="iPhone")["id"]
    response = client.post(url(mary), {"session": ends})
    assert response.url == url(mary)
    assert said(response) == ["Mary Ann Smith is signed out on one device: Safari on iPhone."]
    assert active(sandbox, mary) == [stays]
    attempt = SyncAttempt.objects.get()
    assert (attempt.operation, attempt.status, attempt.actor) == ("end_session", "applied", staff)
    assert attempt.changes == {"session": ["Safari on iPhone", "ended"]}
    assert "203.0.113.7" not in f"{attempt.changes}{attempt.details}"
    assert LogEntry.objects.get().user == staff
    assert "Sign out one device" in text_of(client.get(page_of(mary)))


def test_the_session_of_another_person_is_not_ended(client, sandbox, mary):
    other = linked(sandbox, email="other@example.com")
    session = sandbox.sign_in(other.clerk_id)["id"]
    client.post(url(mary), {"session": session})
    assert active(sandbox, other) == [session]
    assert sandbox.writes() == []


@pytest.mark.parametrize("session", ["", "sess_1/../../users/user_1", "nonsense", "sess_\0"])
def test_an_id_that_is_none_reaches_nobody(client, sandbox, mary, session):
    sandbox.sign_in(mary.clerk_id)
    page = text_of(client.post(url(mary), {"session": session}))
    assert "This person has no such session any more. Nothing was done." in page
    assert len(active(sandbox, mary)) == 1
    assert sandbox.writes() == []


def test_an_answer_that_is_lost_is_read_back(client, sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id)["id"]
    sandbox.fault(REVOKE, "reset", apply=True)
    client.post(url(mary), {"session": session})
    assert active(sandbox, mary) == []
    assert SyncAttempt.objects.get().status == "applied"


def test_an_end_that_clerk_did_not_confirm_stays_pending(client, sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id)["id"]
    sandbox.fault(REVOKE, "status", status=503)
    page = text_of(client.post(url(mary), {"session": session}))
    assert "<title>Error:" in page
    assert "Ask Clerk again" in page
    assert active(sandbox, mary) == [session]
    assert SyncAttempt.objects.get().status == "started"


def test_an_answer_that_shows_the_session_as_active_ends_nothing(client, sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id)["id"]
    sandbox.fault(REVOKE, "stale")
    page = text_of(client.post(url(mary), {"session": session}))
    assert "Clerk has not confirmed this yet" in page
    assert active(sandbox, mary) == [session]
    assert SyncAttempt.objects.get().status == "started"


def test_an_answer_with_old_values_is_read_back(client, sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id)["id"]
    sandbox.fault(REVOKE, "stale", apply=True)
    response = client.post(url(mary), {"session": session})
    assert said(response) == ["Mary Ann Smith is signed out on one device: Chrome on Macintosh."]
    assert active(sandbox, mary) == []


@pytest.mark.parametrize("whose", ["ended before", "another person's"])
def test_a_session_that_is_not_listed_is_not_told_as_ended_now(client, sandbox, mary, whose):
    if whose == "ended before":
        session = sandbox.sign_in(mary.clerk_id)["id"]
        sandbox.state.sessions[session]["status"] = "ended"
    else:
        other = linked(sandbox, email="other@example.com")
        session = sandbox.sign_in(other.clerk_id)["id"]
    page = text_of(client.post(url(mary), {"session": session}))
    assert "This person has no such session any more. Nothing was done." in page
    assert (sandbox.writes(), SyncAttempt.objects.get().status) == ([], "refused")
    assert not LogEntry.objects.exists()


def test_the_same_again_names_the_device_that_clerk_had_listed(client, sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id)["id"]
    sandbox.fault(REVOKE, "late", seconds=None, how="close")
    client.post(url(mary), {"session": session})
    sandbox.apply_late()
    response = client.post(url(mary), {"session": session})
    assert said(response) == ["Mary Ann Smith is signed out on one device: Chrome on Macintosh."]


def test_the_end_of_another_session_does_not_answer_one_that_was_lost(client, sandbox, mary):
    lost, other = (sandbox.sign_in(mary.clerk_id)["id"] for _ in range(2))
    sandbox.fault(REVOKE, "status", status=503)
    client.post(url(mary), {"session": lost})
    time_is_over()
    list(recovery.recover_all())
    assert "was not saved" in text_of(client.get("/admin/"))
    client.post(url(mary), {"session": other})
    assert "was not saved" in text_of(client.get("/admin/"))
    assert active(sandbox, mary) == [lost]
    client.post(url(mary), {"session": lost})
    assert "was not saved" not in text_of(client.get("/admin/"))


def test_a_refusal_is_said_on_the_page(client, sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id)["id"]
    sandbox.fault(
        REVOKE, "status", status=409, code="resource_locked",
        message="Try again.",
    )  # fmt: skip
    page = text_of(client.post(url(mary), {"session": session}))
    assert "Clerk is busy with another change of this user." in page
    assert active(sandbox, mary) == [session]
    assert SyncAttempt.objects.get().status == "refused"


def test_a_clerk_that_does_not_answer_is_said_and_nothing_else_fails(client, sandbox, mary):
    sandbox.fault("GET /sessions", "status", status=503, times=None)
    page = text_of(client.get(url(mary)))
    assert 'role="alert"' in page
    assert "Ask Clerk again" in page


def test_a_second_post_of_the_same_page_does_nothing(client, sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id)["id"]
    token = "5f0f2a57-6d2b-4b37-9d7e-2f5b1d1f4f3a"
    for _ in range(2):
        client.post(url(mary), {"session": session, "token": token})
    assert SyncAttempt.objects.count() == 1
    assert len(sandbox.writes()) == 1


def test_who_may_not_sign_out_sees_the_sessions_and_why(sandbox, mary):
    session = sandbox.sign_in(mary.clerk_id)["id"]
    editor = browser_of(staff_who_may("users.view_builderuser", "users.change_builderuser"))
    page = text_of(editor.get(url(mary)))
    assert "Chrome on Macintosh" in page
    assert "You cannot sign this person out." in page
    assert "Can sign people out everywhere" in page
    assert session not in page
    assert editor.post(url(mary), {"session": session}).status_code == 403
    assert active(sandbox, mary) == [session]


def test_a_person_without_an_account_is_not_asked_about(client, sandbox):
    page = text_of(client.get(url(BuilderUserFactory())))
    assert "is not connected to a Clerk account" in page
    assert sandbox.requests() == []


def test_a_device_is_signed_out_by_one_click(page, sandbox, mary):
    for browser in ("Chrome", "Safari"):
        sandbox.sign_in(mary.clerk_id, browser_name=browser)
    page.goto(page_of(mary))
    page.get_by_role("link", name="Sessions and devices").click()
    page.get_by_role("button", name="Sign out on Safari on Macintosh").click()
    page.get_by_text("is signed out on one device: Safari on Macintosh.").wait_for()
    assert page.get_by_role("row", name="Safari").count() == 0
    assert page.get_by_role("row", name="Chrome").count() == 1
    assert len(active(sandbox, mary)) == 1
