"""Our clock is wrong, or is set while we run: what Clerk shows is dated by Clerk's own clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.support.change_form import in_clerk, stored, submit
from tests.support.commands import run
from tests.support.events import arrive, happened, post
from tests.support.factories import linked
from users.clerk import clock
from users.models import BuilderUser, ClerkAccount
from users.sync.inbound import reconcile

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other(sandbox) -> BuilderUser:
    return linked(sandbox)


@pytest.fixture(params=[-7200, -60, 60, 7200], ids=lambda seconds: f"{seconds} s")
def user(request, sandbox, monkeypatch) -> BuilderUser:
    """Their account is known; then our clock is set."""
    user = linked(sandbox, email="mary@example.com")
    happened(sandbox)
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=request.param))
    monkeypatch.setattr(clock, "_ahead", clock._Ahead())
    return user


def refresh(client, user):
    return client.post(reverse("admin:users_builderuser_refresh", args=[user.pk]), follow=True)


def test_an_event_reaches_the_row(sandbox, user):
    sandbox.edit(user.clerk_id, last_name="Jones")
    arrive(sandbox)
    assert stored(user).name == "Mary Ann Jones"


@pytest.mark.parametrize("way", ["refresh", "scan"])
def test_an_answer_reaches_the_row(client, sandbox, user, way):
    sandbox.edit(user.clerk_id, last_name="Jones")
    if way == "refresh":
        refresh(client, user)
    else:
        run("clerk_diff", "--refresh")
        reconcile.reconcile_due()
    assert stored(user).name == "Mary Ann Jones"


def test_an_answer_and_the_event_before_it_keep_their_order(client, sandbox, user):
    sandbox.edit(user.clerk_id, last_name="Jones")
    late = happened(sandbox)
    refresh(client, user)
    submit(client, stored(user), name="Mary Ann Smith-Jones")
    for event in [*happened(sandbox), *late]:
        assert post(sandbox, event).status_code == 200
    assert stored(user).name == "Mary Ann Smith-Jones"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Smith-Jones")


def test_our_own_deletion_and_one_in_clerk_are_known(client, sandbox, other, user):
    refresh(client, user)
    refresh(client, other)
    sandbox.delete(user.clerk_id)
    arrive(sandbox)
    client.post(reverse("admin:users_builderuser_delete", args=[other.pk]), {"post": "yes"})
    assert ClerkAccount.objects.filter(deleted_at__isnull=False).count() == 2


def test_a_scan_finds_nobody_missing_who_lives(client, sandbox, user):
    refresh(client, user)
    sandbox.clear_requests()
    run("clerk_diff", "--refresh")
    assert not ClerkAccount.objects.exclude(deleted_at=None).exists()
    pages = [one for one in sandbox.requests() if one.path == "/v1/users"]
    assert not [one for one in pages if one.query.get("user_id")], "asked for by its id"


@pytest.mark.parametrize("seconds", [0, 7200])
def test_the_difference_is_learned_from_the_date_of_an_answer(monkeypatch, seconds):
    """The date has whole seconds: less than one is no difference."""
    ours = datetime(2026, 1, 1, 12, 0, 0, 999_000, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: ours)
    monkeypatch.setattr(clock, "_ahead", clock._Ahead(least=timedelta(hours=3)))
    clock.Call().learn(datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=seconds))
    assert clock.now() - ours == timedelta(seconds=max(0, seconds - 0.999))
