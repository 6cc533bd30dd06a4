"""*Create the account now*: a row that has no Clerk account gets one, without an invitation."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from tests.support.change_form import in_clerk, page_of, said, stored, submit, text_of
from tests.support.events import arrive
from tests.support.factories import BuilderUserFactory, change_here
from tests.support.interruptions import at_step
from tests.support.personas import browser_of, staff_who_may
from tests.support.unknown import time_is_over
from users.clerk.metadata import OUR_ID
from users.models import Invitation, SyncAttempt
from users.sync import maintenance
from users.sync.mirror import instance
from users.sync.outbound import checkpoints
from users.sync.services import invitations

pytestmark = pytest.mark.django_db(transaction=True)

CREATE = "POST /users"


def url(user):
    return reverse("admin:users_builderuser_create_account", args=[user.pk])


@pytest.fixture
def mary(sandbox):
    instance.remember(sandbox.instance_id, "development")
    return BuilderUserFactory(email="mary@example.com")


def test_the_account_is_created_and_linked(client, sandbox, staff, mary):
    assert url(mary) in text_of(client.get(page_of(mary)))
    assert "No mail is sent" in text_of(client.get(url(mary)))
    response = client.post(url(mary))
    assert response.url == page_of(mary)
    assert said(response) == ["Mary Ann Smith has a Clerk account now."]
    [account] = sandbox.find("mary@example.com")
    assert stored(mary).clerk_id == account["id"]
    assert account["public_metadata"] == {OUR_ID: str(mary.pk)}
    attempt = SyncAttempt.objects.get()
    assert (attempt.operation, attempt.status, attempt.actor) == (
        "create_account", "applied", staff,
    )  # fmt: skip
    assert LogEntry.objects.get().user == staff
    arrive(sandbox)
    assert SyncAttempt.objects.count() == 1
    assert "Matches" in text_of(client.get(page_of(mary)))


def test_a_refusal_creates_nothing(client, sandbox, mary):
    sandbox.add_user(email="mary@example.com")
    page = text_of(client.post(url(mary)))
    assert "<title>Error:" in page
    assert stored(mary).clerk_id is None
    assert SyncAttempt.objects.get().status == "refused"


def test_an_answer_that_is_lost_is_found_by_our_id(client, sandbox, mary):
    sandbox.fault(CREATE, "reset", apply=True)
    client.post(url(mary))
    [account] = sandbox.find("mary@example.com")
    assert stored(mary).clerk_id == account["id"]
    assert SyncAttempt.objects.get().status == "applied"


@pytest.mark.parametrize("told_first", [True, False])
def test_recovery_finishes_what_clerk_took_unheard(client, sandbox, mary, told_first):
    sandbox.fault(CREATE, "reset", apply=True)
    sandbox.fault("GET /users", "status", status=503, times=None)
    client.post(url(mary))
    assert SyncAttempt.objects.get().status == "started"
    assert stored(mary).clerk_id is None
    sandbox.clear_faults()
    if told_first:
        arrive(sandbox)
    maintenance.run()
    [account] = sandbox.find("mary@example.com")
    assert stored(mary).clerk_id == account["id"]
    assert SyncAttempt.objects.get(operation="create_account").status == "applied"


def test_what_clerk_never_got_is_abandoned(client, sandbox, mary):
    sandbox.fault(CREATE, "status", status=503)
    client.post(url(mary))
    time_is_over()
    maintenance.run()
    assert SyncAttempt.objects.get().status == "dropped"
    assert sandbox.find("mary@example.com") == []


def test_the_same_again_makes_one_account(client, sandbox, mary):
    sandbox.fault(CREATE, "status", status=503)
    client.post(url(mary))
    client.post(url(mary))
    [account] = sandbox.find("mary@example.com")
    assert stored(mary).clerk_id == account["id"]
    assert set(SyncAttempt.objects.values_list("status", flat=True)) == {"applied"}


def test_an_email_that_moved_meanwhile_waits_for_a_person(client, sandbox, mary):
    sandbox.fault(CREATE, "reset", apply=True)
    sandbox.fault("GET /users", "status", status=503, times=None)
    client.post(url(mary))
    change_here(mary, email="other@example.com")
    sandbox.clear_faults()
    maintenance.run()
    attempt = SyncAttempt.objects.get()
    assert attempt.status == "started"
    assert "this user was changed here since (email)" in attempt.message
    time_is_over()
    page = text_of(client.get(page_of(mary)))
    assert "Discard this change, or save the earlier values again." in page
    assert "Use Clerk's version" not in page
    response = client.post(reverse("admin:users_builderuser_take_over", args=[mary.pk]))
    assert said(response) == ["The change was discarded."]
    [account] = sandbox.find("mary@example.com")
    attempt.refresh_from_db()
    assert (attempt.status, attempt.message) == (
        "dropped",
        f"Sam Staff discarded this change. The account {account['id']} with mary@example.com "
        "stays in Clerk.",
    )
    maintenance.run()
    assert (stored(mary).email, stored(mary).clerk_id) == ("other@example.com", None)
    client.post(url(mary))
    assert stored(mary).clerk_id == sandbox.find("other@example.com")[0]["id"]


def test_a_name_that_moved_meanwhile_is_kept_and_shown_as_different(client, sandbox, mary):
    sandbox.fault(CREATE, "reset", apply=True)
    sandbox.fault("GET /users", "status", status=503, times=None)
    client.post(url(mary))
    submit(client, mary, name="Mary Jones")
    sandbox.clear_faults()
    maintenance.run()
    assert SyncAttempt.objects.get(operation="create_account").status == "applied"
    assert (stored(mary).name, in_clerk(sandbox, stored(mary))) == (
        "Mary Jones", ("Mary", "Ann Smith"),
    )  # fmt: skip
    arrive(sandbox)
    assert stored(mary).name == "Mary Jones"
    assert "Doesn't match Clerk" in text_of(client.get(page_of(mary)))


def test_an_open_invitation_comes_first(client, sandbox, mary):
    Invitation.objects.create(user=mary, email=mary.email, purpose="new_account")
    page = text_of(client.get(page_of(mary)))
    assert url(mary) not in page
    assert "An invitation is open. Revoke it first." in page
    assert "is still open. Revoke it first." in text_of(client.post(url(mary)))
    assert sandbox.writes() == []
    assert stored(mary).clerk_id is None


def test_an_invitation_that_is_sent_meanwhile_comes_first(client, sandbox, staff, mary):
    def invite():
        invitations.invite(stored(mary), actor=staff)

    with at_step(checkpoints.BEFORE_ATTEMPT, invite):
        page = text_of(client.post(url(mary)))
    assert "The invitation to mary@example.com is still open. Revoke it first." in page
    assert Invitation.objects.get().status == "pending"
    assert stored(mary).clerk_id is None
    assert sandbox.find("mary@example.com") == []


def test_it_needs_its_own_permission(sandbox, mary):
    editor = browser_of(staff_who_may("users.view_builderuser", "users.change_builderuser"))
    page = text_of(editor.get(page_of(mary)))
    assert url(mary) not in page
    assert "Can create Clerk accounts without an invitation" in page
    assert editor.post(url(mary)).status_code == 403
    assert sandbox.writes() == []
