"""The log says what happened and where, and nobody's values."""

from __future__ import annotations

import io
import json
import logging

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client

from cascade.logs import JsonLines, WithoutValues
from tests.support.change_form import submit
from tests.support.events import happened, post
from tests.support.factories import BuilderUserFactory, StaffFactory, linked
from users.models import BuilderUser, SyncAttempt, WebhookDelivery
from users.sync.inbound import events

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log():
    """What the handler of the settings writes."""
    [handler] = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler.formatter, WithoutValues)
    ]
    written = io.StringIO()
    before = handler.setStream(written)
    yield written
    handler.setStream(before)


@pytest.fixture
def lines(log, monkeypatch, caplog):
    """Return what is written outside DEBUG, parsed: each line is one document."""
    root = logging.getLogger()
    [handler] = [one for one in root.handlers if isinstance(one.formatter, WithoutValues)]
    monkeypatch.setattr(handler, "formatter", JsonLines())
    caplog.set_level(logging.INFO)
    return lambda: [json.loads(line) for line in log.getvalue().splitlines()]


def test_an_event_that_meets_a_unique_key_logs_no_address(sandbox, monkeypatch, log):
    user = linked(sandbox)
    [event] = happened(sandbox)[:1]

    def take_the_address(effects) -> None:
        BuilderUser.objects.create(name="Twin", email=user.email)

    monkeypatch.setattr(events, "apply", take_the_address)
    assert post(sandbox, event).status_code == 200
    assert "IntegrityError" in WebhookDelivery.objects.get().error
    said = log.getvalue()
    assert "users_email_lower_unique" in said
    assert "in take_the_address" in said
    assert user.email not in said


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO users SELECT * FROM users",
        "UPDATE users SET id = 'ann@example.com'",
        "SELECT 'ann@example.com'::int",
        "SELECT 'ann@example.com' FORM users u",
        "UPDATE users SET name = NULL",
        "DO $$ BEGIN RAISE EXCEPTION 'Not for ann@example.com'; END $$",
    ],
)
def test_no_error_of_a_statement_logs_a_value(log, statement):
    BuilderUserFactory(email="ann@example.com")
    logger = logging.getLogger("users")
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    except DatabaseError as error:
        logger.exception("It failed with %s", error)
        logger.exception("In a group", exc_info=ExceptionGroup("two", [error, ValueError("other")]))
    said = log.getvalue()
    assert "SQLSTATE" in said
    assert "other" in said
    assert "ann@example.com" not in said


def test_what_the_driver_says_is_kept(log):
    try:
        connection.close()
        with connection.cursor() as cursor:
            connection.connection.close()
            cursor.execute("SELECT 1")
    except DatabaseError:
        logging.getLogger("users").exception("It failed")
    finally:
        connection.close()
    assert "the connection is closed" in log.getvalue()


def test_a_save_is_logged_with_its_request_actor_and_attempt(client, staff, sandbox, lines):
    user = linked(sandbox)
    response = submit(client, user, name="Mary Ann Jones")
    attempt = SyncAttempt.objects.get()
    [line] = [one for one in lines() if one["logger"] == "users.sync.outbound.dual_write"]
    assert line["event"] == "A change ended as applied"
    assert (line["level"], line["outcome"], line["operation"]) == ("info", "applied", "update")
    assert (line["actor"], line["attempt"]) == (staff.pk, attempt.pk)
    assert line["request_id"] == response["X-Request-ID"]


def test_a_refusal_is_logged_with_the_trace_id_of_clerk(client, sandbox, lines):
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "status", status=422)
    submit(client, user, name="Mary Ann Jones")
    attempt = SyncAttempt.objects.get()
    [line] = [one for one in lines() if one["logger"] == "users.sync.outbound.dual_write"]
    assert (line["outcome"], line["trace_id"]) == ("refused", attempt.trace_id)
    assert attempt.trace_id


def test_no_name_and_no_address_is_logged_for_a_save(client, sandbox, lines, log):
    user = linked(sandbox)
    submit(client, user, name="Mary Ann Jones")
    client.get("/admin/nowhere/mary@example.com/?q=mary@example.com")
    assert lines()
    for value in ("Jones", "Mary", user.email, "mary@example.com", "127.0.0.1"):
        assert value not in log.getvalue()


def test_a_refused_page_is_one_line_without_a_traceback(sandbox, lines):
    client = Client()
    client.force_login(StaffFactory(is_superuser=False))
    user = linked(sandbox)
    assert client.get(user.get_absolute_url()).status_code == 403
    [line] = lines()
    assert line["event"].startswith("403: GET admin/users/builderuser/<path:object_id>/change/")
    assert "exception" not in line
    assert str(user.pk) not in line["event"]


def test_a_wrong_host_is_one_line(db, lines, settings):
    settings.ALLOWED_HOSTS = ["cascade.example.com"]
    assert Client().get("/admin/", headers={"Host": "evil.example.com"}).status_code == 400
    [line] = lines()
    assert line["event"].startswith("400: GET -")
    assert "exception" not in line


def test_a_failure_keeps_its_traceback_on_one_line(client, lines, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("a fault in the code")

    monkeypatch.setattr("users.admin.home.status", fail)
    client.raise_request_exception = False
    assert client.get("/admin/").status_code == 500
    [line] = [one for one in lines() if one["level"] == "error"]
    assert line["event"] == "500: GET admin/ (RuntimeError)"
    assert "in fail" in line["exception"]


def test_a_request_id_of_a_proxy_is_kept_and_nonsense_is_not(db):
    given = Client().get("/healthz/", headers={"X-Request-ID": "0123456789abcdef"})
    assert given["X-Request-ID"] == "0123456789abcdef"
    made = Client().get("/healthz/", headers={"X-Request-ID": 'x" injected'})
    assert len(made["X-Request-ID"]) == 32


def test_the_access_log_has_the_route_and_the_actor(client, staff, rf):
    response = client.get("/admin/users/builderuser/?q=mary@example.com")
    environ = response.wsgi_request.environ
    assert environ["cascade.route"] == "admin/users/builderuser/"
    assert environ["cascade.actor"] == str(staff.pk)
    assert environ["cascade.request_id"] == response["X-Request-ID"]
