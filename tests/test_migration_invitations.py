"""Migrations 0024 and 0025 on invitations that waited when the version before was stopped."""

from __future__ import annotations

import pytest
from django.db import connection
from django.utils import timezone

from tests.support.factories import BuilderUserFactory
from tests.support.migrations import migrate, migrate_forward
from users.models import Invitation
from users.sync import maintenance
from users.sync.actors import service_user

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_invitation_of_a_command_that_waits_already_is_sent_after_the_upgrade(sandbox):
    user, author = BuilderUserFactory(), service_user()
    migrate([("users", "0023_words_of_runs")])
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO users_invitation (user_id, email, purpose, status, reference,
                    send_after, invited_by_id, created_at, updated_at)
                VALUES (%s, %s, 'new_account', 'waiting', gen_random_uuid(), %s, %s, now(), now())
                """,
                [user.pk, user.email, timezone.now(), author.pk],
            )
    finally:
        migrate_forward()
    maintenance.run()
    assert Invitation.objects.get().status == "pending"
    assert len(sandbox.mails()) == 1
