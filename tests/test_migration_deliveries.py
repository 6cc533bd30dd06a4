"""Migration 0027 on deliveries that the version before has kept."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from tests.support.migrations import migrate, migrate_forward
from users.models import WebhookDelivery

pytestmark = pytest.mark.django_db(transaction=True)

KEPT = {
    "msg_user": {"data": {"id": "user_1a"}},
    "msg_session": {"data": {"id": "sess_1", "user_id": "user_2b"}},
    "msg_wrong": {"data": {"id": "user_../.."}},
    "msg_long": {"data": {"id": "user_" + "x" * 5000}},
    "msg_text": "the body is signed, but it is not JSON",
}


def test_deliveries_that_are_kept_name_their_users_after_the_upgrade():
    migrate([("users", "0026_invitation_for_admins")])
    try:
        with connection.cursor() as cursor:
            for svix_id, payload in {**KEPT, "msg_taken": None}.items():
                cursor.execute(
                    """
                    INSERT INTO users_webhookdelivery
                        (svix_id, type, received_at, processed_at, error, attempts, payload)
                    VALUES (%s, 'user.updated', now(), now(), '', 1, %s)
                    """,
                    [svix_id, payload and json.dumps(payload)],
                )
    finally:
        migrate_forward()
    named = dict(WebhookDelivery.objects.exclude(clerk_id="").values_list("pk", "clerk_id"))
    assert named == {"msg_user": "user_1a", "msg_session": "user_2b"}
