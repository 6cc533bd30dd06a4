"""A ban, a lock or a deletion in Clerk is in the timeline once, by whichever way it is heard of."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
from django.test import Client
from django.urls import reverse

from sandbox import Sandbox
from tests.support.change_form import page_of, submit, text_of
from tests.support.commands import run
from tests.support.events import arrive, happened
from tests.support.factories import linked
from tests.support.interruptions import at_step, in_thread
from users.models import BuilderUser, ClerkAccount, SyncAttempt
from users.sync.mirror import newest
from users.sync.outbound import checkpoints

pytestmark = pytest.mark.django_db(transaction=True)

Way = Callable[[Client, Sandbox, BuilderUser], object]


def by_event(client: Client, sandbox: Sandbox, user: BuilderUser) -> None:
    arrive(sandbox)


def by_refresh(client: Client, sandbox: Sandbox, user: BuilderUser) -> None:
    client.post(reverse("admin:users_builderuser_refresh", args=[user.pk]))


def by_scan(client: Client, sandbox: Sandbox, user: BuilderUser) -> None:
    code, out = run("clerk_diff", "--refresh")
    assert code in (0, 2), out


def by_the_hourly_look(client: Client, sandbox: Sandbox, user: BuilderUser) -> None:
    newest.look_if_due()


def by_a_refresh_of_many(client: Client, sandbox: Sandbox, user: BuilderUser) -> None:
    code, out = run("clerk_action", "refresh", "--email", user.email, "--apply")
    assert code == 0, out


def by_an_answer_to_a_save(client: Client, sandbox: Sandbox, user: BuilderUser) -> None:
    submit(client, user, name="Mary Ann Jones")


WAYS: list[Way] = [
    by_event, by_refresh, by_scan, by_the_hourly_look, by_a_refresh_of_many,
    by_an_answer_to_a_save,
]  # fmt: skip


def recorded(name: str) -> list[SyncAttempt]:
    return [one for one in SyncAttempt.objects.order_by("pk") if name in one.changes]


@pytest.fixture
def user(sandbox) -> BuilderUser:
    user = linked(sandbox, email="mary@example.com")
    happened(sandbox)
    by_scan(Client(), sandbox, user)
    return user


@pytest.mark.parametrize(
    ("field", "name"),
    [("banned", "banned"), ("locked", "locked"), ("two_factor_enabled", "two-factor sign-in")],
)
@pytest.mark.parametrize("way", WAYS)
def test_it_is_in_the_timeline_once_by_whichever_way_it_is_heard_of_first(
    client, sandbox, user, field, name, way
):
    sandbox.edit(user.clerk_id, **{field: True})
    way(client, sandbox, user)
    assert getattr(ClerkAccount.objects.get(), field)
    [attempt] = recorded(name)
    assert (attempt.status, attempt.operation) == ("applied", "follow")
    assert attempt.changes[name] == [False, True]
    assert "Changed in Clerk" in text_of(client.get(page_of(user)))
    for later in (by_event, by_refresh, by_scan):
        later(client, sandbox, user)
    assert recorded(name) == [attempt]


@pytest.mark.parametrize("ways", [*permutations([by_event, by_scan])])
def test_a_deletion_is_in_the_timeline_once(client, sandbox, user, ways):
    other = linked(sandbox)  # a Clerk that has nobody left is another instance, for a scan
    happened(sandbox)
    sandbox.delete(user.clerk_id)
    for way in ways:
        way(client, sandbox, other)
    assert ClerkAccount.objects.get(user=user).deleted_at
    [attempt] = recorded("deleted in Clerk")
    assert attempt.user == user


@pytest.mark.parametrize("action", ["ban", "unban", "unlock", "reset_mfa"])
@pytest.mark.parametrize("way", [by_event, by_refresh, by_scan])
def test_what_was_done_here_is_not_told_again(client, sandbox, user, action, way):
    before = {
        "unban": {"banned": True}, "unlock": {"locked": True},
        "reset_mfa": {"two_factor_enabled": True},
    }.get(action)  # fmt: skip
    if before:
        sandbox.edit(user.clerk_id, **before)
        by_refresh(client, sandbox, user)
        SyncAttempt.objects.all().delete()
    client.post(reverse(f"admin:users_builderuser_{action}", args=[user.pk]))
    way(client, sandbox, user)
    [attempt] = SyncAttempt.objects.all()
    assert (attempt.status, attempt.operation) == ("applied", action)


def test_the_event_of_our_own_deletion_is_not_told_as_a_change_in_clerk(client, sandbox, user):
    """It may arrive while the deletion is still being saved."""
    page = reverse("admin:users_builderuser_delete", args=[user.pk])
    with at_step(checkpoints.AFTER_CALL, lambda: in_thread(lambda: arrive(sandbox))):
        client.post(page, {"post": "yes"})
    assert not BuilderUser.objects.filter(pk=user.pk).exists()
    assert sandbox.user(user.clerk_id) is None
    [attempt] = SyncAttempt.objects.all()
    assert (attempt.status, attempt.operation) == ("applied", "delete")
