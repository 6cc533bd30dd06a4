"""The short form of the campaign, and bugs planted to see that it finds them."""

from __future__ import annotations

import os
from functools import partial

import pytest
from django.db import transaction
from django.test import Client

from tests.campaign import kills, stories
from tests.campaign.told import Untrue
from tests.campaign.world import World
from tests.support.factories import StaffFactory
from users.errors import ClerkUnknown, NotSaved
from users.models import BuilderUser
from users.sync.operations import Verdict
from users.sync.outbound import checkpoints, dual_write, exchange, locks, pending, recovery
from users.sync.outbound.completion import complete

pytestmark = pytest.mark.django_db(transaction=True)

SCENARIOS = int(os.environ.get("CAMPAIGN_SCENARIOS", "50"))
KILLS = int(os.environ.get("CAMPAIGN_KILLS", "4"))
ENOUGH_TO_FIND = 300


@pytest.fixture
def other(db):
    client = Client()
    client.force_login(StaffFactory(username="other", first_name="Kim", last_name="Other"))
    return client


@pytest.fixture
def make(sandbox, client, other, settings):
    settings.CLERK_EDIT_DEADLINE = 1.0
    return partial(World, sandbox, client, other)


def test_stories_end_true(make):
    """Always the same ones in the suite; `make campaign` makes up others each time."""
    stories.run(
        make, scenarios=SCENARIOS, derandomize="CAMPAIGN_SCENARIOS" not in os.environ, shorten=False
    )


class TestPlantedBugs:
    """Each is a bug that the stories must find."""

    @pytest.fixture
    def find(self, make, settings):
        settings.CLERK_EDIT_DEADLINE = 0.5  # for which a bug may wait at every lock

        def find():
            with pytest.raises(Untrue):
                stories.run(make, scenarios=ENOUGH_TO_FIND, derandomize=True, shorten=False)

        return find

    def test_a_save_that_commits_before_clerk_answers(self, find, monkeypatch):
        def committed_first(operation, user, attempt, *, base, gateway, deadline):
            with transaction.atomic(durable=True):
                row, _ = exchange._lock(operation, user, attempt, base, deadline)
                written = operation.write(row)
            account, _ = exchange._tell_clerk(operation, attempt, gateway, deadline)
            with transaction.atomic(durable=True):
                complete(operation, written, account, attempt)
            return exchange.Saved(written, attempt)

        monkeypatch.setattr(dual_write, "exchange", committed_first)
        find()

    def test_a_recovery_that_ignores_the_lock(self, find, monkeypatch):
        monkeypatch.setattr(
            recovery,
            "_lock",
            lambda operation, deadline: BuilderUser.objects.filter(pk=operation.user_id).first(),
        )
        monkeypatch.setattr(locks, "lock_attempt", lambda attempt: True)
        monkeypatch.setattr(
            locks,
            "lock_both",
            lambda pk, attempt, *, wait: locks.LockedBoth(
                locks.lock_user(pk, wait=wait), held=True, alone=False
            ),
        )
        find()

    def test_an_unknown_outcome_taken_for_a_refusal(self, find, monkeypatch):
        def never_read_back(operation, attempt, gateway, deadline):
            try:
                seen = operation.send(gateway(), deadline)
            except ClerkUnknown:
                raise NotSaved("Clerk did not answer. Nothing was saved.") from None
            if seen.verdict is not Verdict.HAS_IT:
                raise NotSaved("Clerk does not have it. Nothing was saved.")
            return seen.account, False

        monkeypatch.setattr(exchange, "_tell_clerk", never_read_back)
        find()

    def test_has_not_settles_at_once(self, find, monkeypatch):
        monkeypatch.setattr(pending, "is_over", lambda attempt: True)
        find()

    def test_recovery_does_not_compare_the_row(self, find, monkeypatch):
        monkeypatch.setattr(recovery, "_moved_here", lambda operation, row: "")
        find()


def test_kills_at_every_step_of_a_save(sandbox, client, other):
    assert kills.run(sandbox, client, other, kills=KILLS) == KILLS * len(checkpoints.STEPS)
