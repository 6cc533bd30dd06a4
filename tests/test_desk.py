"""The home page and the form of a person: what they say, and what staff can do there."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.urls import reverse
from django.utils import timezone

from tests.support.accessibility import violations
from tests.support.change_form import in_clerk, page_of, said, stored, submit, text_of
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    StaffFactory,
    SyncAttemptFactory,
    change_here,
    linked,
)
from tests.support.personas import browser_of, staff_who_may
from tests.support.sign_in import PASSWORD, with_password
from users.models import Invitation, OperationKind, Source, WebhookDelivery

pytestmark = pytest.mark.django_db(transaction=True)

HOME = "/admin/"
RENAME = "PATCH /users/{user_id}"


def words(response) -> str:
    """The text of a page, without tags, in one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", text_of(response)).split())


def push_page(user):
    return reverse("admin:users_builderuser_push", args=[user.pk, "email"])


class TestHome:
    def test_what_needs_a_person_is_counted_and_linked(self, client, sandbox, staff):
        SyncAttemptFactory(user=linked(sandbox), actor=staff, message="Clerk holds a third name.")
        change_here(linked(sandbox, email="other@example.com"), name="Somebody Else")
        Invitation.objects.create(
            user=BuilderUserFactory(), email="new@example.com", purpose="new_account",
            expires_at=timezone.now() + timedelta(days=3),
        )  # fmt: skip
        WebhookDelivery.objects.create(
            svix_id="msg_1", type="user.updated", processed_at=timezone.now(), payload={}, error="?"
        )
        page = client.get(HOME)
        assert "1 change not confirmed by Clerk yet" in words(page)
        assert "1 person not matching Clerk" in words(page)
        assert "1 invitation not accepted yet, expiring within 7 days" in words(page)
        assert "1 event from Clerk that cannot be applied" in words(page)
        links = re.findall(r'<li><a href="([^"]+)"><strong>', text_of(page))
        assert len(links) == 4
        for link in links:
            assert "1 result" in words(client.get(link)) or " 1 " in words(client.get(link)), link
        assert sandbox.requests() == []

    def test_links_that_moved_are_counted_and_listed(self, client, sandbox, staff):
        now, fields = timezone.now(), {"operation": OperationKind.LINK, "status": "applied"}
        moved = {"clerk_id": ["user_before", "user_after"]}
        first = {"clerk_id": [None, "user_after"]}
        for label, by, source, changes in (
            ("Moved", None, Source.WEBHOOK, moved),
            ("Moved by what a refresh showed", None, Source.ADMIN, moved),
            ("By staff", staff, Source.ADMIN, moved),
            ("First link", None, Source.WEBHOOK, first),
        ):
            details = {} if by else {"reason": "The account accepted the invitation."}
            SyncAttemptFactory(
                label=label, actor=by, source=source, changes=changes, details=details,
                settled_at=now, **fields,
            )  # fmt: skip
        page = client.get(HOME)
        assert "2 links moved to another Clerk account in the last 7 days" in words(page)
        listed = client.get("/admin/users/syncattempt/?link=moved").context["cl"].result_list
        assert {one.label for one in listed} == {"Moved", "Moved by what a refresh showed"}

    def test_nothing_needs_a_person(self, client, sandbox):
        linked(sandbox)
        assert "Nothing needs you now." in words(client.get(HOME))

    def test_what_a_person_may_not_open_is_not_counted(self, sandbox):
        SyncAttemptFactory(user=linked(sandbox), message="Clerk holds a third name.")
        client = browser_of(staff_who_may("users.view_builderuser"))
        assert "not confirmed by Clerk yet" not in words(client.get(HOME))

    def test_edits_are_counted_by_day_and_outcome(self, client, sandbox):
        user, now = linked(sandbox), timezone.now()
        for status in ("applied", "applied", "refused", "dropped"):
            SyncAttemptFactory(user=user, status=status, settled_at=now)
        SyncAttemptFactory(user=user)
        for operation in (OperationKind.FOLLOW, OperationKind.LINK):
            SyncAttemptFactory(
                user=user, operation=operation, actor=None, status="applied", settled_at=now,
                details={"reason": "The Clerk account has this."},
            )  # fmt: skip
        page = words(client.get(HOME))
        assert f"{timezone.localdate()} 2 2 1" in page
        assert f"{timezone.localdate() - timedelta(days=29)} 0 0 0" in page

    def test_the_people_that_i_changed_last(self, client, sandbox):
        first, second = linked(sandbox), linked(sandbox, name="Ann Baker", email="a@example.com")
        BuilderUserFactory(name="Nobody Touched")
        submit(client, first, name="Mary Ann Jones")
        submit(client, second, role="ADMIN")
        page = words(client.get(HOME))
        page = page[page.index("People that I changed last") :]
        assert page.index("Ann Baker") < page.index("Mary Ann Jones")
        assert "Nobody Touched" not in page

    def test_records_of_engineers_stand_apart_and_closed(self, client):
        page = text_of(client.get(HOME))
        desk, records = page.split('<details class="records">')
        assert reverse("admin:users_builderuser_changelist") in desk
        assert reverse("admin:users_clerkaccount_changelist") not in desk
        assert reverse("admin:users_clerkaccount_changelist") in records
        assert "procrastinate" not in page.lower()

    def test_a_search_finds_a_person(self, page, sandbox):
        linked(sandbox)
        page.goto(HOME)
        page.get_by_label("Find a person").fill("mary")
        page.get_by_role("button", name="Find").click()
        page.get_by_role("link", name="Mary Ann Smith").wait_for()


class TestForm:
    @pytest.mark.parametrize("kind", ["an address", "a name"])
    def test_a_message_that_begins_with_a_value_shows_it_as_it_is(self, client, sandbox, kind):
        if kind == "an address":
            new = {"name": "Tomas", "email": "tomas.ferreira@example.com", "role": "BUILDER"}
            page = client.post("/admin/users/builderuser/add/", new, follow=True)
            shown = "tomas.ferreira@example.com is invited."
        else:
            user = linked(sandbox, name="siobhán smith")
            ban = reverse("admin:users_builderuser_ban", args=[user.pk])
            page, shown = client.post(ban, follow=True), "siobhán smith is banned."
        area = text_of(page)
        area = area[area.index("messagelist") :]
        assert f">{shown}</li>" in area[: area.index("</ul>")]

    def test_the_header_says_who_it_is(self, client, sandbox):
        group = BuilderGroupFactory(name="Cedar Ridge Homes")
        user = linked(sandbox, email="mary@example.com", builder_group=group)
        page = text_of(client.get(page_of(user)))
        header = page[page.index('<header class="person">') :]
        header = header[: header.index("</header>")]
        for part in ("Mary Ann Smith", "mary@example.com", "Cedar Ridge Homes", "Last checked"):
            assert part in header

    def test_the_message_area_says_the_thing_itself(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(
            RENAME, "status", status=422, code="x", param="first_name", message="It is odd."
        )
        page = text_of(submit(client, user, name="Mary & Ann"))
        area = page[page.index('role="alert"') :]
        area = area[: area.index("</div>")]
        assert "Invalid update data: It is odd." in area
        assert 'href="#id_name"' in area
        assert "Please correct" not in page
        assert "<title>Error:" in page

    def test_the_timeline_says_who_changed_what_and_how_it_ended(self, client, sandbox, staff):
        group = BuilderGroupFactory(name="Cedar Ridge Homes")
        user, now = linked(sandbox), timezone.now()
        SyncAttemptFactory(
            user=user, actor=staff, status="applied", settled_at=now,
            changes={"builder_group": [None, str(group.pk)]},
        )  # fmt: skip
        SyncAttemptFactory(
            user=user, operation=OperationKind.FOLLOW, source=Source.WEBHOOK, status="applied",
            settled_at=now, changes={"name": ["Mary", "Mary Ann Smith"]},
        )  # fmt: skip
        SyncAttemptFactory(
            user=user, actor=staff, status="dropped", settled_at=now, message="Clerk never took it."
        )
        page = words(client.get(page_of(user)))
        page = page[page.index("Timeline") : page.index("Danger zone")]
        assert "Sam Staff Edit Saved Builder group: — → Cedar Ridge Homes" in page
        assert "In Clerk, by the person or in Clerk's dashboard Changed in Clerk Saved" in page
        assert "Sam Staff Edit Not saved Clerk never took it." in page
        assert page.index("Not saved") < page.index("Changed in Clerk")

    def test_the_timeline_says_when_a_change_took_effect_later(self, page, client, sandbox):
        user, now = linked(sandbox), timezone.now()
        for minutes in (8, 0):
            ended = now + timedelta(minutes=minutes, seconds=5)
            SyncAttemptFactory(user=user, status="applied", settled_at=ended)
        shown = words(client.get(page_of(user)))
        ended = f"{now + timedelta(minutes=8, seconds=5):%Y-%m-%d %H:%M}"
        assert f"saved {ended} UTC : Clerk did not confirm it at first" in shown
        assert shown.count("did not confirm it at first") == 1
        page.goto(page_of(user))
        times = page.locator(".timeline .when").filter(has_text="did not confirm").locator("time")
        assert times.count() == 2
        assert times.nth(1).get_attribute("data-local") is not None  # in the viewer's zone

    def test_an_empty_timeline_says_that_other_programs_are_not_listed(self, client, sandbox):
        user = linked(sandbox)
        change_here(user, name="Mary Ann Jones")
        page = words(client.get(page_of(user)))
        assert stored(user).name == "Mary Ann Jones"
        assert "Changes that other programs make in the database are not listed." in page

    def test_a_viewer_reads_the_timeline_and_finds_no_danger_zone(self, sandbox):
        user = linked(sandbox)
        SyncAttemptFactory(user=user, status="applied", settled_at=timezone.now())
        viewer = browser_of(staff_who_may("users.view_builderuser"))
        page = text_of(viewer.get(page_of(user)))
        assert "Timeline" in page
        assert "syncattempt" not in page
        assert "Danger zone" not in page

    def test_a_copy_of_an_email_to_clerk_asks_first(self, client, sandbox):
        user = linked(sandbox, email="old@example.com")
        change_here(user, email="new@example.com")
        page = words(client.get(push_page(user)))
        assert "From then on the person signs in with new@example.com" in page
        assert "old@example.com no longer works." in page
        assert sandbox.requests() == []
        message = said(client.post(push_page(user)))[-1]
        assert message == (
            "Mary Ann Smith signs in with new@example.com from now on; old@example.com no longer "
            "works."
        )
        assert sandbox.find("old@example.com") == []
        assert [found["id"] for found in sandbox.find("new@example.com")] == [user.clerk_id]

    def test_the_email_of_a_linked_user_is_changed_on_its_own_page(self, page, sandbox):
        user = linked(sandbox)
        page.goto(page_of(user))
        assert page.get_by_label("Email:").get_attribute("readonly") is not None
        page.get_by_role("link", name="Change email").click()
        page.get_by_label("New email").wait_for()


class TestTyping:
    def test_ctrl_s_saves_and_stays(self, page, sandbox):
        user = linked(sandbox)
        page.goto(page_of(user))
        page.get_by_label("Name:").fill("Mary Ann Jones")
        page.get_by_text("Saving asks Clerk first").wait_for()
        page.keyboard.press("Control+s")
        page.get_by_text("Saved here and in Clerk.").wait_for()
        assert page.url.endswith(page_of(user))
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")

    def test_unsaved_typing_is_guarded(self, page, sandbox):
        user = linked(sandbox)
        page.on("dialog", lambda dialog: dialog.dismiss())
        page.goto(page_of(user))
        page.get_by_label("Name:").click()
        page.keyboard.type("X")
        with page.expect_event("dialog") as asked:
            page.get_by_role("link", name="Home").click(no_wait_after=True)
        assert asked.value.type == "beforeunload"
        assert page.url.endswith(page_of(user))
        assert page.get_by_label("Name:").input_value().count("X") == 1

    def test_an_expired_session_keeps_the_typing(self, page, sandbox, staff):
        user = linked(sandbox)
        type_until_the_session_ends(page, user, staff)
        sign_in(page, staff)
        page.get_by_text("You were signed out before this was saved.").wait_for()
        assert page.get_by_label("Name:").input_value() == "Mary Ann Jones"
        assert stored(user).name == "Mary Ann Smith"
        page.get_by_role("button", name="Save and continue editing").click()
        page.get_by_text("Saved here and in Clerk.").wait_for()
        assert stored(user).name == "Mary Ann Jones"
        page.reload()
        assert page.get_by_text("You were signed out").count() == 0

    def test_a_sign_in_in_another_window_keeps_the_typing(self, page, sandbox, staff):
        user = linked(sandbox)
        with_password(staff)
        page.context.clear_cookies()
        page.goto(page_of(user))
        sign_in(page, staff)
        page.get_by_label("Name:").fill("Mary Ann Jones")
        Session.objects.all().delete()
        other_window = page.context.new_page()
        other_window.goto(page_of(user))
        sign_in(other_window, staff)

        page.get_by_role("button", name="Save and continue editing").click()
        page.get_by_role("alert").wait_for()
        assert page.title().startswith("Error: Not saved")
        assert page.evaluate("document.activeElement.id") == "message"
        assert violations(page) == []
        page.get_by_role("link", name="Open the page again").click()

        page.get_by_text("You were signed out before this was saved.").wait_for()
        assert page.get_by_label("Name:").input_value() == "Mary Ann Jones"
        assert stored(user).name == "Mary Ann Smith"
        page.get_by_role("button", name="Save and continue editing").click()
        page.get_by_text("Saved here and in Clerk.").wait_for()
        assert stored(user).name == "Mary Ann Jones"

    def test_what_was_typed_before_the_session_ended_overwrites_nobody(self, page, sandbox, staff):
        user = linked(sandbox)
        type_until_the_session_ends(page, user, staff)
        page.get_by_label("Username:").wait_for()
        sandbox.edit(user.clerk_id, last_name="Brown")
        change_here(user, name="Mary Ann Brown")
        sign_in(page, staff)
        page.get_by_text("You were signed out before this was saved.").wait_for()
        page.get_by_role("button", name="Save and continue editing").click()
        page.get_by_role("heading", name="Changed since you opened the form").wait_for()
        assert stored(user).name == "Mary Ann Brown"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")

    def test_what_was_typed_is_not_given_to_another_person(self, page, sandbox, staff):
        user = linked(sandbox)
        colleague = with_password(StaffFactory())
        type_until_the_session_ends(page, user, staff)
        sign_in(page, colleague)
        page.get_by_role("button", name="Save and continue editing").wait_for()
        assert page.get_by_label("Name:").input_value() == "Mary Ann Smith"
        assert page.get_by_text("You were signed out").count() == 0

    def test_a_conflict_is_decided_by_one_key(self, page, sandbox):
        user = linked(sandbox)
        page.goto(page_of(user))
        page.get_by_label("Name:").fill("Mary Ann Brown")
        sandbox.edit(user.clerk_id, last_name="Jones")
        change_here(user, name="Mary Ann Jones")
        page.get_by_role("button", name="Save and continue editing").click()
        theirs = page.get_by_role("button", name="Take theirs")
        yours = page.get_by_role("button", name="Keep yours")
        theirs.wait_for()
        assert yours.get_attribute("aria-pressed") == "true"
        yours.focus()
        page.keyboard.press("1")
        assert theirs.get_attribute("aria-pressed") == "true"
        assert yours.get_attribute("aria-pressed") == "false"
        assert page.get_by_label("Name:").input_value() == "Mary Ann Jones"


def type_until_the_session_ends(page, user, staff):
    """Type another name into the form of a user; the save meets a session that is over."""
    with_password(staff)
    page.context.clear_cookies()
    page.goto(page_of(user))
    sign_in(page, staff)
    page.get_by_label("Name:").fill("Mary Ann Jones")
    Session.objects.all().delete()
    page.get_by_role("button", name="Save and continue editing").click()


def sign_in(page, somebody):
    page.get_by_label("Username:").fill(somebody.username)
    page.get_by_label("Password:").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Name:").wait_for()
