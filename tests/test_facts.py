"""`facts.join`, attacked with odd facts, against an oracle of its own; and the store, which must
keep exactly what the join gives."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from tests.support.factories import delete_here
from users.clerk import ClerkUser
from users.clerk.metadata import OUR_ID, OUR_INVITATION
from users.models import ClerkAccount
from users.sync.inbound import facts
from users.sync.inbound.facts import AHEAD, Facts, join
from users.sync.mirror import store

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
FAR = datetime(9998, 1, 1, tzinfo=UTC)
REFERENCES = [str(uuid.UUID(int=number)) for number in (1, 2)]


@dataclass(frozen=True)
class Fact:
    """Where a fact came from, for the oracle."""

    observed_at: datetime
    user: ClerkUser | None = None
    gone: str = ""

    @property
    def joined(self) -> Facts:
        if self.gone == "deleted":
            return facts.of_deletion(self.observed_at)
        if self.gone == "not found":
            return facts.of_not_found(self.observed_at)
        assert self.user is not None
        return facts.of_user(self.user, observed_at=self.observed_at)

    @property
    def updated_at(self) -> datetime:
        assert self.user is not None
        updated_at = self.user.updated_at or self.observed_at
        return self.observed_at if updated_at > self.observed_at + AHEAD else updated_at


moments = strategies.sampled_from(
    [NOW + timedelta(seconds=seconds) for seconds in (-7200, -60, -1, 0, 1, 2, 3, 60, 7200)]
) | strategies.datetimes(datetime(1969, 1, 1), datetime(2030, 1, 1), timezones=strategies.just(UTC))
texts = strategies.sampled_from(["", "Ann", "Lee", "  Zoë\t", "x" * 201, "K", "\u212a"])
addresses = strategies.sampled_from(
    ["", "ann@example.com", "lee@example.com", "k@example.com", "\u212a@example.com"]
)
users = strategies.builds(
    ClerkUser,
    id=strategies.just("user_1"),
    email=addresses,
    email_verified=strategies.booleans(),
    first_name=texts,
    last_name=texts,
    banned=strategies.booleans(),
    locked=strategies.booleans(),
    providers=strategies.sampled_from([(), ("oauth_google",)]),
    last_sign_in_at=strategies.none() | moments,
    created_at=strategies.none() | moments,
    updated_at=strategies.none() | moments | strategies.just(FAR),
    public_metadata=strategies.dictionaries(
        strategies.sampled_from([OUR_ID, OUR_INVITATION]),
        strategies.sampled_from([*REFERENCES, "no id", 7, None]),
    ),
)


@strategies.composite
def known_facts(draw: Any) -> Fact:
    observed_at = draw(moments)
    kind = draw(strategies.sampled_from(["event", "event", "answer", "deleted", "not found"]))
    if kind in ("deleted", "not found"):
        return Fact(observed_at, gone=kind)
    user = draw(users)
    if kind == "answer":
        user = replace(user, asked_at=observed_at)
    return Fact(observed_at, user)


some = strategies.lists(known_facts(), min_size=1, max_size=6)


def joined(told: Sequence[Fact]) -> Facts:
    return reduce(join, [one.joined for one in told])


@given(known_facts(), known_facts(), known_facts())
def test_a_join_is_commutative_associative_and_idempotent(one, two, three):
    a, b, c = one.joined, two.joined, three.joined
    assert join(a, b) == join(b, a)
    assert join(join(a, b), c) == join(a, join(b, c))
    assert join(a, a) == a
    assert join(join(a, b), b) == join(a, b)


@given(some, strategies.randoms(use_true_random=False))
def test_any_order_with_any_repetition_is_one_state(told, rng):
    again = [*told, *rng.sample(told, rng.randint(0, len(told)))]
    rng.shuffle(again)
    assert joined(again) == joined(told)


@given(some)
def test_the_end_is_what_an_oracle_says(told):
    end = joined(told)
    states = [one for one in told if one.user is not None]
    _check_snapshot(end, states)
    _check_last_values(end, states)
    held: dict[str, list[datetime]] = {}
    for one in states:
        if one.user.email and one.user.email_verified:
            at = held.setdefault(one.user.email, [])
            at += [min(one.updated_at, one.observed_at), one.observed_at]
    assert end.addresses == {address: (min(at), max(at)) for address, at in held.items()}
    answers = [one.observed_at for one in states if one.user.asked_at]
    for kind, ours in (("deleted", end.deleted_at), ("not found", end.not_found_at)):
        gone = [one.observed_at for one in told if one.gone == kind]
        taken_back = bool(gone and answers) and max(answers) > max(gone)
        assert ours == (max(gone) if gone and not taken_back else None)
    assert end.seen_at == max(one.observed_at for one in told)
    signed_in = [one.user.last_sign_in_at for one in states if one.user.last_sign_in_at]
    assert end.last_sign_in_at == max(signed_in, default=None)


def _check_snapshot(end: Facts, states: list[Fact]) -> None:
    if not states:
        assert end.snapshot.value is None
        return
    newest = max((max(_sane(one.updated_at)), max(_sane(one.observed_at))) for one in states)
    columns = end.snapshot.value
    candidates = [
        one.user
        for one in states
        if (max(_sane(one.updated_at)), max(_sane(one.observed_at))) == newest
    ]
    assert any(
        (columns["email"], columns["first_name"], columns["banned"], columns["locked"])
        == (user.email, user.first_name, user.banned, user.locked)
        for user in candidates
    )


def _check_last_values(end: Facts, states: list[Fact]) -> None:
    for told, value_of, longest in (
        (end.name, lambda user: user.name, facts.LONGEST_NAME),
        (end.email, lambda user: user.email, facts.LONGEST_EMAIL),
    ):
        full = [one for one in states if 0 < len(value_of(one.user)) <= longest]
        if not full:
            assert told == facts.UNSET
            continue
        order = {id(one): (max(_sane(one.updated_at)), max(_sane(one.observed_at))) for one in full}
        newest = max(order.values())
        assert told.value in [value_of(one.user) for one in full if order[id(one)] == newest]


def _sane(moment: datetime) -> tuple[datetime, datetime]:
    """Before 1970 there was no Clerk: all such times count as one."""
    return moment, datetime(1970, 1, 1, tzinfo=UTC)


class TestTheFuture:
    """A state whose `updated_at` is wrong must not make the account deaf to the next ones."""

    def test_a_state_from_the_far_future_gives_way_to_the_next(self):
        wild = Fact(NOW, ClerkUser(id="user_1", first_name="Wild", updated_at=FAR))
        sane_at = NOW + timedelta(seconds=1)
        sane = Fact(sane_at, ClerkUser(id="user_1", first_name="Sane", updated_at=sane_at))
        for order in permutations([wild, sane]):
            assert joined(order).snapshot.value["first_name"] == "Sane"
            assert joined(order).name.value == "Sane"

    def test_of_two_from_the_far_future_the_one_observed_later_stays(self):
        told = [
            Fact(
                NOW + timedelta(seconds=number),
                ClerkUser(id="user_1", first_name=f"N{number}", updated_at=FAR),
            )
            for number in range(3)
        ]
        for order in permutations(told):
            assert joined(order).name.value == "N2"

    def test_the_store_takes_it_and_still_hears(self, db):
        store.keep(ClerkUser(id="user_1", first_name="Wild", updated_at=FAR, told_at=NOW))
        later = NOW + timedelta(seconds=1)
        store.keep(ClerkUser(id="user_1", first_name="Sane", updated_at=later, told_at=later))
        assert ClerkAccount.objects.get().first_name == "Sane"


def test_only_an_answer_takes_a_deletion_back():
    deletion = Fact(NOW, gone="deleted")
    later = NOW + timedelta(hours=1)
    event = Fact(later, ClerkUser(id="user_1", updated_at=later))
    answer = Fact(later, ClerkUser(id="user_1", updated_at=later, asked_at=later))
    assert joined([deletion, event]).deleted_at == NOW
    assert joined([deletion, event, answer]).deleted_at is None
    assert joined([answer, Fact(later + timedelta(seconds=1), gone="deleted")]).deleted_at


# --- The store -----------------------------------------------------------------------------------


def keep(clerk_id: str, one: Fact, *, in_bulk: bool) -> None:
    if one.gone == "deleted" and in_bulk:
        store.keep_all_deleted([clerk_id], deleted_at=one.observed_at)
    elif one.gone == "deleted":
        store.keep_deleted(clerk_id, deleted_at=one.observed_at)
    elif one.gone:
        store.keep_facts(clerk_id, one.joined)
    else:
        assert one.user is not None
        user = replace(one.user, id=clerk_id)
        user = user if user.asked_at else replace(user, told_at=one.observed_at)
        if in_bulk:
            store.keep_all([user])
        else:
            store.keep(user)


@pytest.mark.django_db
@given(some, strategies.randoms(use_true_random=False))
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_store_keeps_exactly_what_the_join_gives(told, rng):
    ClerkAccount.objects.all().delete()
    order = [*told, *rng.sample(told, rng.randint(0, len(told)))]
    rng.shuffle(order)
    for one in order:
        keep("user_1", one, in_bulk=rng.random() < 0.5)
    expected = joined(told)
    assert store.known(["user_1"])["user_1"] == expected
    assert store.of_record(ClerkAccount.objects.get()) == expected


@pytest.mark.django_db
def test_a_page_of_new_and_known_accounts_is_what_each_alone_gives():
    rng = random.Random(5)
    at = NOW
    expected: dict[str, Facts] = {}
    for _ in range(6):
        at += timedelta(minutes=1)
        page = [
            ClerkUser(
                id=f"user_{number}",
                email=f"u{number}.{rng.randint(0, 2)}@example.com",
                email_verified=True,
                first_name=rng.choice(["", "Ann", "Zoë \U0001f600", "\\u0000", "O'Hara; --"]),
                updated_at=at - timedelta(minutes=rng.randint(0, 9)),
                asked_at=at,
            )
            for number in rng.sample(range(8), 5)
        ]
        store.keep_all(page)
        for user in page:
            fact = facts.of_user(user, observed_at=at)
            expected[user.id] = join(expected[user.id], fact) if user.id in expected else fact
    assert store.known(list(expected)) == expected
    delete_here()
