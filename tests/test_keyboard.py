"""The main jobs of the desk without a mouse: skip links, order of stops, focus at the news."""

from __future__ import annotations

import pytest

from tests.support.change_form import in_clerk, page_of, stored
from tests.support.factories import BuilderUserFactory, change_here, linked
from tests.support.interruptions import in_thread
from tests.support.keyboard import focused, press_on, skip_to, tab_to
from tests.support.user_list import LIST
from tests.support.workers import heartbeat, work
from users.models import BulkRun

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_scan(settings):
    """No scan is due that would hold the lock of bulk work."""
    settings.CLERK_SCAN_AT = None


def test_a_person_is_found_opened_edited_and_saved(page, sandbox):
    user = linked(sandbox)
    BuilderUserFactory(name="Somebody Else")
    page.goto("/admin/")
    skip_to(page, "Skip to main content")
    page.keyboard.press("Tab")
    page.keyboard.type("mary")
    page.keyboard.press("Enter")

    page.get_by_text("Search: mary").wait_for()
    skip_to(page, "Skip to the results")
    press_on(page, page.get_by_role("link", name="Mary Ann Smith"))

    page.get_by_role("heading", name="Mary Ann Smith").wait_for()
    skip_to(page, "Skip to main content")
    page.keyboard.press("Tab")
    assert page.get_by_label("Name:").evaluate("field => field === document.activeElement")
    page.keyboard.press("End")
    for _ in "Smith":
        page.keyboard.press("Backspace")
    page.keyboard.type("Jones")
    press_on(page, page.get_by_role("button", name="Save and continue editing"))

    page.get_by_text("Saved here and in Clerk.").wait_for()
    assert "Saved here and in Clerk." in focused(page)
    assert stored(user).name == "Mary Ann Jones"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")


def test_people_are_selected_planned_and_followed_to_the_end(page, sandbox):
    users = [linked(sandbox, name=f"Mary Smith{n}") for n in range(2)]
    other = BuilderUserFactory(name="Somebody Else")
    heartbeat()
    page.goto(LIST)
    skip_to(page, "Skip to the results")
    for user in reversed(users):  # the newest comes first
        press_on(page, page.get_by_label(f"Select this object for an action - {user}"), "Space")
    tab_to(page, page.get_by_label("Action:"), key="Shift+Tab")
    page.keyboard.type("Change")
    press_on(page, page.get_by_role("button", name="Go"))

    page.get_by_text("2 people").wait_for()
    skip_to(page, "Skip to main content")
    page.keyboard.press("Tab")  # the first choice of the group
    ban = page.get_by_label("Ban", exact=True)
    for _ in range(page.get_by_role("radio").count()):
        if ban.evaluate("radio => radio === document.activeElement"):
            break
        page.keyboard.press("ArrowDown")
    assert ban.is_checked()
    press_on(page, page.get_by_role("button", name="Show the plan"))

    page.get_by_text("Nothing is changed yet.").wait_for()
    assert "2 to change, 0 to delete" in focused(page)
    press_on(page, page.get_by_role("button", name="Ban: 2 changes"))

    page.get_by_role("button", name="Pause").wait_for()
    assert "Waiting for the worker: 0 of 2 processed." in focused(page)
    tab_to(page, page.get_by_role("button", name="Pause"))
    in_thread(work)
    # The page follows the run although the focus is in it; the button is gone, so the end has it.
    page.get_by_text("Finished: 2 of 2 processed.").wait_for()
    assert "Finished: 2 of 2 processed." in focused(page)
    assert all(account["banned"] for account in sandbox.users())
    assert stored(other).clerk_id is None
    assert BulkRun.objects.get().state == "finished"


def test_the_end_of_a_run_is_told_to_a_screen_reader_and_the_focus_stays(page, sandbox):
    linked(sandbox)
    heartbeat()
    page.goto("/admin/users/builderuser/bulk/")
    page.get_by_label("Ban", exact=True).check()
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_role("button", name="1 change").click()
    result = page.get_by_role("link", name="Result file")
    result.focus()
    in_thread(work)
    told = page.get_by_role("status").filter(has_text="Finished: 1 of 1 processed.")
    told.wait_for(state="attached")
    assert result.evaluate("link => link === document.activeElement")


@pytest.mark.parametrize("address", [LIST, "/admin/users/syncattempt/", "/admin/auth/user/"])
def test_every_list_has_a_skip_link_to_its_results(page, sandbox, address):
    page.goto(f"{address}?q=nobody+at+all")
    skip_to(page, "Skip to the results")
    assert page.evaluate("document.activeElement.id") == "results"


def test_a_refusal_has_the_focus_and_not_a_message_beside_it(page, sandbox):
    user = linked(sandbox)
    sandbox.fault(
        "PATCH /users/{user_id}", "status", status=422, code="form_param_value_invalid",
        param="first_name", message="It is odd.",
    )  # fmt: skip
    page.goto(page_of(user))
    page.get_by_label("Name:").fill("Mary & Ann")
    page.keyboard.press("Control+s")
    page.get_by_role("alert").wait_for()
    assert page.evaluate("document.activeElement.id") == "message"


def test_a_failure_that_is_told_after_a_redirect_has_the_focus_and_the_title(page, sandbox):
    user = linked(sandbox)
    change_here(user, name="Mary Ann Jones")
    page.goto(page_of(user))
    sandbox.fault("PATCH /users/{user_id}", "status", status=503)
    press_on(page, page.get_by_role("button", name="Copy to Clerk (name)"))
    page.get_by_text("Clerk has not confirmed this yet").first.wait_for()
    assert "Clerk has not confirmed this yet" in focused(page)
    assert page.title().startswith("Error: ")
    assert page.title().count("Error") == 1
    page.reload()
    assert "Error" not in page.title()


def test_a_name_is_edited_in_its_cell_refused_and_offered_again(page, sandbox):
    user = linked(sandbox)
    sandbox.fault(
        "PATCH /users/{user_id}", "status", status=422, code="form_param_value_invalid",
        param="first_name", message="It is odd.",
    )  # fmt: skip
    page.goto(LIST)
    skip_to(page, "Skip to the results")
    edit = page.get_by_role("button", name="Edit the name of Mary")
    press_on(page, edit)
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("Mary & Ann")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("It is odd.").wait_for()
    assert edit.evaluate("button => button === document.activeElement")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.value") == "Mary & Ann"
    sandbox.clear_faults()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("Mary Ann Jones")
    page.keyboard.press("Enter")
    page.get_by_text("Saved.", exact=True).wait_for()
    assert stored(user).name == "Mary Ann Jones"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")


def test_a_new_person_is_added_and_invited(page, sandbox):
    page.goto(LIST)
    press_on(page, page.get_by_role("link", name="Add builder user"))
    page.get_by_label("Name:").wait_for()
    tab_to(page, page.get_by_label("Name:"))
    page.keyboard.type("Nora Quist")
    tab_to(page, page.get_by_label("Email:"))
    page.keyboard.type("nora@example.com")
    press_on(page, page.get_by_role("button", name="Save and continue editing"))
    page.get_by_text("An invitation to nora@example.com is open until").wait_for()
    assert "nora@example.com" in focused(page)
    assert [mail["to"] for mail in sandbox.mails()] == ["nora@example.com"]


def test_the_email_of_a_person_is_changed(page, sandbox):
    user = linked(sandbox, email="old@example.com")
    page.goto(page_of(user))
    press_on(page, page.get_by_role("link", name="Change email"))
    page.get_by_label("New email").wait_for()
    tab_to(page, page.get_by_label("New email"))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("new@example.com")
    page.keyboard.press("Enter")
    page.get_by_text("signs in with old@example.com until they accept").wait_for()
    assert "is invited to new@example.com" in focused(page)
    assert stored(user).email == "old@example.com"


def test_a_refresh_that_fails_is_read_out_at_its_button(page, sandbox):
    user = linked(sandbox)
    page.goto(page_of(user))
    sandbox.fault("GET /users/{user_id}", "status", status=503, times=None)
    refresh = page.get_by_role("button", name="Refresh")
    press_on(page, refresh)
    status = page.locator("#panel-status").filter(has_text="Failed to sync with Clerk")
    status.wait_for()
    assert refresh.evaluate("button => button === document.activeElement")
    assert refresh.get_attribute("aria-describedby") == status.get_attribute("id")
