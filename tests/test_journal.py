"""The journal of what followed from facts stores what `record` and `log` would."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry

from tests.support.factories import BuilderUserFactory
from users.changes import Change
from users.models import Source, Status, SyncAttempt
from users.sync.actors import service_user
from users.sync.operations.following import AccountChanged, Follow
from users.sync.outbound import journal

pytestmark = pytest.mark.django_db


def stored(model):
    """All rows, oldest first, without their ids and times."""
    times = {"id", "started_at", "settled_at", "action_time"}
    fields = [field.name for field in model._meta.concrete_fields if field.name not in times]
    return list(model.objects.order_by("pk").values(*fields))


@pytest.mark.parametrize("kind", [Follow, AccountChanged])
def test_what_followed_from_facts_is_recorded_like_any_other_change(kind):
    user = BuilderUserFactory(name="Mary Ann Smith")
    service_user()
    operation = kind.on(user, {"name": Change("Mary Ann Smith", "Mary Jones")}, reason="Because.")
    journal.record(operation, actor=None, source=Source.WEBHOOK, status=Status.APPLIED)
    if operation.changes_row:
        journal.log(operation)
    attempts, entries = stored(SyncAttempt), stored(LogEntry)
    journal.record_derived([operation], Source.WEBHOOK)
    assert stored(SyncAttempt) == attempts * 2
    assert stored(LogEntry) == entries * 2
