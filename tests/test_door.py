"""The sign-in as it is installed: gunicorn behind the shipped nginx, HTTPS, and a real browser."""

from __future__ import annotations

import http.client
import re
from base64 import b32decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.core import mail
from django.utils import timezone
from django_otp.oath import TOTP

from cascade.middleware import TOO_LARGE
from staff.models import Outcome, ProviderAccount, SignInEvent, Step
from staff.sessions import SEEN_AT
from tests.support import nginx
from tests.support.change_form import page_of, stored
from tests.support.commands import run
from tests.support.factories import BuilderUserFactory, StaffFactory
from tests.support.nginx import unverified
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, DID_NOT_WORK, Provider
from tests.support.patience import PATIENCE, wait_until
from tests.support.server import serving
from tests.support.sign_in import PASSWORD, outcomes, with_password
from tests.support.workers import work

pytestmark = pytest.mark.django_db(transaction=True)

GROUPS = "/admin/users/buildergroup/?q=oak"
NEW = "an entirely new secret"


@pytest.fixture(scope="module")
def door(django_db_setup: None, running_provider: Provider) -> Iterator[int]:
    """The port of nginx, and behind it a production with a provider, mail and two-step sign-in."""
    nginx.found()
    environment = {
        "DEBUG": "",
        "SECRET_KEY": settings.SECRET_KEY,
        "ALLOWED_HOSTS": "127.0.0.1",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_b25seS1mb3ItdGVzdHM=",
        "TRUSTED_PROXY_COUNT": "1",
        "STAFF_MFA": "required",
        "EMAIL_URL": "dummymail://",
        "OIDC_ISSUER": running_provider.issuer,
        "OIDC_CLIENT_ID": CLIENT_ID,
        "OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "OIDC_NAME": "Example & Sons",
        "OIDC_EMAIL_DOMAINS": "example.com",
    }
    with (
        serving("tests.support.production_wsgi", threads=8, **environment) as port,
        nginx.in_front_of(port) as (_, secure),
    ):
        yield secure


@pytest.fixture
def provider(running_provider: Provider) -> Iterator[Provider]:
    running_provider.reset()
    yield running_provider
    running_provider.reset()


@pytest.fixture
def page(chromium, door: int) -> Iterator[Any]:
    """A browser that nobody has signed in with."""
    context = chromium.new_context(base_url=address_of(door), ignore_https_errors=True)
    context.set_default_timeout(120_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def sam(db):
    return with_password(StaffFactory(username="sam", email="sam@example.com"))


def address_of(door: int) -> str:
    return f"https://127.0.0.1:{door}"


def by_company(page) -> None:
    page.get_by_role("link", name="Sign in with Example & Sons").click()
    page.get_by_role("link", name="Continue").click()


def by_password(page, password=PASSWORD) -> None:
    page.get_by_label("Username:").fill("sam")
    page.get_by_label("Password:").fill(password)
    page.get_by_role("button", name="Log in").click()


def with_code(page, code, button="Sign in") -> None:
    page.get_by_label("Code:").fill(code)
    page.get_by_role("button", name=button, exact=True).click()


def sign_out(page) -> None:
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Logged out").wait_for()


def asked(door: int, path: str, *, method="GET", body=None, source="127.0.0.1", **headers: str):
    """Ask without a browser, from an address of this machine; return the answer and its text."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", door, timeout=PATIENCE, context=unverified(), source_address=(source, 0)
    )
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def password_sent(door: int, *, username="sam", password=PASSWORD, **named: str):
    named.setdefault("Origin", address_of(door))
    answer, text = asked(door, "/admin/login/")
    [token] = re.findall('name="csrfmiddlewaretoken" value="([^"]+)"', text)
    form = {"username": username, "password": password, "csrfmiddlewaretoken": token}
    named |= {
        "Cookie": answer.headers["Set-Cookie"].partition(";")[0],
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return asked(door, "/admin/login/", method="POST", body=urlencode(form), **named)


def test_the_first_sign_in_by_the_company_and_the_end_of_the_session(page, door, provider, sam):
    page.goto(GROUPS)
    by_company(page)
    page.wait_for_url(f"**{GROUPS}")
    assert ProviderAccount.objects.get().user == sam
    event = SignInEvent.objects.get()
    assert (event.step, event.outcome, event.address) == (
        Step.PROVIDER, Outcome.SIGNED_IN, "127.0.0.1",
    )  # fmt: skip
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    session = cookies["sessionid"]
    assert (session["secure"], session["httpOnly"], session["sameSite"]) == (True, True, "Lax")
    assert cookies["csrftoken"]["secure"]
    assert "company_sign_in" not in cookies
    answer, _ = asked(door, "/admin/", Cookie=f"sessionid={session['value']}")
    assert (answer.status, answer.headers["Strict-Transport-Security"]) == (
        200, "max-age=31536000",
    )  # fmt: skip
    assert "no-store" in answer.headers["Cache-Control"]

    sign_out(page)
    page.go_back()
    page.get_by_label("Username:").wait_for()
    answer, _ = asked(door, "/admin/", Cookie=f"sessionid={session['value']}")
    assert answer.headers["Location"].startswith("/admin/login/")


def test_who_is_refused_by_one_way_of_signing_in_goes_on_by_the_other(page, provider, sam):
    """The page that was asked for is not forgotten."""
    provider.person = {"sub": "other", "email": "nobody@example.com", "email_verified": True}
    page.goto(GROUPS)
    by_company(page)
    page.get_by_text("No staff user here has your email address.").wait_for()
    assert not ProviderAccount.objects.exists()
    assert outcomes() == [Outcome.REFUSED]
    provider.person = {"sub": "sub-of-sam", "email": "sam@example.com", "email_verified": True}
    by_company(page)
    page.wait_for_url(f"**{GROUPS}")


def test_a_provider_that_is_down_or_hangs_stops_nobody_else(page, door, provider, sam):
    page.goto(GROUPS)
    by_company(page)
    sign_out(page)
    page.goto(GROUPS)
    page.get_by_role("link", name="Sign in with Example & Sons").click()
    page.get_by_role("link", name="Continue").wait_for()
    provider.down = True
    page.get_by_role("link", name="Continue").click()
    page.get_by_text(DID_NOT_WORK).wait_for()
    page.get_by_role("link", name="Sign in with Example & Sons").click()
    page.get_by_text("The company's sign-in does not answer. Try it later.").wait_for()

    provider.down = False
    provider.answers.clear()
    before = len(provider.requests)
    page.goto(GROUPS)
    page.get_by_role("link", name="Sign in with Example & Sons").click(no_wait_after=True)
    wait_until(lambda: len(provider.requests) > before, "the provider is not asked")
    assert asked(door, "/admin/login/")[0].status == 200
    assert not provider.answers.is_set()
    page.get_by_text("The company's sign-in does not answer. Try it later.").wait_for()
    provider.answers.set()
    by_company(page)
    page.wait_for_url(f"**{GROUPS}")


def test_two_step_sign_in_is_set_up_used_and_set_up_again_for_a_lost_phone(page, door, sam):
    page.goto(GROUPS)
    by_password(page)
    app = app_of(page)
    now = app.time = timezone.now().timestamp()
    with_code(page, f"{app.token():06d}", button="Turn on two-step sign-in")
    codes = page.locator(".recovery-codes code").all_inner_texts()
    page.get_by_role("link", name="I have kept the codes").click()
    page.wait_for_url(f"**{GROUPS}")
    sign_out(page)

    app.time = now + 30
    for code in (f"{app.token():06d}", codes[0]):
        page.goto(GROUPS)
        by_password(page)
        page.get_by_label("Code:").wait_for()
        page.goto("/admin/")  # closed before the code
        page.get_by_label("Code:").wait_for()
        page.goto(f"/admin/code/?{urlencode({'next': GROUPS})}")
        with_code(page, code)
        page.wait_for_url(f"**{GROUPS}")
        sign_out(page)

    assert run("reset_two_step", "sam")[0] == 0
    page.goto(GROUPS)
    by_password(page)
    page.get_by_role("button", name="Turn on two-step sign-in").wait_for()
    assert app_of(page).key != app.key


def app_of(page) -> TOTP:
    return TOTP(b32decode(page.locator(".key").inner_text().replace(" ", "")))


def test_no_header_of_a_client_moves_its_wrong_passwords_to_another_address(door, sam):
    colleague = "127.0.0.2"
    for number in range(20):
        password_sent(
            door, username=f"user{number}", password="guess", **{"X-Forwarded-For": colleague}
        )
    assert set(SignInEvent.objects.values_list("network", flat=True)) == {"127.0.0.1"}
    for forged in (colleague, f"203.0.113.7, {colleague}", ""):
        _, text = password_sent(
            door, **{"X-Forwarded-For": forged, "Forwarded": f"for={colleague}"}
        )
        assert "Too many attempts for this network address." in text
    answer, _ = password_sent(door, source=colleague, **{"X-Forwarded-For": "127.0.0.1"})
    assert (answer.status, answer.headers["Location"]) == (302, "/admin/")


def test_a_form_of_another_site_and_a_foreign_host_are_refused(door, sam):
    assert password_sent(door, Origin="https://evil.example")[0].status == 403
    assert password_sent(door, Origin=address_of(door).replace("https", "http"))[0].status == 403
    assert asked(door, "/admin/login/", Host="evil.example")[0].status == 400
    answer, _ = asked(door, "/", **{"X-Forwarded-Host": "evil.example"})
    assert answer.headers["Location"] == "/admin/"
    assert not SignInEvent.objects.exists()


def test_a_forgotten_password_is_set_by_a_link_to_this_site(page, sam):
    page.goto("/admin/login/")
    page.get_by_role("link", name="Forgotten your login credentials?").click()
    page.get_by_label("Email").fill("sam@example.com")
    page.locator("#content input[type=submit]").click()
    page.get_by_role("heading", name="Password reset sent").wait_for()
    work()
    [link] = re.findall(r"https://\S+", mail.outbox[0].body)
    page.goto(link)
    page.get_by_label("New password:").fill(NEW)
    page.get_by_label("Confirm password:").fill(NEW)
    page.locator("#content input[type=submit]").click()
    page.get_by_role("link", name="Log in").click()
    by_password(page, NEW)
    page.get_by_text("You need two-step sign-in before you can go on").wait_for()
    page.goto(link)
    page.get_by_text("The password reset link was invalid").wait_for()


def test_a_session_that_ends_while_somebody_types_loses_nothing(page, provider, sam):
    user = BuilderUserFactory(name="Mary Ann Smith")
    page.goto(page_of(user))
    by_company(page)
    page.get_by_label("Name:").fill("Mary Ann Jones")
    [key] = [one["value"] for one in page.context.cookies() if one["name"] == "sessionid"]
    session = SessionStore(key)
    session[SEEN_AT] = 0
    session.save()
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("Your session has ended. Sign in again.").wait_for()
    assert stored(user).name == "Mary Ann Smith"
    by_company(page)
    page.get_by_text("You were signed out before this was saved.").wait_for()
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("Saved here.").wait_for()
    assert stored(user).name == "Mary Ann Jones"


def test_a_spreadsheet_that_is_too_large_is_refused_in_words(page, provider, sam, tmp_path):
    file = tmp_path / "large.csv"
    file.write_bytes(b"email,name\n" + b"x" * 2**21)
    page.goto("/admin/users/builderuser/bulk/upload/")
    by_company(page)
    page.get_by_label("Spreadsheet:").set_input_files(str(file))
    page.get_by_role("button", name="Show the plan").click()
    page.get_by_text(str(TOO_LARGE)).wait_for()
