"""What happens between staff and the person, in a real browser on both sides: the admin here, the
sandbox's pages there, and the events between them over HTTP."""

from __future__ import annotations

import pytest
from django.contrib.admin.utils import quote
from django.urls import reverse

from tests.support.accessibility import violations
from tests.support.change_form import page_of, stored
from tests.support.events import URL, mistaken
from tests.support.factories import BuilderUserFactory, change_here, linked
from tests.support.patience import PATIENCE
from users.models import BuilderUser, Invitation, WebhookDelivery
from users.sync import maintenance

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clerk(sandbox, live_server):
    """A sandbox that sends its events to the real server."""
    sandbox.webhooks.send_to(live_server.url + URL)
    yield sandbox
    sandbox.webhooks.send_to(None)


def living(sandbox, **fields):
    """A user of both sides, of whom no event was sent."""
    sandbox.webhooks.mode = "lost"
    user = linked(sandbox, **fields)
    sandbox.webhooks.mode = "live"
    return user


def accept(page, clerk, first_name="", last_name=""):
    """The person opens the newest mail, and follows the link."""
    page.goto(f"{clerk.root}/inbox")
    page.get_by_label("First name").first.fill(first_name)
    page.get_by_label("Last name").first.fill(last_name)
    page.get_by_role("button", name="Accept the invitation").first.click()
    page.get_by_role("heading", name="What this person does").wait_for()
    assert clerk.webhooks.wait_idle(PATIENCE)


def test_invited_accepted_and_linked(page, clerk):
    page.goto("/admin/users/builderuser/add/")
    page.get_by_label("Name:").fill("Nora Quist")
    page.get_by_label("Email:").fill("Nora@Example.com")
    assert page.get_by_label("Invite: Clerk mails an invitation").is_checked()
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("An invitation to nora@example.com is open until").wait_for()
    assert page.get_by_role("link", name="Send again").is_visible()
    here = page.url

    accept(page, clerk, "Nora", "Quist")

    user = BuilderUser.objects.get()
    [account] = clerk.find("nora@example.com")
    assert user.clerk_id == account["id"]
    assert Invitation.objects.get().status == "accepted"
    page.goto(here)
    panel = page.get_by_role("region", name="Clerk")
    assert panel.get_by_role("row", name="Name Nora Quist Nora Quist Matches").is_visible()
    assert page.get_by_role("link", name="Ban").is_visible()


def test_a_new_email_by_invitation(page, clerk):
    user = living(clerk, name="Mary Ann Smith", email="old@example.com")
    page.goto(page_of(user))
    page.get_by_role("link", name="Change email").click()
    page.get_by_label("New email").fill("new@example.com")
    assert page.get_by_label("Invite").is_checked()
    page.get_by_role("button", name="Change email").click()
    page.get_by_text("signs in with old@example.com until they accept").wait_for()
    assert stored(user).email == "old@example.com"

    accept(page, clerk, "Mary Ann", "Smith")

    now = stored(user)
    [account] = clerk.find("new@example.com")
    assert (now.email, now.clerk_id) == ("new@example.com", account["id"])
    page.goto(page_of(user))
    page.get_by_text("old@example.com. That account is still to be banned.").wait_for()
    assert maintenance.run().left == 0
    assert clerk.webhooks.wait_idle(PATIENCE)
    # With the old address nobody can sign in any more.
    assert [other["banned"] for other in clerk.find("old@example.com")] == [True]
    page.reload()
    page.get_by_text("old@example.com. That account is banned.").wait_for()
    page.goto(f"{clerk.root}/users/{user.clerk_id}")
    page.get_by_text("banned", exact=True).wait_for()


def test_the_person_edits_their_own_account(page, clerk):
    user = living(clerk, name="Mary Ann Smith", email="mary@example.com")
    page.goto(f"{clerk.root}/users/{user.clerk_id}")
    page.get_by_label("Last name").fill("Jones")
    page.get_by_label("New email").fill("mary.jones@example.com")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("heading", name="Mary Ann Jones").wait_for()
    assert clerk.webhooks.wait_idle(PATIENCE)
    assert (stored(user).name, stored(user).email) == ("Mary Ann Jones", "mary.jones@example.com")


def test_refresh_shows_what_can_be_done_now(page, clerk):
    user = living(clerk)
    page.goto(page_of(user))
    page.get_by_label("Name:").fill("Typed and not saved")
    clerk.webhooks.mode = "lost"
    change_here(user, name="Mary Ann Brown")  # on both sides, so that a person decides
    clerk.edit(user.clerk_id, locked=True, last_name="Jones")
    assert page.get_by_role("link", name="Unlock").count() == 0
    page.get_by_role("button", name="Refresh").click()
    page.get_by_role("link", name="Unlock").wait_for()
    assert page.get_by_role("row", name="Mary Ann Brown Mary Ann Jones Doesn't match").is_visible()
    assert page.get_by_label("Name:").input_value() == "Typed and not saved"
    page.get_by_role("button", name="Copy from Clerk (name)").click()
    page.get_by_text("The name was copied from Clerk.").wait_for()
    assert stored(user).name == "Mary Ann Jones"


def test_a_kept_event_is_replayed_by_a_click(page, clerk):
    user = living(clerk)
    with mistaken():
        clerk.edit(user.clerk_id, last_name="Jones")
        assert clerk.webhooks.wait_idle(PATIENCE)
    kept = WebhookDelivery.objects.get(processed_at=None)
    page.goto(reverse("admin:users_webhookdelivery_change", args=[quote(kept.pk)]))
    page.get_by_text("It failed with ZeroDivisionError").first.wait_for()
    page.get_by_role("button", name="Replay").click()
    page.get_by_text("it has taken effect now").wait_for()
    assert stored(user).name == "Mary Ann Jones"


def test_these_pages_can_be_used_by_everybody(page, clerk):
    user, nobody = living(clerk, clerk={"banned": True}), BuilderUserFactory()
    invitation = Invitation.objects.create(
        user=nobody, email=nobody.email, purpose="new_account", status="pending"
    )
    clerk.edit(user.clerk_id, last_name="Jones")
    assert clerk.webhooks.wait_idle(PATIENCE)
    ours = [("ban", user), ("unban", user), ("unlink", user), ("link", nobody), ("email", user)]
    addresses = [
        page_of(nobody),
        *(reverse(f"admin:users_builderuser_{name}", args=[whose.pk]) for name, whose in ours),
        reverse("admin:users_invitation_changelist"),
        reverse("admin:users_invitation_change", args=[invitation.pk]),
        reverse("admin:users_invitation_resend", args=[invitation.pk]),
        reverse("admin:users_webhookdelivery_changelist"),
        reverse("admin:users_clerkaccount_changelist"),
        *(f"{clerk.root}/{name}" for name in ("", "inbox", "webhooks", "faults", "requests")),
        f"{clerk.root}/users/{user.clerk_id}",
    ]
    for address in addresses:
        page.goto(address)
        assert violations(page) == [], address
