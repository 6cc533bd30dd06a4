"""The webhook behind gunicorn, as README starts it: a burst, too much, a database that is down."""

from __future__ import annotations

import random

import pytest

from tests.support.burst import asked, deliver, live, wrong_rows
from tests.support.events import happened
from tests.support.server import serving
from users.models import WebhookDelivery

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def secret(sandbox):
    return {"CLERK_WEBHOOK_SIGNING_SECRET": sandbox.webhooks.secret}


def test_a_burst_shuffled_and_doubled(sandbox, secret):
    """1,000 events over 100 users, each twice; `make bench` sends ten times as many."""
    burst = live(sandbox, 100) * 2
    random.Random(11).shuffle(burst)
    with serving(**secret) as port:
        _, answers = deliver(sandbox, burst, port)
    assert set(answers) <= {"ok", "kept for another try"}
    assert wrong_rows(sandbox) == []
    assert WebhookDelivery.objects.count() == 1000


def test_too_much_and_without_a_length(sandbox, secret):
    sandbox.add_user(email="ann@example.com")
    [event] = happened(sandbox)[-1:]
    body, headers = sandbox.webhooks.signed(event)
    with serving(**secret) as port:
        assert asked(port, b"x" * (2**20 + 1), headers)[0] == 413
        assert asked(port, iter([b"x" * 2**19] * 3), headers)[0] == 413
        assert asked(port, iter([body[:9], b"x"]), headers)[0] == 400
        assert asked(port, iter([body[:9], body[9:]]), headers) == (200, "ok\n")  # chunked
        assert asked(port, body, headers | {"svix-id": "m\xe9"})[0] == 400
        assert asked(port, body, headers) == (200, "ok\n")


def test_a_database_that_is_down(sandbox, secret):
    sandbox.add_user(email="ann@example.com")
    [event] = happened(sandbox)[-1:]
    with serving(**secret, DATABASE_URL="postgres://nobody@127.0.0.1:9/none") as port:
        status, text = asked(port, *sandbox.webhooks.signed(event))
        assert (status, text) == (503, "the database does not answer; send it again\n")
        assert asked(port, b"{}", {})[0] == 400  # who did not sign learns nothing of it
