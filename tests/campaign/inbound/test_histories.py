from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, given, settings

from tests.campaign.inbound.history import phases, play

HISTORIES = int(os.environ.get("CAMPAIGN_HISTORIES", "150"))
AT_LENGTH = "CAMPAIGN_HISTORIES" in os.environ

histories = settings(
    max_examples=HISTORIES,
    derandomize=not AT_LENGTH,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@given(phases(losses=False))
@histories
def test_any_order_of_all_facts_ends_alike(story):
    play(story)


@given(phases(losses=True))
@histories
def test_truths_hold_when_facts_are_lost_or_late(story):
    play(story)
