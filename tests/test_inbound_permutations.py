"""In whatever order the events of a history come, and however often: the end is the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from sandbox import Event, Sandbox
from tests.events import happened, post
from tests.factories import BuilderUserFactory
from users.models import BuilderUser, ClerkAccount, SyncAttempt, WebhookDelivery

pytestmark = pytest.mark.django_db(transaction=True)

COPIED = [
    field.name
    for field in ClerkAccount._meta.fields
    if field.name not in ("seen_at", "deleted_at", "released_at")
]


def live(sandbox: Sandbox) -> tuple[Event, ...]:
    """Three people are in Clerk: one is renamed, moves and signs in, one is banned and unbanned,
    one is deleted."""
    happened(sandbox)
    ann = sandbox.add_user(email="ann@example.com", first_name="Ann", last_name="Lee")["id"]
    sandbox.edit(ann, last_name="Berg")
    sandbox.sign_in(ann)
    sandbox.edit(ann, email="ann.berg@example.com")
    sandbox.edit(ann, last_name="Lee")
    bob = sandbox.add_user(email="bob@example.com", first_name="Bob", last_name="Ray")["id"]
    sandbox.edit(bob, banned=True)
    sandbox.edit(bob, banned=False, last_name="May")
    sandbox.sign_in(bob)
    eve = sandbox.add_user(email="eve@example.com", first_name="Eve", last_name="Orr")["id"]
    sandbox.edit(eve, last_name="Late")
    sandbox.delete(eve)
    return tuple(happened(sandbox))


def start() -> None:
    for model in (WebhookDelivery, SyncAttempt, ClerkAccount, BuilderUser):
        model.objects.all().delete()
    for name in ("ann", "bob", "eve"):
        BuilderUserFactory(name=f"{name.title()} Before", email=f"{name}@example.com")


def end() -> dict[str, Any]:
    """Both copies, without the times at which we saw things."""
    rows = {row.name: (row.email, row.clerk_id) for row in BuilderUser.objects.all()}
    accounts = {
        account.pk: [getattr(account, field) for field in COPIED if field != "user"]
        + [account.user and account.user.name, account.deleted_at is not None]
        for account in ClerkAccount.objects.all()
    }
    return {"rows": rows, "accounts": accounts}


@cache
def in_order(sandbox: Sandbox) -> tuple[tuple[Event, ...], dict[str, Any]]:
    """The history, and where it ends when it comes in order and once."""
    events = live(sandbox)
    start()
    for event in events:
        assert post(sandbox, event).status_code == 200
    reached = end()
    assert reached["rows"]["Ann Lee"][0] == "ann.berg@example.com"
    assert reached["rows"]["Bob May"][0] == "bob@example.com"
    return events, reached


@given(data=strategies.data())
@settings(
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_order_with_any_duplicates(sandbox, data):
    events, expected = in_order(sandbox)
    numbers = range(len(events))
    again = data.draw(strategies.lists(strategies.sampled_from(numbers), max_size=8))
    order = data.draw(strategies.permutations([*numbers, *again]))
    start()
    for number in order:
        assert post(sandbox, events[number]).status_code == 200
    assert end() == expected
