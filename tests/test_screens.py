"""Every state of the desk: axe finds nothing on it, and no page is wider than its window, light and
dark, at a desk and on a phone. With SCREENSHOTS=folder, a picture of each is left there."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.support.accessibility import found_in
from tests.support.change_form import page_of
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    SyncAttemptFactory,
    change_here,
    linked,
)
from tests.support.personas import staff_who_may
from users.models import BulkRow, ClerkAccount, Invitation, OperationKind, Source

pytestmark = pytest.mark.django_db(transaction=True)

FOLDER = os.environ.get("SCREENSHOTS")
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
BULK = "/admin/users/builderuser/bulk/"
ADD = "/admin/users/builderuser/add/"


def url(name, user):
    return reverse(f"admin:users_builderuser_{name}", args=[user.pk])


def person(sandbox, **fields):
    """A person with a history, in a group."""
    user = linked(
        sandbox,
        email="mary.smith@example.com",
        builder_group=BuilderGroupFactory(name="Cedar Ridge Homes"),
        clerk={"password_enabled": True},
        **fields,
    )
    now = timezone.now()
    SyncAttemptFactory(
        user=user, status="applied", settled_at=now, changes={"name": ["Mary Smith", str(user)]}
    )
    SyncAttemptFactory(
        user=user, status="refused", settled_at=now, changes={"name": [str(user), "Mary & Ann"]},
        message="Invalid update data: First name contains characters that are not allowed.",
    )  # fmt: skip
    SyncAttemptFactory(
        user=user, status="applied", settled_at=now, operation=OperationKind.FOLLOW,
        source=Source.WEBHOOK, actor=None, changes={"name": ["Mary Smit", "Mary Smith"]},
    )  # fmt: skip
    return user


def save(page, **typed):
    for label, value in typed.items():
        page.get_by_label(f"{label}:", exact=True).fill(value)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("alert").wait_for()


def home(page, sandbox, staff):
    user = person(sandbox)
    SyncAttemptFactory(user=user, actor=staff, message="Clerk holds a third name.")
    SyncAttemptFactory(
        user=user, actor=staff, status="dropped", unseen=True, settled_at=timezone.now(),
        changes={"name": [str(user), "Bob"]}, message="Clerk never took it.",
    )  # fmt: skip
    change_here(linked(sandbox, email="other@example.com"), name="Somebody Else")
    Invitation.objects.create(
        user=BuilderUserFactory(), email="new@example.com", purpose="new_account",
        expires_at=timezone.now() + timedelta(days=3),
    )  # fmt: skip
    page.goto("/admin/")


def home_of_a_new_installation(page, sandbox, staff):
    page.goto("/admin/")


def form(page, sandbox, staff):
    page.goto(page_of(person(sandbox)))


def form_of_a_viewer(page, sandbox, staff):
    user = person(sandbox)
    viewer = staff_who_may("users.view_builderuser")
    page.context.clear_cookies()
    sign_in(page, viewer)
    page.goto(page_of(user))


def form_without_an_account(page, sandbox, staff):
    page.goto(page_of(BuilderUserFactory()))


def form_that_does_not_match(page, sandbox, staff):
    user = person(sandbox)
    change_here(user, name="Mary Ann Jones", email="mary.jones@example.com")
    page.goto(page_of(user))


def form_with_values_that_cannot_be_copied(page, sandbox, staff):
    user = person(sandbox)
    change_here(user, name="Mary Ann Jones", email="mary.jones@example.com")
    BuilderUserFactory(name="Ann Jones", email="mary.smith@example.com")
    SyncAttemptFactory(
        user=user, actor=staff, changes={"role": ["BUILDER", "HOMEOWNER"]}, message="It waits."
    )
    page.goto(page_of(user))


def form_of_a_banned_person(page, sandbox, staff):
    user = person(sandbox)
    ClerkAccount.objects.filter(user=user).update(
        banned=True, locked=True, two_factor_enabled=True, note="Look at it."
    )
    page.goto(page_of(user))


def form_with_pending_changes(page, sandbox, staff):
    user = person(sandbox)
    fields = {"user": user, "actor": staff, "changes": {"name": [str(user), "Bob"]}}
    SyncAttemptFactory(**fields, late_until=timezone.now() + timedelta(hours=1), message="Later.")
    SyncAttemptFactory(**fields, message="Clerk holds a third name.")
    page.goto(page_of(user))


def form_refused(page, sandbox, staff):
    sandbox.fault(
        "PATCH /users/{user_id}", "status", status=422, code="form_param_value_invalid",
        param="first_name", message="First name contains characters that are not allowed.",
    )  # fmt: skip
    page.goto(page_of(person(sandbox)))
    save(page, Name="Mary & Ann")


def form_that_clerk_did_not_answer(page, sandbox, staff):
    sandbox.fault("PATCH /users/{user_id}", "status", status=503)
    page.goto(page_of(person(sandbox)))
    save(page, Name="Mary Ann Jones")


def form_in_conflict(page, sandbox, staff):
    user = person(sandbox)
    page.goto(page_of(user))
    sandbox.edit(user.clerk_id, last_name="Jones")
    change_here(user, name="Mary Ann Jones", role="ADMIN")
    save(page, Name="Mary Ann Brown")


def form_that_cannot_be_compared(page, sandbox, staff):
    page.goto(page_of(person(sandbox)))
    page.evaluate("document.querySelector('[name=version]').value = 'forged'")
    save(page, Name="Mary Ann Brown")


def add(page, sandbox, staff):
    page.goto(ADD)


def add_refused(page, sandbox, staff):
    page.goto(ADD)
    save(page, Name="", Email="not an address")


def change_email(page, sandbox, staff):
    page.goto(url("email", person(sandbox)))


def change_email_refused(page, sandbox, staff):
    page.goto(url("email", person(sandbox)))
    page.get_by_label("New email").fill("mary.smith@example.com")
    page.get_by_role("button", name="Change email").click()
    page.get_by_role("alert").wait_for()


def set_password_refused(page, sandbox, staff):
    page.goto(url("password", person(sandbox)))
    page.get_by_label("New password").fill("one")
    page.get_by_label("Confirm password").fill("another")
    page.get_by_role("button", name="Set password").click()
    page.get_by_role("alert").wait_for()


def sessions(page, sandbox, staff):
    user = person(sandbox)
    for _ in range(2):
        sandbox.sign_in(user.clerk_id)
    page.goto(url("sessions", user))
    page.get_by_role("button", name="Sign out on").first.wait_for()


def changes(page, sandbox, staff):
    person(sandbox)
    page.goto("/admin/users/syncattempt/")


def ban(page, sandbox, staff):
    page.goto(url("ban", person(sandbox)))


def delete(page, sandbox, staff):
    page.goto(url("delete", person(sandbox)))


def copy_an_email(page, sandbox, staff):
    user = person(sandbox)
    change_here(user, email="mary.jones@example.com")
    page.goto(reverse("admin:users_builderuser_push", args=[user.pk, "email"]))


def people(page, sandbox, staff):
    user = person(sandbox)
    for name, status in (("No Account", "waiting"), ("Ann Invited", "pending")):
        invited = BuilderUserFactory(name=name)
        Invitation.objects.create(user=invited, email=invited.email, status=status)
    page.goto("/admin/users/builderuser/")
    page.get_by_role("button", name=f"Edit the name of {user.name}").wait_for()


def people_with_a_cell_open(page, sandbox, staff):
    people(page, sandbox, staff)
    page.get_by_role("button", name="Edit the group of Mary").click()
    page.get_by_role("button", name="Edit the name of No").click()


def people_with_a_cell_that_went_back(page, sandbox, staff):
    sandbox.fault("PATCH /users/{user_id}", "status", status=503)
    people(page, sandbox, staff)
    page.get_by_role("button", name="Edit the name of Mary").click()
    page.get_by_label("New name").fill("Mary Ann Jones")
    page.get_by_label("New name").press("Enter")
    page.get_by_role("alert").wait_for()


def bulk(page, sandbox, staff):
    for name in ("Mary Smith", "Noor Patel"):
        linked(sandbox, name=name)
    page.goto(f"{BULK}?role=BUILDER")


def bulk_refused(page, sandbox, staff):
    bulk(page, sandbox, staff)
    page.get_by_label("Set group").check()
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_role("alert").wait_for()


def bulk_plan(page, sandbox, staff):
    BuilderUserFactory(name="No Account")
    bulk(page, sandbox, staff)
    page.get_by_label("Delete").check()
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_label("To confirm").wait_for()


def bulk_run(page, sandbox, staff):
    bulk(page, sandbox, staff)
    page.get_by_label("Ban", exact=True).check()
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_role("button", name="Ban: 2 changes").click()
    page.get_by_role("button", name="Pause").wait_for()
    BulkRow.objects.filter(position=0).update(state="failed", reason="Clerk refused it.")
    page.goto(page.url)


def upload(page, sandbox, staff):
    page.goto(f"{BULK}upload/")


def upload_refused(page, sandbox, staff):
    upload(page, sandbox, staff)
    file = {"name": "fixes.csv", "mimeType": "text/csv", "buffer": b"email,role\na@b.c,BOSS\n"}
    page.get_by_label("Spreadsheet").set_input_files(file)
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_role("alert").wait_for()


def staff_user_refused(page, sandbox, staff):
    page.goto("/admin/auth/user/add/")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("alert").wait_for()


STATES = (
    home, home_of_a_new_installation, form, form_of_a_viewer, form_without_an_account,
    form_that_does_not_match, form_with_values_that_cannot_be_copied, form_of_a_banned_person,
    form_with_pending_changes, form_refused,
    form_that_clerk_did_not_answer, form_in_conflict, form_that_cannot_be_compared, add,
    add_refused, change_email, change_email_refused, set_password_refused, sessions, changes, ban,
    delete, copy_an_email, people, people_with_a_cell_open, people_with_a_cell_that_went_back, bulk,
    bulk_refused, bulk_plan, bulk_run, upload, upload_refused,
    staff_user_refused,
)  # fmt: skip


def sign_in(page, somebody):
    client = Client()
    client.force_login(somebody)
    cookie = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": page.base}])


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_everybody_can_use_the_page(state, page, live_server, sandbox, staff):
    page.base = live_server.url
    state(page, sandbox, staff)
    wrong = []
    for scheme in ("light", "dark"):
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            if FOLDER:
                Path(FOLDER).mkdir(parents=True, exist_ok=True)
                name = f"{state.__name__}-{scheme}-{size}.png"
                page.screenshot(path=Path(FOLDER) / name, full_page=True)
            wrong += [
                f"{scheme} {size} {found['id']}: {node['html'][:160]}"
                for found in found_in(page, scheme)
                for node in found["nodes"]
            ]
            if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                wrong.append(f"{scheme}: wider than {width}")
    if "refused" in state.__name__ or "conflict" in state.__name__:
        assert page.title().startswith("Error:")
        focused = page.evaluate("document.activeElement.id")
        assert focused == "message"
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
