"""The key and a new password reach Clerk and nothing else: no page, log, report, table."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
from django.core.signals import got_request_exception
from django.db import connection
from django.urls import reverse
from django.views.debug import ExceptionReporter

from sandbox import Sandbox
from tests.support.addresses import World, patterns
from tests.support.change_form import form_of, page_of
from tests.support.commands import run
from tests.support.factories import linked
from users.sync.outbound import checkpoints

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "sk_test_aVerySecretKeyOfClerk"
PASSWORD = "a very secret phrase 73"

FAULTS = {
    "none": {},
    "too short for Clerk": {"kind": "status", "status": 422, "code": "form_password_pwned",
                            "param": "password", "message": "Choose another one."},
    "key refused": {"kind": "status", "status": 401, "code": "clerk_key_invalid"},
    "server error": {"kind": "status", "status": 500},
    "page of a proxy": {"kind": "html"},
    "reset": {"kind": "reset"},
    "applied, then unreadable": {"kind": "broken_json", "apply": True},
}  # fmt: skip


@pytest.fixture
def secret_sandbox(settings) -> Iterator[Sandbox]:
    sandbox = Sandbox(secret_key=KEY).start()
    settings.CLERK_API_URL, settings.CLERK_SECRET_KEY = sandbox.url, KEY
    yield sandbox
    sandbox.stop()


@pytest.fixture
def logged(caplog) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that any logger says, however little of it is usually kept."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


def password_page(user):
    return reverse("admin:users_builderuser_password", args=[user.pk])


def password_form():
    return {"password1": PASSWORD, "password2": PASSWORD, "sign_out": "on"}


def everything_stored() -> str:
    """Every row of every table, as text."""
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        rows = []
        for table in tables:
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            rows += [row for (row,) in cursor.fetchall()]
    return "\n".join(rows)


def assert_clean(text: str) -> None:
    assert KEY not in text
    assert PASSWORD not in text


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_password_stays_between_the_form_and_clerk(client, secret_sandbox, logged, fault):
    user = linked(secret_sandbox)
    if fault:
        secret_sandbox.fault("PATCH /users/{user_id}", **fault)
    pages = [client.post(password_page(user), password_form(), follow=True)]
    [write] = secret_sandbox.writes()
    assert write.body["password"] == "(set)"  # it did reach Clerk
    pages += [
        client.get(page_of(user)),
        client.get(reverse("admin:users_syncattempt_changelist")),
        client.get(reverse("admin:users_builderuser_history", args=[user.pk])),
        client.get("/readyz/"),
    ]
    for page in pages:
        assert page.status_code == 200
        assert_clean(page.content.decode())
    assert_clean(logged.text)
    assert_clean(everything_stored())


@pytest.fixture
def crash_at():
    """Makes a save crash at a named step, as a mistake in the code would."""
    receivers = []

    def crash_at(step: str) -> None:
        def crash(sender, **reached):
            if reached["step"] == step:
                raise Crash

        receivers.append(crash)
        checkpoints.reached.connect(crash)

    yield crash_at
    for crash in receivers:
        checkpoints.reached.disconnect(crash)


class Crash(Exception):
    """A mistake in the code."""


@pytest.fixture
def reports():
    """The report of each unhandled exception, as mails to administrators hold it."""
    texts = []

    def report(sender, request, **details):
        reporter = ExceptionReporter(request, *sys.exc_info())
        texts.extend([reporter.get_traceback_text(), reporter.get_traceback_html()])

    got_request_exception.connect(report)
    yield texts
    got_request_exception.disconnect(report)


@pytest.mark.parametrize("step", checkpoints.STEPS)
def test_a_crash_reports_neither(client, secret_sandbox, logged, crash_at, reports, step):
    user = linked(secret_sandbox)
    crash_at(step)
    with pytest.raises(Crash):
        client.post(password_page(user), password_form())
    assert all("dual_write.py" in report for report in reports)
    assert len(reports) == 2
    for text in reports:
        assert_clean(text)
    assert_clean(everything_stored())


def test_the_debug_page_of_a_crash_shows_neither(
    client, secret_sandbox, settings, crash_at, logged
):
    settings.DEBUG = True
    client.raise_request_exception = False
    user = linked(secret_sandbox)
    crash_at(checkpoints.AFTER_CALL)
    for page, form in (
        (password_page(user), password_form()),
        (page_of(user), form_of(user, name="Mary Ann Jones")),
    ):
        response = client.post(page, form)
        assert response.status_code == 500
        assert "Crash" in response.content.decode()
        assert_clean(response.content.decode())
    assert_clean(logged.text)


# --- A planted set of secrets, on every page -----------------------------------------------------

PLANTED = {
    "SECRET_KEY": "planted-key-of-django-" + "s" * 40,
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_cGxhbnRlZC13ZWJob29rLXNlY3JldA==",
    "the database's password": "planted-password-of-the-database",
    "CLERK_SECRET_KEY": KEY,
    "a password": PASSWORD,
}


@pytest.fixture
def planted(client, staff, secret_sandbox, settings, monkeypatch):
    """A user whose password was set and refused, with every secret of the settings planted."""
    settings.SECRET_KEY = PLANTED["SECRET_KEY"]
    settings.CLERK_WEBHOOK_SIGNING_SECRET = PLANTED["CLERK_WEBHOOK_SIGNING_SECRET"]
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", PLANTED["the database's password"])
    client.force_login(staff)  # sessions are signed with the key
    world = World(secret_sandbox)
    user = world.objects["users.builderuser"]
    secret_sandbox.fault("PATCH /users/{user_id}", **FAULTS["too short for Clerk"])
    client.post(password_page(user), password_form())
    client.post(reverse("clerk_webhook"), {"not": "signed"}, content_type="application/json")
    return world


def found_in(text: str) -> list[str]:
    return [name for name, secret in PLANTED.items() if secret in text]


def test_no_page_shows_a_planted_secret(client, planted, logged):
    for key, pattern in patterns():
        if key != "logout":
            page = client.get(planted.address(pattern))
            assert found_in(page.getvalue().decode()) == [], pattern
    assert found_in(logged.text) == []
    assert found_in(everything_stored()) == []


@pytest.mark.parametrize("debug", [True, False])
def test_no_report_of_a_crash_shows_a_planted_secret(
    client, planted, logged, settings, crash_at, reports, debug
):
    settings.DEBUG = debug
    client.raise_request_exception = False
    user = planted.objects["users.builderuser"]
    crash_at(checkpoints.AFTER_ATTEMPT)
    page = client.post(password_page(user), password_form())
    assert page.status_code == 500
    assert len(reports) == 2
    assert [found_in(text) for text in (page.content.decode(), *reports, logged.text)] == [[]] * 4


def test_no_command_says_a_planted_secret(planted):
    for command in (("clerk_check",), ("clerk_diff", "--refresh"), ("clerk_recover",), ("runs",)):
        assert found_in(run(*command)[1]) == [], command
