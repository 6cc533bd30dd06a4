"""Edits in the cells of the list: the save of the form, shown at once, taken back if refused."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from tests.support.change_form import in_clerk, page_of, stored, submit, text_of
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, change_here, linked
from tests.support.personas import client_who_may
from tests.support.unknown import NOT_CONFIRMED, minutes_pass
from tests.support.user_list import LIST
from users.models import SyncAttempt
from users.sync.outbound import recovery
from users.version import version_of

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "8d8ac610-566d-4ef0-9c22-186b2a5ed793"
REASON = "First name contains characters that are not allowed."


def edit(client, user, field, value, **fields):
    address = reverse("admin:users_builderuser_quick", args=[user.pk])
    sent = {"field": field, "value": value, "version": version_of(user), "token": TOKEN, **fields}
    return client.post(address, sent)


def refuse_names(sandbox):
    sandbox.fault(
        "PATCH /users/{user_id}", "status", status=422, code="form_param_value_invalid",
        param="first_name", message=REASON,
    )  # fmt: skip


def test_a_name_is_saved_here_and_in_clerk(client, sandbox):
    user = linked(sandbox)
    answer = edit(client, user, "name", "  Mary Ann  Jones ")
    assert (answer.status_code, answer.json()["name"]) == (200, "Mary Ann Jones")
    assert (stored(user).name, in_clerk(sandbox, user)) == ("Mary Ann Jones", ("Mary Ann", "Jones"))
    again = edit(
        client, stored(user), "name", "Mary Brown", token="", version=answer.json()["version"]
    )
    assert (again.status_code, stored(user).name) == (200, "Mary Brown")


def test_a_group_is_saved_and_emptied(client, sandbox):
    user, group = BuilderUserFactory(), BuilderGroupFactory()
    assert edit(client, user, "builder_group", str(group.pk)).json()["group"] == group.name
    assert stored(user).builder_group == group
    assert edit(client, stored(user), "builder_group", "", token="").json()["group"] == "—"
    assert stored(user).builder_group is None


def test_the_same_request_twice_is_one_change(client, sandbox):
    user = linked(sandbox)
    for _ in range(2):
        assert edit(client, user, "name", "Mary Ann Jones").status_code == 200
    assert SyncAttempt.objects.count() == 1


def test_a_conflict_leads_to_the_form_and_changes_nothing(client, sandbox):
    user = linked(sandbox)
    change_here(user, name="Mary Ann Brown")
    answer = edit(client, user, "name", "Mary Ann Jones")
    assert answer.status_code == 409
    assert "was changed since the list was loaded" in answer.json()["message"]
    assert answer.json()["form"] == page_of(user)
    assert (stored(user).name, in_clerk(sandbox, user)) == ("Mary Ann Brown", ("Mary Ann", "Smith"))


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [("name", "", "Enter a name."), ("name", "<b>", "cannot hold"),
     ("builder_group", "nonsense", "does not exist any more")],
)  # fmt: skip
def test_a_value_that_is_not_valid_is_refused(client, sandbox, field, value, why):
    user = linked(sandbox)
    answer = edit(client, user, field, value)
    assert (answer.status_code, why in answer.json()["message"]) == (422, True)
    assert stored(user).name == user.name
    assert sandbox.requests() == []


def test_a_conflict_names_who_changed_the_person(client, sandbox, staff):
    user = linked(sandbox)
    submit(client, user, role="HOMEOWNER")
    answer = edit(client, user, "name", "Mary Ann Jones")
    assert f"was changed by {staff.get_full_name()} since" in answer.json()["message"]


def test_the_same_value_again_after_a_refusal_is_sent_again(client, sandbox):
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "status", status=429, code="too_many_requests")
    refused = edit(client, user, "name", "Mary Ann Jones")
    assert (refused.status_code, "Save again in" in refused.json()["message"]) == (422, True)
    again = edit(client, user, "name", "Mary Ann Jones", token=refused.json()["token"])
    assert (again.status_code, stored(user).name) == (200, "Mary Ann Jones")
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")


def test_the_same_value_again_brings_a_change_that_was_not_confirmed(client, sandbox):
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "status", status=503)
    unknown = edit(client, user, "name", "Mary Ann Jones")
    assert NOT_CONFIRMED in unknown.json()["message"]
    again = edit(client, user, "name", "Mary Ann Jones", token=unknown.json()["token"])
    assert (again.status_code, stored(user).name) == (200, "Mary Ann Jones")
    assert set(SyncAttempt.objects.values_list("status", flat=True)) == {"applied"}


def test_a_change_that_is_saved_in_a_cell_is_not_told_as_lost_any_more(client, sandbox, staff):
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "close", times=None)
    edit(client, user, "name", "Mary Ann Jones")
    for _ in range(60):
        minutes_pass(1)
        list(recovery.recover_all())
    sandbox.clear_faults()
    assert "was not saved" in text_of(client.get("/admin/"))
    assert edit(client, user, "name", "Mary Ann Jones", token="").status_code == 200
    assert "was not saved" not in text_of(client.get("/admin/"))


def test_no_other_field_is_saved_in_a_cell(client, sandbox):
    user = linked(sandbox)
    assert edit(client, user, "role", "ADMIN").status_code == 404
    assert stored(user).role == "BUILDER"


def test_a_viewer_gets_no_cells_to_edit(sandbox, db):
    user = linked(sandbox)
    viewer = client_who_may("view_builderuser")
    assert 'class="quick"' not in text_of(viewer.get(LIST))
    assert edit(viewer, user, "name", "Mary Ann Jones").status_code == 403
    assert stored(user).name == user.name


# --- In the browser ------------------------------------------------------------------------------


def type_name(page, user, name):
    page.goto(LIST)
    page.get_by_role("button", name=f"Edit the name of {user.name}").click()
    page.get_by_label("New name").fill(name)
    page.get_by_label("New name").press("Enter")


def test_the_cell_shows_the_new_name_at_once_and_keeps_it(page, sandbox):
    user = linked(sandbox)
    sandbox.latency = 0.5
    type_name(page, user, "Mary Ann Jones")
    expect(page.get_by_role("link", name="Mary Ann Jones")).to_be_visible()
    expect(page.get_by_text("Saving… asking Clerk")).to_be_visible()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert (stored(user).name, in_clerk(sandbox, user)) == ("Mary Ann Jones", ("Mary Ann", "Jones"))
    page.get_by_role("button", name="Edit the name").click()  # with the new edit token
    page.get_by_label("New name").fill("Mary Ann Brown")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert stored(user).name == "Mary Ann Brown"


def test_the_cell_goes_back_with_the_reason_when_clerk_refuses(page, sandbox):
    user = linked(sandbox)
    refuse_names(sandbox)
    type_name(page, user, "Mary & Ann")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(REASON)
    expect(page.locator(".field-shown_name a").first).to_have_text(user.name)
    assert (stored(user).name, in_clerk(sandbox, user)) == (user.name, ("Mary Ann", "Smith"))
    alert.get_by_role("link", name="Open the form").click()
    expect(page).to_have_url(re.compile(page_of(user)))


def test_a_group_is_chosen_in_its_cell(page, sandbox):
    user, group = linked(sandbox), BuilderGroupFactory(name="Cedar Ridge Homes")
    page.goto(LIST)
    page.get_by_role("button", name=f"Edit the group of {user.name}").click()
    page.locator(".quick-editor .select2-selection").click()
    page.locator(".select2-search__field").fill("cedar")
    page.get_by_role("option", name="Cedar Ridge Homes").click()
    page.locator(".quick-editor").get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(page.locator("td.field-group")).to_contain_text("Cedar Ridge Homes")
    assert stored(user).builder_group == group


def test_a_value_that_was_refused_is_typed_again_and_sent(page, sandbox):
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "status", status=429, code="too_many_requests")
    type_name(page, user, "Mary Ann Jones")
    expect(page.get_by_role("alert")).to_contain_text("Save again in")
    page.get_by_role("button", name=f"Edit the name of {user.name}").click()
    expect(page.get_by_label("New name")).to_have_value("Mary Ann Jones")  # the typing is kept
    page.get_by_label("New name").press("Enter")
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert (stored(user).name, in_clerk(sandbox, user)) == ("Mary Ann Jones", ("Mary Ann", "Jones"))


def test_an_answer_that_cannot_be_read_is_not_told_as_not_saved(page, sandbox):
    user = linked(sandbox)

    def lose_the_answer(route):
        route.fetch()
        route.fulfill(status=502, content_type="text/html", body="<h1>Bad Gateway</h1>")

    page.route("**/quick/", lose_the_answer)
    type_name(page, user, "Mary Ann Jones")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("It is not known whether this was saved.")
    assert "not saved" not in alert.text_content()
    assert stored(user).name == "Mary Ann Jones"


def test_a_saved_cell_shows_what_somebody_else_saved_in_the_row(page, sandbox):
    user, cedar = linked(sandbox), BuilderGroupFactory(name="Cedar Ridge Homes")
    page.goto(LIST)
    change_here(user, name="Mary Ann Jones", builder_group=cedar)
    page.get_by_role("button", name=f"Edit the name of {user.name}").click()
    page.get_by_label("New name").fill("Mary Ann Jones")  # as it is stored by now: no conflict
    page.get_by_label("New name").press("Enter")
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(page.locator("td.field-group")).to_contain_text("Cedar Ridge Homes")


def test_a_group_of_the_same_name_is_another_group(page, sandbox):
    one, two = (BuilderGroupFactory(name="Cedar Ridge Homes") for _ in range(2))
    user = linked(sandbox, builder_group=one)
    page.goto(LIST)
    page.get_by_role("button", name=f"Edit the group of {user.name}").click()
    page.evaluate(
        """id => {
            const select = document.querySelector(".quick-editor select");
            select.add(new Option("Cedar Ridge Homes", id, true, true));
        }""",
        str(two.pk),
    )
    page.locator(".quick-editor").get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert stored(user).builder_group == two
