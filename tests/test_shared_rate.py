"""Clerk's rate limit is shared by all processes and hosts, through one row."""

from __future__ import annotations

import threading

import pytest
from django.db import OperationalError, transaction

from tests.support.change_form import in_clerk, stored, submit, text_of
from tests.support.commands import run, start
from tests.support.factories import change_here, linked
from tests.support.patience import PATIENCE
from users import slots
from users.clerk import Deadline, clerk
from users.errors import ClerkRateLimited
from users.models import ClerkRate
from users.slots import SharedSlots, shared_pace

pytestmark = pytest.mark.django_db(transaction=True)

RATE = 0.01
"""A slot each 100 seconds: no machine is so slow that the order of slots depends on it."""


def test_two_processes_never_get_the_same_slot():
    one, other = SharedSlots(RATE), SharedSlots(RATE)
    slots = [*one.lease(2), *other.lease(1), *one.lease(1)]
    assert [round(slot, -2) for slot in slots] == [0, 100, 200, 300]


def test_a_pause_after_a_429_is_everybodys(sandbox):
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "status", status=429, retry_after=1000, times=1)
    paced = clerk().paced(shared_pace(RATE))
    with pytest.raises(ClerkRateLimited):
        paced.update_user(
            user.clerk_id, first_name="Mary", last_name="Jones", deadline=Deadline(PATIENCE)
        )
    [slot] = SharedSlots(RATE).lease(1)
    assert 900 < slot <= 1000


def test_a_429_that_a_form_meets_pauses_bulk_work_and_no_form(client, sandbox):
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "status", status=429, retry_after=1000, times=1)
    answer = submit(client, user, name="Mary Ann Jones")
    assert answer.status_code == 200
    assert stored(user).name == "Mary Ann Smith"
    [slot] = SharedSlots(RATE).lease(1)
    assert 900 < slot <= 1000
    assert submit(client, user, name="Mary Ann Jones").status_code == 302
    assert stored(user).name == "Mary Ann Jones"


def test_a_429_of_a_read_for_a_form_pauses_bulk_work(sandbox):
    user = linked(sandbox)
    sandbox.fault("GET /users/{user_id}", "status", status=429, retry_after=1000, times=1)
    with pytest.raises(ClerkRateLimited):
        clerk().get_user(user.clerk_id, deadline=Deadline(PATIENCE))
    assert SharedSlots(RATE).lease(1)[0] > 900


def test_a_bulk_run_of_another_process_begins_after_the_pause_of_a_form(client, sandbox):
    user, other = linked(sandbox), linked(sandbox, name="Tom Miller")
    change_here(other, name="Tom Brown")
    sandbox.fault("PATCH /users/{user_id}", "status", status=429, retry_after=10, times=1)
    assert submit(client, user, name="Mary Ann Jones").status_code == 200
    until = ClerkRate.objects.get().next_at
    process = start(sandbox, "clerk_push", "--apply", "--no-refresh")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert in_clerk(sandbox, other) == ("Tom", "Brown")
    assert sandbox.user(other.clerk_id)["updated_at"] >= until.timestamp() * 1000 - 1
    statuses = [request.status for request in sandbox.requests() if request.method == "PATCH"]
    assert statuses == [429, 200]


def test_a_form_tells_of_the_429_although_the_pause_cannot_be_stored(client, sandbox, monkeypatch):
    def refuse(statement: str, seconds: float) -> float:
        raise OperationalError("no connection is left")

    user = linked(sandbox)
    monkeypatch.setattr(slots, "_execute", refuse)
    sandbox.fault("PATCH /users/{user_id}", "status", status=429, retry_after=1000, times=1)
    answer = submit(client, user, name="Mary Ann Jones")
    assert answer.status_code == 200
    assert "Clerk" in text_of(answer)
    assert stored(user).name == "Mary Ann Smith"
    assert not ClerkRate.objects.exists()


def test_a_form_does_not_wait_for_bulk_work(client, sandbox):
    user = linked(sandbox)
    SharedSlots(RATE).pause(100_000)
    assert submit(client, user, name="Mary Ann Jones").status_code == 302
    assert stored(user).name == "Mary Ann Jones"


def test_a_slot_is_leased_apart_from_the_transaction_of_a_save():
    """The save may be rolled back, or take seconds: nobody waits for it, and the slot is taken."""
    slots = SharedSlots(RATE)
    with transaction.atomic():
        slots.lease(1)
        transaction.set_rollback(True)
        waiting = threading.Thread(target=slots.lease, args=[1])
        waiting.start()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
    assert round(slots.lease(1)[0], -2) == 200


def test_a_bulk_run_takes_its_slots_from_the_row(sandbox):
    user = linked(sandbox)
    change_here(user, name="Mary Ann Jones")
    code, out = run("clerk_push", "--apply", "--rate", "1000")
    assert code == 0, out
    assert ClerkRate.objects.count() == 1
