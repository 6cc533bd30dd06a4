"""Histories in any order: as pure functions by the hundred, a sample through the real webhook."""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.campaign.inbound import endpoint
from tests.campaign.inbound.history import phases, play
from users.sync.inbound import addresses, facts, group, links, values

HISTORIES = int(os.environ.get("CAMPAIGN_HISTORIES", "150"))
AT_LENGTH = "CAMPAIGN_HISTORIES" in os.environ
SAMPLE = HISTORIES // 15


def histories(count: int, *, derandomize: bool = not AT_LENGTH) -> settings:
    return settings(
        max_examples=count,
        derandomize=derandomize,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


@given(phases(losses=False))
@histories(HISTORIES)
def test_any_order_of_all_facts_ends_alike(story):
    play(story)


@given(phases(losses=True))
@histories(HISTORIES)
def test_truths_hold_when_facts_are_lost_or_late(story):
    play(story)


@given(phases(losses=True, admins=True))
@histories(HISTORIES)
def test_the_links_of_administrators_are_moved_by_nobody(story):
    play(story)


@pytest.mark.django_db(transaction=True)
def test_the_database_ends_as_the_pure_functions_do(sandbox):
    tell = endpoint.Endpoint(sandbox)

    @given(phases(losses=False))
    @histories(SAMPLE)
    def told(story):
        tell.check(story, random.Random(story[0].seed))

    told()


class TestPlantedBugs:
    """Each is a bug that the histories must find."""

    @pytest.fixture
    def find(self):
        def find(*, losses=False, admins=False):
            @given(phases(losses=losses, admins=admins))
            @settings(histories(2000, derandomize=True), phases=[Phase.generate])
            def search(story):
                play(story)

            with pytest.raises(AssertionError):
                search()

        return find

    def test_a_join_that_takes_what_came_last(self, find, monkeypatch):
        join = facts.join
        monkeypatch.setattr(
            facts,
            "join",
            lambda known, new: replace(join(known, new), name=max(new.name, facts.UNSET)),
        )
        find()

    def test_a_tombstone_that_any_event_takes_back(self, find, monkeypatch):
        join = facts.join
        monkeypatch.setattr(
            facts,
            "join",
            lambda known, new: replace(join(known, new), deleted_at=new.deleted_at),
        )
        find()

    def test_a_row_that_follows_without_having_agreed(self, find, monkeypatch):
        def always(row, account):
            _, theirs = account.facts.name
            return replace(row, name=theirs, agreed_name=theirs) if theirs else row

        monkeypatch.setattr(values, "_with_name", always)
        find()

    def test_a_link_that_never_moves_to_an_earlier_claim(self, find, monkeypatch):
        monkeypatch.setattr(links, "may_move", lambda row, account, now: False)
        find()

    def test_links_of_administrators_that_move(self, find, monkeypatch):
        monkeypatch.setattr(
            links, "may_move", lambda row, account, now: links.is_untouched(row, now)
        )
        find(admins=True)

    def test_links_to_the_banned(self, find, monkeypatch):
        monkeypatch.setattr(group.Account, "banned", False)
        find()

    def test_addresses_that_are_given_in_the_order_of_the_rows(self, find, monkeypatch):
        monkeypatch.setattr(addresses, "key", lambda email: f"{email}{id(email)}")
        find()
