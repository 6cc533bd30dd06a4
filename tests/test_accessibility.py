"""Every page can be used by everybody: axe finds nothing serious or critical on it, in light
and dark, and no page of the admin is wider than a telephone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils import timezone

from sandbox import Sandbox
from tests.support.accessibility import assert_none, violations
from tests.support.change_form import page_of
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    SyncAttemptFactory,
    change_here,
    linked,
)
from users.models import ClerkAccount, EventCheck

pytestmark = pytest.mark.django_db(transaction=True)


def names_of_pages():
    lists = ("builderuser", "buildergroup", "clerkaccount", "syncattempt", "invitation",
             "webhookdelivery", "bulkrun")  # fmt: skip
    return ["/admin/", "/admin/users/", "/admin/users/builderuser/add/",
            "/admin/users/buildergroup/add/", "/admin/password_change/",
            *(f"/admin/users/{name}/" for name in lists)]  # fmt: skip


def test_the_admin(page, sandbox):
    group = BuilderGroupFactory()
    user, unlinked = linked(sandbox, builder_group=group), BuilderUserFactory()
    ClerkAccount.objects.filter(user=user).update(
        last_name="Brown", banned=True, locked=True, two_factor_enabled=True, note="Look at it."
    )
    attempt = SyncAttemptFactory(user=user, changes={"name": ["Mary Ann Smith", "Bob"]})
    beside = ("email", "password", "delete", "history", "link", "ban", "unban", "unlock",
              "reset_mfa", "sign_out", "unlink", "invite")  # fmt: skip
    pages = [
        *names_of_pages(),
        "/admin/users/builderuser/?q=nobody&role=ADMIN&clerk=differs",
        page_of(user),
        page_of(unlinked),
        *(reverse(f"admin:users_builderuser_{name}", args=[user.pk]) for name in beside),
        *(reverse(f"admin:users_builderuser_{name}", args=[unlinked.pk])
          for name in ("password", "link", "email", "delete")),
        reverse("admin:users_buildergroup_change", args=[group.pk]),
        reverse("admin:users_buildergroup_delete", args=[group.pk]),
        reverse("admin:users_clerkaccount_change", args=[quote(user.clerk_id)]),
        reverse("admin:users_syncattempt_change", args=[attempt.pk]),
    ]  # fmt: skip
    found = []
    for address in pages:
        assert page.goto(address).status == 200
        found += violations(page)
    assert_none(found)


def test_refusals_and_conflicts(page, sandbox):
    user = linked(sandbox)
    found = []

    def save(**typed):
        page.goto(page_of(user))
        for label, value in typed.items():
            page.get_by_label(f"{label}:", exact=True).fill(value)
        yield
        page.get_by_role("button", name="Save", exact=True).click()
        page.locator(".errornote").wait_for()
        found.extend(violations(page))

    sandbox.fault("PATCH /users/{user_id}", "status", status=422, code="x", param="first_name",
                  message="It is odd.")  # fmt: skip
    list(save(Name="Mary & Ann"))
    for _ in save(Name="Mary Ann Brown"):
        change_here(user, name="Mary Ann Jones")
    for _ in save(Name="Mary Ann Brown"):
        page.evaluate("document.querySelector('[name=version]').value = 'forged'")
    assert_none(found)


def test_what_is_not_certain_and_what_is_told_later(page, staff, sandbox):
    user = linked(sandbox)
    fields = {"user": user, "actor": staff, "changes": {"name": ["Mary Ann Smith", "Bob"]}}
    SyncAttemptFactory(**fields, late_until=timezone.now() + timedelta(hours=1), message="Later.")
    SyncAttemptFactory(**fields, message="Clerk holds a third name.")
    for status in ("applied", "dropped", "unproven"):
        SyncAttemptFactory(
            **fields, status=status, unseen=True, settled_at=timezone.now(), message="Look at it."
        )
    found = []
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for address in ("/admin/", page_of(user)):
            page.goto(address)
            found += violations(page)
            wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            found += [f"{address} is wider than {width}"] if wide else []
    assert_none(found)


def test_missing_events_and_users_not_checked_lately(page, sandbox):
    user = linked(sandbox)
    now = timezone.now()
    EventCheck.objects.create(pk=1, checked_at=now, missed_since=now, missed_at=now, missed=3)
    ClerkAccount.objects.update(seen_at=now - timedelta(days=30))
    found = []
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for address in ("/admin/", page_of(user), "/admin/users/builderuser/?checked=not_lately"):
            page.goto(address)
            found += violations(page)
            wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            found += [f"{address} is wider than {width}"] if wide else []
    assert_none(found)


def test_messages_and_many_at_once(page, sandbox):
    linked(sandbox)
    BuilderUserFactory()
    page.goto("/admin/users/builderuser/")
    for box in page.locator("input.action-select").all():
        box.check()
    page.get_by_label("Action:").select_option("change_many")
    page.get_by_role("button", name="Go").click()
    found = violations(page)
    page.goto("/admin/users/builderuser/")
    page.get_by_role("button", name="Go").click()
    page.locator(".messagelist").wait_for()
    assert_none(found + violations(page))


def test_the_login(page, sandbox):
    page.context.clear_cookies()
    page.goto("/admin/")
    found = violations(page)
    page.get_by_label("Username:").fill("nobody")
    page.get_by_label("Password:").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    page.locator(".errornote").wait_for()
    assert_none(found + violations(page))


def test_the_sandbox(page, sandbox: Sandbox):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary")
    site = sandbox.url.removesuffix("/v1")
    found = []
    for path in ("/", "/inbox", "/webhooks", "/faults", "/requests", f"/users/{user['id']}"):
        assert page.goto(site + path).status == 200
        found += violations(page)
    assert_none(found)


def test_no_page_is_wider_than_a_telephone(page, sandbox):
    user, unlinked = (
        linked(sandbox, email="a.rather.long.address@example.com"),
        BuilderUserFactory(),
    )
    ClerkAccount.objects.filter(user=user).update(last_name="Brown")
    page.set_viewport_size({"width": 390, "height": 800})
    wide = {}
    for address in (*names_of_pages(), page_of(user), page_of(unlinked),
                    page_of(user).replace("change", "email"),
                    page_of(user).replace("change", "password")):  # fmt: skip
        page.goto(address)
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > 390:
            wide[address] = width
    assert wide == {}
