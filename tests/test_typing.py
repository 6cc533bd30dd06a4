"""What was typed into a form is not lost when the session ends before it is sent."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.urls import reverse

from staff.sessions import SEEN_AT
from tests.support.change_form import page_of, stored
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    StaffFactory,
    linked,
)
from tests.support.sign_in import PASSWORD, with_password
from users.models import BuilderGroup, BulkRun

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/users/builderuser/"
SIGNED_OUT = "You were signed out before this was saved."
FILLED_IN = "What you typed is filled in again: check it, then send it again."
NOT_KEPT = "Passwords and files are not kept: enter them again."


@pytest.fixture(autouse=True)
def _password(page, staff):
    with_password(staff)
    page.context.clear_cookies()


def opened(page, staff, address):
    page.goto(address)
    sign_in(page, staff)
    page.wait_for_url(f"**{address}")


def sign_in(page, somebody):
    page.get_by_label("Username:").fill(somebody.username)
    page.get_by_label("Password:").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def sent_without_a_session(page, button):
    Session.objects.all().delete()
    page.get_by_role("button", name=button, exact=True).click()
    page.get_by_label("Username:").wait_for()


def kept_in(page) -> str:
    return page.evaluate("JSON.stringify({...sessionStorage})")


def test_a_group_of_builders(page, staff):
    group = BuilderGroupFactory(name="Oak Hill")
    address = reverse("admin:users_buildergroup_change", args=[group.pk])
    opened(page, staff, address)
    page.get_by_label("Name:").fill("Oak Hill Homes")
    sent_without_a_session(page, "Save")
    sign_in(page, staff)
    page.get_by_text(f"{SIGNED_OUT} {FILLED_IN}", exact=True).wait_for()
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/users/buildergroup/")
    assert BuilderGroup.objects.get().name == "Oak Hill Homes"
    page.goto(address)
    assert page.get_by_text("You were signed out").count() == 0


def test_a_form_that_was_saved_is_not_filled_in_after_a_later_sign_in(page, staff):
    group = BuilderGroupFactory(name="Oak Hill")
    address = reverse("admin:users_buildergroup_change", args=[group.pk])
    opened(page, staff, address)
    page.get_by_label("Name:").fill("Oak Hill Homes")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/users/buildergroup/")
    BuilderGroup.objects.update(name="Oak Hill Estate")
    Session.objects.all().delete()
    page.goto(address)
    sign_in(page, staff)
    page.wait_for_url(f"**{address}")
    assert page.get_by_label("Name:").input_value() == "Oak Hill Estate"
    assert page.get_by_text("You were signed out").count() == 0


def test_an_idle_session_leads_back_to_the_form(page, staff):
    """The page that the person was on, and not the home page."""
    address = reverse("admin:users_buildergroup_add") + "?_changelist_filters=q%3Doak"
    opened(page, staff, address)
    page.get_by_label("Name:").fill("Oak Hill Homes")
    [key] = [one["value"] for one in page.context.cookies() if one["name"] == "sessionid"]
    session = SessionStore(key)
    session[SEEN_AT] = 0
    session.save()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("Your session has ended. Sign in again.").wait_for()
    sign_in(page, staff)
    page.wait_for_url(f"**{address}")
    page.get_by_text(SIGNED_OUT).wait_for()
    assert page.get_by_label("Name:").input_value() == "Oak Hill Homes"


def test_the_page_that_changes_an_email(page, staff, sandbox):
    user = linked(sandbox)
    address = reverse("admin:users_builderuser_email", args=[user.pk])
    opened(page, staff, address)
    page.get_by_label("New email").fill("new@example.com")
    page.get_by_label("Replace now").check()
    sent_without_a_session(page, "Change email")
    sign_in(page, staff)
    page.get_by_text(SIGNED_OUT).wait_for()
    assert page.get_by_label("Replace now").is_checked()
    page.get_by_role("button", name="Change email").click()
    page.get_by_text("now signs in with new@example.com").wait_for()
    assert stored(user).email == "new@example.com"


def test_no_password_is_kept(page, staff, sandbox):
    user = linked(sandbox)
    opened(page, staff, reverse("admin:users_builderuser_password", args=[user.pk]))
    for field in page.locator("input[type=password]").all():
        field.fill("correct horse 7")
    sent_without_a_session(page, "Set password")
    assert "correct horse" not in kept_in(page)
    sign_in(page, staff)
    page.get_by_text(f"{SIGNED_OUT} {NOT_KEPT}", exact=True).wait_for()
    assert [one.input_value() for one in page.locator("input[type=password]").all()] == ["", ""]


def test_the_form_of_a_colleague_with_its_groups(page, staff):
    colleague = StaffFactory(first_name="Ann")
    editors = Group.objects.create(name="Editors of texts")
    opened(page, staff, reverse("admin:auth_user_change", args=[colleague.pk]))
    page.get_by_label("First name:").fill("Anna")
    page.locator("#id_groups_from").select_option(label="Editors of texts")
    page.locator(".selector-add").first.click()
    colleague.last_name = "Brown"  # meanwhile, by another person
    colleague.save()
    sent_without_a_session(page, "Save")
    sign_in(page, staff)
    page.get_by_text(SIGNED_OUT).wait_for()
    assert page.get_by_label("Last name:").input_value() == "Brown"
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/auth/user/")
    colleague.refresh_from_db()
    assert (colleague.first_name, colleague.last_name) == ("Anna", "Brown")
    assert list(colleague.groups.all()) == [editors]


def test_a_group_of_staff_with_its_permissions(page, staff):
    opened(page, staff, reverse("admin:auth_group_add"))
    page.get_by_label("Name:").fill("Helpers")
    page.locator("#id_permissions_from option").first.wait_for(state="attached")
    page.locator("#id_permissions_from").select_option(index=0)
    chosen = page.locator("#id_permissions_from").input_value()
    page.locator(".selector-add").first.click()
    sent_without_a_session(page, "Save")
    sign_in(page, staff)
    page.get_by_text(SIGNED_OUT).wait_for()
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/auth/group/")
    made = Group.objects.get(name="Helpers").permissions.values_list("pk", flat=True)
    assert list(made) == [int(chosen)]


def test_a_plan_for_selected_people_is_about_the_same_people_again(page, staff):
    group = BuilderGroupFactory(name="Oak Hill")
    chosen = [BuilderUserFactory(name=name) for name in ("Ann Oak", "Bob Oak")]
    BuilderUserFactory(name="Carl Oak")
    opened(page, staff, f"{LIST}?q=oak")
    for name in ("Ann Oak", "Bob Oak"):
        page.get_by_role("row", name=name).get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option(label="Change the selected people…")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()
    page.get_by_text("2 people").wait_for()
    page.get_by_label(re.compile("Set.*group")).check()
    page.locator(".select2-selection").click()
    page.locator(".select2-search__field").fill("Oak")
    page.get_by_role("option", name="Oak Hill").click()
    sent_without_a_session(page, "Show the plan")
    sign_in(page, staff)

    page.get_by_text(SIGNED_OUT).wait_for()
    page.get_by_text("2 people").wait_for()
    page.get_by_role("button", name="Show the plan").click()
    page.wait_for_url(re.compile(r"/bulk/\d+/"))
    run = BulkRun.objects.get()
    assert {row.user_id for row in run.rows.all()} == {user.pk for user in chosen}
    assert str(group.pk) in str(run.rows.first().changes)


def test_a_plan_for_all_that_is_shown_is_about_the_same_filter(page, staff):
    BuilderUserFactory(name="Ann Oak")
    BuilderUserFactory(name="Carl Elm")
    opened(page, staff, reverse("admin:users_builderuser_bulk") + "?q=oak")
    page.get_by_label(re.compile("Set.*role")).check()
    page.get_by_label("Role", exact=True).select_option("HOMEOWNER")
    sent_without_a_session(page, "Show the plan")
    sign_in(page, staff)
    page.get_by_text(SIGNED_OUT).wait_for()
    page.get_by_text("1 person").wait_for()
    assert page.get_by_label("Role", exact=True).input_value() == "HOMEOWNER"
    page.get_by_role("button", name="Show the plan").click()
    page.wait_for_url(re.compile(r"/bulk/\d+/"))
    assert [row.user.name for row in BulkRun.objects.get().rows.all()] == ["Ann Oak"]


def test_an_upload_says_that_the_file_is_not_kept(page, staff, tmp_path):
    file = tmp_path / "names.csv"
    file.write_text("email,name\nann@example.com,Ann\n")
    opened(page, staff, reverse("admin:users_builderuser_bulk_upload"))
    page.get_by_label("Spreadsheet:").set_input_files(str(file))
    page.get_by_label("Leave out unknown columns").check()
    sent_without_a_session(page, "Show the plan")
    sign_in(page, staff)
    page.get_by_text(f"{SIGNED_OUT} {FILLED_IN} {NOT_KEPT}", exact=True).wait_for()
    assert page.get_by_label("Leave out unknown columns").is_checked()


def test_a_sign_in_in_another_window_keeps_the_typing_of_every_form(page, staff):
    address = reverse("admin:users_buildergroup_add")
    opened(page, staff, address)
    page.get_by_label("Name:").fill("Oak Hill Homes")
    Session.objects.all().delete()
    other_window = page.context.new_page()
    other_window.goto("/admin/")
    sign_in(other_window, staff)
    other_window.get_by_role("heading", name="Builder users and their sign-in").wait_for()
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="Open the page again").click()
    page.get_by_text(SIGNED_OUT).wait_for()
    assert page.get_by_label("Name:").input_value() == "Oak Hill Homes"


def test_a_selection_in_the_list(page, staff):
    user = BuilderUserFactory(name="Ann Oak")
    BuilderUserFactory(name="Bob Oak")
    opened(page, staff, f"{LIST}?q=oak")
    page.get_by_role("row", name="Ann Oak").get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option(label="Change the selected people…")
    Session.objects.all().delete()
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).click()
    page.get_by_label("Username:").wait_for()
    sign_in(page, staff)
    page.get_by_text(SIGNED_OUT).wait_for()
    assert page.url.endswith("?q=oak")
    assert page.locator("input[name=_selected_action]:checked").get_attribute("value") == str(
        user.pk
    )
    assert page_of(user) in page.content()
