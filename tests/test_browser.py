"""What staff do all day, in a real browser: edit a name, change an email, meet a refusal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.test import Client

from tests.support.change_form import form_of, in_clerk, page_of, stored
from tests.support.factories import BuilderGroupFactory, StaffFactory, change_here, linked
from tests.support.keyboard import tab_to
from tests.support.unknown import the_copy_is_old
from users.models import ClerkAccount, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"


def picture(page, name):
    """With PICTURES=1 the walk leaves the pictures of the README."""
    if os.environ.get("PICTURES"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def test_edit_change_email_and_a_refusal(page, sandbox):
    group = BuilderGroupFactory(name="Cedar Ridge Homes")
    user = linked(
        sandbox, email="mary.smith@example.com", builder_group=group,
        clerk={"password_enabled": True},
    )  # fmt: skip
    blocked = []
    page.on(
        "console",
        lambda message: blocked.append(message.text) if "Content Security" in message.text else "",
    )

    # A name.
    page.goto("/admin/users/builderuser/")
    page.get_by_role("link", name="Mary Ann Smith").click()
    page.get_by_label("Name:").fill("Mary Ann Jones")
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("Saved here and in Clerk.").wait_for()
    assert page.get_by_label("Name:").input_value() == "Mary Ann Jones"
    assert stored(user).name == "Mary Ann Jones"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
    picture(page, "change-form")

    # An email on the form is guarded, and the way is one click.
    assert not page.get_by_label("Email:").is_editable()
    page.get_by_role("link", name="Change email").click()
    page.get_by_label("New email").fill("mary.jones@example.com")
    picture(page, "change-email")
    page.get_by_label("Replace now").check()
    page.get_by_role("button", name="Change email").click()
    page.get_by_text("now signs in with mary.jones@example.com").wait_for()
    assert stored(user).email == "mary.jones@example.com"
    assert sandbox.find("mary.smith@example.com") == []

    # A refusal stands at its field, with the typing kept.
    sandbox.fault(
        "PATCH /users/{user_id}", "status", status=422, code="form_param_value_invalid",
        message="First name contains characters that are not allowed.", param="first_name",
    )  # fmt: skip
    page.get_by_label("Name:").fill("Mary & Ann")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("alert").get_by_text("Invalid update data: First name").wait_for()
    assert page.get_by_label("Name:").input_value() == "Mary & Ann"
    assert stored(user).name == "Mary Ann Jones"
    picture(page, "refusal")
    assert blocked == []


def test_a_conflict_is_decided_by_a_click(page, sandbox):
    user = linked(sandbox)
    page.goto(page_of(user))
    page.get_by_label("Name:").fill("Mary Ann Brown")
    sandbox.edit(user.clerk_id, last_name="Jones")
    change_here(user, name="Mary Ann Jones")
    ClerkAccount.objects.filter(user=user).update(last_name="Jones")  # as an event does
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_role("heading", name="Changed since you opened the form").wait_for()
    picture(page, "conflict")
    page.get_by_role("button", name="Take theirs").press("Enter")
    assert page.get_by_label("Name:").input_value() == "Mary Ann Jones"
    page.get_by_role("button", name="Keep yours").click()
    assert page.get_by_label("Name:").input_value() == "Mary Ann Brown"
    the_copy_is_old(user)  # the save reads Clerk, as it does if a person takes a while to decide
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("Saved here and in Clerk.").wait_for()
    assert stored(user).name == "Mary Ann Brown"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")


def test_a_form_that_cannot_be_compared_keeps_what_is_chosen(page, sandbox):
    user = linked(sandbox)
    page.goto(page_of(user))
    page.evaluate("document.querySelector('[name=version]').value = 'forged'")
    page.get_by_label("Name:").fill("Mary Ann Brown")
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_role("heading", name="What you typed, and what is stored").wait_for()
    assert page.get_by_label("Name:").input_value() == "Mary Ann Smith"
    page.get_by_role("button", name="Keep yours").click()
    assert page.get_by_label("Name:").input_value() == "Mary Ann Brown"
    assert stored(user).name == "Mary Ann Smith"
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("Saved here and in Clerk.").wait_for()
    assert stored(user).name == "Mary Ann Brown"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")


def test_a_conflict_is_decided_field_by_field_without_a_mouse(page, sandbox):
    birch, cedar = BuilderGroupFactory(name="Birch"), BuilderGroupFactory(name="Cedar")
    user = linked(sandbox)
    page.goto(page_of(user))
    page.get_by_label("Name:").fill("Mary Ann Brown")
    chosen = page.get_by_role("textbox", name="Builder group:")
    tab_to(page, page.get_by_role("combobox").filter(has=chosen))
    page.keyboard.press("Enter")
    page.keyboard.type("Birch")
    page.get_by_role("option", name="Birch").wait_for()
    page.keyboard.press("Enter")
    assert page.locator("#id_builder_group").input_value() == str(birch.pk)
    somebody = Client()
    somebody.force_login(StaffFactory(first_name="Kim", last_name="Other"))
    theirs = form_of(user, name="Mary Ann Jones", builder_group=cedar.pk)
    assert somebody.post(page_of(user), theirs).status_code == 302
    when = SyncAttempt.objects.get(status="applied").settled_at

    save = page.get_by_role("button", name="Save and continue editing")
    tab_to(page, save)
    page.keyboard.press("Enter")
    conflict = page.get_by_role("region", name="Changed since you opened the form")
    conflict.get_by_text(f"By Kim Other, {when:%Y-%m-%d %H:%M} UTC").wait_for()
    name, group = conflict.locator("tbody tr").all()
    shown = [cell.evaluate("cell => cell.firstChild.textContent.trim()")
             for row in (name, group) for cell in row.locator("th, td").all()]  # fmt: skip
    assert shown == [
        "Name", "Mary Ann Smith", "Mary Ann Jones", "Mary Ann Brown",
        "Builder group", "—", "Cedar", "Birch",
    ]  # fmt: skip
    assert stored(user).name == "Mary Ann Jones"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")

    for choice in (
        name.get_by_role("button", name="Keep yours"),
        group.get_by_role("button", name="Take theirs"),
    ):
        tab_to(page, choice)
        page.keyboard.press("Enter")
    assert page.get_by_label("Name:").input_value() == "Mary Ann Brown"
    assert "Cedar" in chosen.inner_text()
    tab_to(page, save)
    page.keyboard.press("Enter")
    page.get_by_text("Saved here and in Clerk.").wait_for()
    assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Brown", cedar)
    assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")
