"""What is logged of a database error: what and where, and nobody's values."""

from __future__ import annotations

import io
import logging

import pytest
from django.db import DatabaseError, connection, transaction

from cascade.logs import WithoutValues
from tests.support.events import happened, post
from tests.support.factories import BuilderUserFactory, linked
from users.models import BuilderUser, WebhookDelivery
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
