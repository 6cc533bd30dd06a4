"""In whatever order the events of a history come, and however often: the end is the same."""

from __future__ import annotations

import uuid
from functools import cache
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings, strategies
from users.sync.copies import columns_of

from sandbox import Event, Sandbox
from tests.events import happened, post
from tests.factories import BuilderUserFactory
from users.clerk import ClerkUser
from users.guard import without_clerk
from users.models import BuilderUser, ClerkAccount, Invitation, SyncAttempt, WebhookDelivery

pytestmark = pytest.mark.django_db(transaction=True)

BY_EVENT = ("ann", "bob", "eve", "leo", "zoe", "kim")
"""People whose rows are not linked at the start."""

LINKED = ("max", "sue", "tom", "uma", "vic", "pat")

COPIED = [
    field.name
    for field in ClerkAccount._meta.fields
    if field.name not in ("user", "replaced_for", "seen_at", "deleted_at", "released_at")
]


def row_id(name: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_DNS, name)


def invited(name: str) -> dict[str, str]:
    """The metadata of who accepts our invitation."""
    reference = str(row_id(f"invitation of {name}"))
    return {"cascade_user_id": str(row_id(name)), "cascade_invitation": reference}


def live(sandbox: Sandbox) -> tuple[dict[str, Any], tuple[Event, ...]]:
    """What everybody does; gives the accounts of `LINKED` as they were before, and the events."""
    accounts = {
        name: sandbox.add_user(
            email=f"{name}@example.com", first_name=name.title(), last_name="Before"
        )
        for name in LINKED
    }
    ids = {name: account["id"] for name, account in accounts.items()}
    happened(sandbox)
    # Linked by email; renamed, moved, renamed back.
    ann = sandbox.add_user(email="Ann@example.com", first_name="Ann", last_name="Lee")["id"]
    sandbox.edit(ann, last_name="Berg")
    sandbox.sign_in(ann)
    sandbox.edit(ann, email="ann.berg@example.com")
    sandbox.edit(ann, last_name="Lee")
    # Banned and unbanned; a Google sign-in.
    bob = sandbox.add_user(email="bob@example.com", first_name="Bob", last_name="Ray")["id"]
    sandbox.edit(bob, banned=True)
    sandbox.edit(bob, banned=False, last_name="May")
    sandbox.link_google(bob)
    sandbox.sign_in(bob)
    # Deleted.
    eve = sandbox.add_user(email="eve@example.com", first_name="Eve", last_name="Orr")["id"]
    sandbox.edit(eve, last_name="Late")
    sandbox.delete(eve)
    # Never verified: never linked.
    leo = sandbox.add_user(email="leo@example.com", verified=False)["id"]
    sandbox.edit(leo, first_name="Leo")
    # Linked by our id, with another address.
    zoe = sandbox.add_user(
        email="zoe.private@example.com", first_name="Zoë", last_name="Berg",
        public_metadata={"cascade_user_id": str(row_id("zoe"))},
    )["id"]  # fmt: skip
    sandbox.edit(zoe, locked=True)
    # Accepts an invitation to a first account.
    kim = sandbox.add_user(
        email="kim@example.com", first_name="Kim", last_name="New", public_metadata=invited("kim")
    )["id"]
    sandbox.edit(kim, last_name="Newer")
    sandbox.sign_in(kim)
    # Accepts an invitation to a new address: a new account; the one before is banned.
    sandbox.sign_in(ids["max"])
    new = sandbox.add_user(
        email="max.new@example.com", first_name="Max", last_name="New",
        public_metadata=invited("max"),
    )["id"]  # fmt: skip
    sandbox.edit(ids["max"], banned=True)
    sandbox.edit(new, last_name="Newer")
    # Two swap their addresses; one takes what another has left; one goes for good.
    sandbox.edit(ids["sue"], email="parked@example.com")
    sandbox.edit(ids["tom"], email="sue@example.com", last_name="Swapped")
    sandbox.edit(ids["sue"], email="tom@example.com")
    sandbox.edit(ids["vic"], email="vic.new@example.com")
    sandbox.edit(ids["uma"], email="vic@example.com")
    sandbox.edit(ids["pat"], last_name="After")
    sandbox.delete(ids["pat"])
    return accounts, tuple(happened(sandbox))


def start(accounts: dict[str, Any]) -> None:
    for model in (WebhookDelivery, SyncAttempt, ClerkAccount, Invitation, BuilderUser):
        with without_clerk():
            model.objects.all().delete()
    for name in (*BY_EVENT, *LINKED):
        BuilderUserFactory(
            pk=row_id(name), name=f"{name.title()} Before", email=f"{name}@example.com",
            clerk_id=accounts[name]["id"] if name in accounts else None,
        )  # fmt: skip
    for name, account in accounts.items():
        columns = columns_of(ClerkUser.parse(account), seen_at=timezone.now())
        ClerkAccount.objects.create(clerk_id=account["id"], user_id=row_id(name), **columns)
    for name, email, purpose in (
        ("kim", "kim@example.com", "new_account"),
        ("max", "max.new@example.com", "email_change"),
    ):
        Invitation.objects.create(
            user_id=row_id(name), email=email, purpose=purpose,
            reference=invited(name)["cascade_invitation"],
        )  # fmt: skip


def end() -> dict[str, Any]:
    """Both copies and the invitations, without the times at which we saw things."""
    return {
        "rows": {row.pk: (row.name, row.email, row.clerk_id) for row in BuilderUser.objects.all()},
        "accounts": {
            account.pk: [
                *(getattr(account, field) for field in COPIED),
                account.user_id,
                account.replaced_for_id,
                account.deleted_at is not None,
                account.released_at is not None,
            ]
            for account in ClerkAccount.objects.all()
        },
        "invitations": dict(Invitation.objects.values_list("email", "status")),
        "kept": list(WebhookDelivery.objects.filter(processed_at=None).values_list("error")),
    }


@cache
def in_order(sandbox: Sandbox) -> tuple[dict[str, Any], tuple[Event, ...], dict[str, Any]]:
    """The history, and where it ends when it comes in order and once."""
    accounts, events = live(sandbox)
    start(accounts)
    for event in events:
        assert post(sandbox, event).status_code == 200
    return accounts, events, end()


def test_where_it_ends(sandbox):
    """So that the property below is about the right end."""
    accounts, events, _ = in_order(sandbox)
    start(accounts)
    for event in events:
        post(sandbox, event)
    rows = {row.pk: row for row in BuilderUser.objects.select_related("account")}
    told = {
        name: (rows[row_id(name)].name, rows[row_id(name)].email) for name in (*BY_EVENT, *LINKED)
    }
    assert told == {
        "ann": ("Ann Lee", "ann.berg@example.com"),
        "bob": ("Bob May", "bob@example.com"),
        "eve": ("Eve Late", "eve@example.com"),
        "leo": ("Leo Before", "leo@example.com"),
        "zoe": ("Zoë Berg", "zoe.private@example.com"),
        "kim": ("Kim Newer", "kim@example.com"),
        "max": ("Max Newer", "max.new@example.com"),
        "sue": ("Sue Before", "tom@example.com"),
        "tom": ("Tom Swapped", "sue@example.com"),
        "uma": ("Uma Before", "vic@example.com"),
        "vic": ("Vic Before", "vic.new@example.com"),
        "pat": ("Pat After", "pat@example.com"),
    }
    assert [name for name in told if not rows[row_id(name)].linked] == ["leo"]
    for name in ("sue", "tom", "uma", "vic", "pat"):
        assert rows[row_id(name)].clerk_id == accounts[name]["id"]
    assert rows[row_id("max")].clerk_id != accounts["max"]["id"]
    old = ClerkAccount.objects.get(pk=accounts["max"]["id"])
    assert (old.user, old.replaced_for_id, old.banned) == (None, row_id("max"), True)
    assert set(Invitation.objects.values_list("status", flat=True)) == {"accepted"}
    for name, row in ((name, rows[row_id(name)]) for name in told if name != "leo"):
        assert row.account.clerk_id == row.clerk_id, name
        assert (row.account.deleted_at is not None) == (name in ("eve", "pat")), name


@given(data=strategies.data())
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_order_with_any_duplicates(sandbox, data):
    accounts, events, expected = in_order(sandbox)
    numbers = range(len(events))
    again = data.draw(strategies.lists(strategies.sampled_from(numbers), max_size=8))
    order = data.draw(strategies.permutations([*numbers, *again]))
    start(accounts)
    for number in order:
        assert post(sandbox, events[number]).status_code == 200
    assert end() == expected
