"""The sign-in in a real browser: usable by everybody, on a telephone, without script."""

from __future__ import annotations

import pytest

from tests.support.accessibility import assert_none, violations
from tests.support.factories import StaffFactory
from tests.support.sign_in import PASSWORD, App, with_password

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sam(db, settings):
    settings.PASSWORD_HASHERS = ["tests.support.sign_in.CountingHasher"]
    return with_password(StaffFactory(username="sam", email="sam@example.com"))


@pytest.fixture
def telephone(chromium, live_server):
    """A narrow browser without script, and nobody signed in."""
    context = chromium.new_context(
        base_url=live_server.url,
        viewport={"width": 390, "height": 800},
        java_script_enabled=False,
    )
    context.set_default_timeout(120_000)
    yield context.new_page()
    context.close()


class _Shown:
    """The page that a browser shows, as the helper `App` reads it."""

    def __init__(self, page) -> None:
        self.content = page.content().encode()


def log_in(page) -> None:
    page.goto("/admin/")
    page.get_by_label("Username:").fill("sam")
    page.get_by_label("Password:").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_staff_set_it_up_and_sign_in_on_a_telephone_without_script(telephone, sam, settings):
    settings.STAFF_MFA = "required"
    page = telephone
    log_in(page)
    page.get_by_role("heading", name="Two-step sign-in").wait_for()
    app = App(_Shown(page))
    page.get_by_label("Code:").fill(app.code())
    page.get_by_role("button", name="Turn on two-step sign-in").click()
    page.get_by_role("heading", name="Your recovery codes").wait_for()
    page.get_by_role("link", name="I have kept the codes").click()
    page.get_by_role("heading", name="Builder users and their sign-in").wait_for()
    page.get_by_role("button", name="Log out").click()
    log_in(page)
    page.get_by_label("Code:").fill(app.code(later=1))
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="Builder users and their sign-in").wait_for()


def test_the_pages_pass_axe_and_fit_a_telephone(page, sam, company, settings):
    found = []

    def look() -> None:
        found.extend(violations(page))
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            if page.evaluate("document.documentElement.scrollWidth") > width:
                found.append(f"{page.url} is wider than {width}")

    page.context.clear_cookies()
    page.goto("/admin/")
    look()
    page.get_by_role("link", name="Forgotten your login credentials?").click()
    look()
    page.get_by_label("Email address:").fill("sam@example.com")
    page.get_by_role("button", name="Reset my password").click()
    page.get_by_role("heading", name="Password reset sent").wait_for()
    look()
    for _ in range(6):
        page.goto("/admin/")
        page.get_by_label("Username:").fill("nobody")
        page.get_by_label("Password:").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.locator(".errornote").wait_for()
    look()
    log_in(page)
    page.get_by_role("link", name="Two-step sign-in").click()
    look()
    app = App(_Shown(page))
    page.get_by_label("Code:").fill("000000")
    page.get_by_role("button", name="Turn on two-step sign-in").click()
    page.locator(".errorlist").wait_for()
    look()
    page.get_by_label("Code:").fill(app.code())
    page.get_by_role("button", name="Turn on two-step sign-in").click()
    page.get_by_role("link", name="I have kept the codes").wait_for()
    look()
    page.get_by_role("link", name="I have kept the codes").click()
    page.goto("/admin/two-step/")
    look()
    for address in ("signinevent", "provideraccount"):
        page.goto(f"/admin/staff/{address}/")
        look()
    page.get_by_role("button", name="Log out").click()
    log_in(page)
    page.get_by_label("Code:").fill("000000")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.locator(".errornote").wait_for()
    look()
    assert_none(found)
