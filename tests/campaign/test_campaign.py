"""The short form of the campaign, and bugs planted to see that it finds them."""

from __future__ import annotations

import os
from functools import partial

import pytest
from django.db import transaction

from tests.campaign import kills, stories
from tests.campaign.world import Untrue, World
from users.models import BuilderUser
from users.sync import completion, dual_write, locks, recovery, steps, wording

pytestmark = pytest.mark.django_db(transaction=True)

SCENARIOS = int(os.environ.get("CAMPAIGN_SCENARIOS", "300"))
KILLS = int(os.environ.get("CAMPAIGN_KILLS", "10"))
ENOUGH_TO_FIND = 300


@pytest.fixture
def make(sandbox, client, settings):
    settings.CLERK_EDIT_DEADLINE = 1.0
    return partial(World, sandbox, client)


def test_stories_end_true(make):
    """Always the same ones in the suite; `make campaign` makes up others each time."""
    stories.run(make, scenarios=SCENARIOS, derandomize="CAMPAIGN_SCENARIOS" not in os.environ)


def test_kills_at_every_step_of_a_save(sandbox, client):
    assert kills.run(sandbox, client, kills=KILLS) == KILLS * len(steps.STEPS)


def test_it_finds_a_save_that_commits_before_clerk_answers(make, monkeypatch):
    def committed_first(operation, user, attempt, base, gateway, deadline):
        with transaction.atomic(durable=True):
            row = dual_write._row(operation, user, attempt, base, deadline)
            written = operation.write(row)
        account = dual_write._tell_clerk(operation, gateway, deadline)
        with transaction.atomic(durable=True):
            completion.complete(operation, written, account, attempt)
        return dual_write.Saved(written, attempt)

    monkeypatch.setattr(dual_write, "_write_both", committed_first)
    with pytest.raises(Untrue):
        stories.run(make, scenarios=ENOUGH_TO_FIND, derandomize=True, shorten=False)


def test_it_finds_a_recovery_that_ignores_the_lock(make, monkeypatch):
    monkeypatch.setattr(
        recovery,
        "_lock",
        lambda operation: BuilderUser.objects.filter(pk=operation.user_id).first(),
    )
    monkeypatch.setattr(locks, "lock_attempt", lambda attempt: True)
    with pytest.raises(Untrue):
        stories.run(make, scenarios=ENOUGH_TO_FIND, derandomize=True, shorten=False)


def test_it_finds_an_unknown_outcome_taken_for_a_refusal(make, monkeypatch):
    def never_read_back(operation, unknown, gateway, deadline):
        raise wording.not_saved(unknown)

    monkeypatch.setattr(dual_write, "_read_back", never_read_back)
    with pytest.raises(Untrue):
        stories.run(make, scenarios=ENOUGH_TO_FIND, derandomize=True, shorten=False)
