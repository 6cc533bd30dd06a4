"""The hand-written SQL of the journal agrees with what Django's queries would do."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models.functions import Now

from tests.support.factories import BuilderUserFactory, SyncAttemptFactory
from users.changes import Change
from users.models import Source, Status, SyncAttempt
from users.sync.actors import service_user
from users.sync.operations.following import Follow
from users.sync.outbound import journal, locks, pending

pytestmark = pytest.mark.django_db


def stored(model):
    """All rows, oldest first, without their ids and times."""
    times = {"id", "started_at", "settled_at", "action_time"}
    fields = [field.name for field in model._meta.concrete_fields if field.name not in times]
    return list(model.objects.order_by("pk").values(*fields))


def test_what_followed_from_facts_is_recorded_like_any_other_change():
    user = BuilderUserFactory(name="Mary Ann Smith")
    service_user()
    operation = Follow.on(user, {"name": Change("Mary Ann Smith", "Mary Jones")}, reason="Because.")
    journal.record(operation, actor=None, source=Source.WEBHOOK, status=Status.APPLIED)
    journal.log(operation)
    attempts, entries = stored(SyncAttempt), stored(LogEntry)
    journal.record_derived([operation], Source.WEBHOOK)
    assert stored(SyncAttempt) == attempts * 2
    assert stored(LogEntry) == entries * 2


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("late", [None, timedelta(hours=-1), timedelta(hours=1)])
@pytest.mark.parametrize("of", ["this user", "another user"])
def test_the_lock_of_a_save_sees_the_attempts_in_flight(status, late, of):
    user, other = BuilderUserFactory(), BuilderUserFactory()
    mine = SyncAttemptFactory(user=user, status="started")
    SyncAttemptFactory(
        user=user if of == "this user" else other,
        status=status,
        late_until=late and Now() + late,
        settled_at=None if status == Status.STARTED else Now(),
    )
    row, held, alone = locks.lock_both(user.pk, mine, wait=30.0)
    assert (row, held) == (user, True)
    assert alone == (not pending.in_flight(user.pk, apart_from=mine))
