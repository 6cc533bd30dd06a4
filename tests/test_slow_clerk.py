"""Clerk takes five seconds: what the pages say meanwhile, what is locked, and what is kept.

Clerk answers when the test says so, and the clock of the page goes when the test moves it.
"""

from __future__ import annotations

import pytest

from tests.support.change_form import in_clerk, page_of, stored
from tests.support.factories import linked
from tests.support.patience import PATIENCE, wait_until
from tests.support.stopped_clock import StoppedClock
from tests.support.user_list import LIST

pytestmark = pytest.mark.django_db(transaction=True)

RENAME = "PATCH /users/{user_id}"
BEFORE = "Saving asks Clerk first, and changes the name in their account too."
NOT_YET = "Clerk has not answered yet. This page shows how the change ends."


@pytest.fixture
def clock(page, sandbox, settings):
    settings.CLERK_EDIT_DEADLINE = PATIENCE  # Clerk is slow, and answers in time
    return StoppedClock(page)


def test_the_form_says_that_it_works_then_that_clerk_is_slow_then_how_it_ended(
    page, clock, sandbox
):
    user = linked(sandbox)
    page.goto(page_of(user))
    page.get_by_label("Name:").fill("Mary Ann Jones")
    sandbox.fault(RENAME, "delay", seconds=None)
    page.get_by_role("button", name="Save and continue editing").click(no_wait_after=True)
    wait_until(sandbox.writes, "Clerk is asked")

    at_once = clock.pass_on(300)
    assert at_once["told"] == [BEFORE, "Saving… asking Clerk"]
    assert at_once["seen"] == []
    assert at_once["buttons"].keys() >= {"Save", "Saving… asking Clerk"}
    assert not any(at_once["buttons"].values())
    assert at_once["name"] == "Mary Ann Jones"

    late = clock.pass_on(2200, again="#builderuser_form")
    assert late["seen"] == [NOT_YET]
    assert set(late["told"]) == {BEFORE, "Saving… asking Clerk", NOT_YET}
    assert (late["buttons"], late["name"]) == (at_once["buttons"], "Mary Ann Jones")
    assert stored(user).name == "Mary Ann Smith"

    sandbox.clear_faults()  # Clerk answers after five seconds
    page.get_by_text("Saved here and in Clerk.").wait_for()
    ended = clock.pass_on(5500)
    assert (ended["seen"], ended["name"]) == ([], "Mary Ann Jones")
    assert ended["buttons"]["Save and continue editing"]
    assert stored(user).name == "Mary Ann Jones"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
    assert len(sandbox.writes()) == 1


def test_an_action_says_that_it_asks_clerk_and_is_sent_once(page, clock, sandbox):
    user = linked(sandbox)
    page.goto(page_of(user).replace("/change/", "/ban/"))
    sandbox.fault("POST /users/{user_id}/ban", "delay", seconds=None)
    page.get_by_role("button", name="Ban").click(no_wait_after=True)
    wait_until(sandbox.writes, "Clerk is asked")
    assert clock.pass_on(300)["buttons"] == {"Asking Clerk…": False}
    assert clock.pass_on(2200)["seen"] == [NOT_YET]
    sandbox.clear_faults()
    page.get_by_text(f"{user} is banned.").wait_for()
    assert [account["banned"] for account in sandbox.users()] == [True]
    assert len(sandbox.writes()) == 1


def test_a_cell_of_the_list_shows_the_new_name_and_is_locked_until_clerk_answers(
    page, clock, sandbox
):
    user = linked(sandbox)
    page.goto(LIST)
    page.get_by_role("button", name="Edit the name of Mary").click()
    page.get_by_label("New name").fill("Mary Ann Jones")
    sandbox.fault(RENAME, "delay", seconds=None)
    page.get_by_label("New name").press("Enter")
    wait_until(sandbox.writes, "Clerk is asked")
    buttons = page.locator("#result_list .quick-button").all()
    for milliseconds in (300, 2200):
        clock.pass_on(milliseconds)
        assert page.get_by_role("link", name="Mary Ann Jones").is_visible()
        assert page.get_by_text("Saving… asking Clerk").is_visible()
        assert [button.is_disabled() for button in buttons] == [True] * len(buttons)
    assert stored(user).name == "Mary Ann Smith"
    sandbox.clear_faults()
    page.get_by_text("Saved.", exact=True).wait_for()
    assert all(button.is_enabled() for button in buttons)
    assert stored(user).name == "Mary Ann Jones"
