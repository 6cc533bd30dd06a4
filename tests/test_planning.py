"""Plans say what `clerk_diff` says, and load nothing but what differs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.commands import run
from tests.support.factories import BuilderUserFactory, SyncAttemptFactory, change_here, linked
from users.clerk import ClerkUser
from users.guard import without_clerk
from users.models import (
    Agreement,
    BuilderUser,
    BulkRow,
    BulkRun,
    ClerkAccount,
    RunStatus,
    SyncAttempt,
)
from users.sync.bulk import choosing
from users.sync.mirror import comparison, store

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = ("--field", "name", "--field", "email")
COMMANDS = {"clerk_push": BOTH, "clerk_pull": BOTH, "clerk_link": ()}


def diff_of(*arguments: str) -> list[dict]:
    return json.loads(run("clerk_diff", "--json", *arguments)[1].splitlines()[-1])["differences"]


def plan_of(command: str, *arguments: str) -> dict:
    out = run(command, "--no-refresh", "--json", *COMMANDS[command], *arguments)[1]
    return json.loads(out)["plan"]


def in_clerk(clerk_id: str, email: str, **fields) -> None:
    """An account that our copy knows."""
    account = ClerkUser(id=clerk_id, email=email, asked_at=timezone.now(), **fields)
    store.keep(account)


# --- The diff and the plans agree on any two stores ----------------------------------------------

OTHER_NAMES = {
    "the same": lambda name: name,
    "other spaces": lambda name: name.replace(" ", "\xa0"),
    "none": lambda name: "",
    "another one": lambda name: f"{name} Jones",
    "capitals": str.upper,
    "unfit": lambda name: f"{name}\x1b[31m",
    "too long": lambda name: name * 30,
}
OTHER_EMAILS = {
    "the same": lambda number: f"p{number}@example.com",
    "capitals": lambda number: f"P{number}@Example.com",
    "none": lambda number: "",
    "the next person's": lambda number: f"p{number + 1}@example.com",
    "nobody's": lambda number: f"x{number}@example.com",
}


@dataclass(frozen=True)
class Person:
    """One person in both stores. `link` is what the row has as its Clerk id."""

    row: bool
    account: bool
    link: str
    name: str
    email: str
    verified: bool
    banned: bool
    deleted: bool
    released: bool
    claims: bool
    pending: bool
    admin: bool


rare = st.sampled_from([False] * 7 + [True])
often = st.sampled_from([True] * 7 + [False])
people = st.lists(
    st.builds(
        Person,
        row=often,
        account=often,
        link=st.sampled_from(["own"] * 5 + ["none"] * 3 + ["invalid", "unknown", "changed since"]),
        name=st.sampled_from(sorted(OTHER_NAMES)),
        email=st.sampled_from(sorted(OTHER_EMAILS)),
        verified=often,
        banned=rare,
        deleted=rare,
        released=rare,
        claims=rare,
        pending=rare,
        admin=rare,
    ),
    min_size=1,
    max_size=6,
)


def fill(everybody: list[Person], *, scanned: bool) -> None:
    for model in (BulkRow, ClerkAccount, SyncAttempt, Agreement, BulkRun, BuilderUser):
        model.objects.all()._raw_delete("default")
    for number, person in enumerate(everybody):
        _store(number, person)
    if scanned:
        BulkRun.objects.create(command="scan", state=RunStatus.FINISHED)
        BuilderUser.objects.filter(name__endswith="1").update(updated_at=timezone.now())


def _store(number: int, person: Person) -> None:
    clerk_id, name = f"user_{number}", f"Ann Smith{number}"
    user = None
    if person.row:
        own = {"own": clerk_id, "changed since": clerk_id, "invalid": "none", "unknown": "user_x"}
        known = own.get(person.link)
        user = BuilderUserFactory(
            name=name,
            email=f"p{number}@example.com",
            clerk_id=f"{known}{number}" if person.link in ("invalid", "unknown") else known,
            role="ADMIN" if person.admin else "BUILDER",
        )
    if person.account:
        first_name, last_name = "", OTHER_NAMES[person.name](name)
        claim = {"cascade_user_id": str(user.pk)} if user and person.claims else {}
        in_clerk(
            clerk_id,
            OTHER_EMAILS[person.email](number),
            email_verified=person.verified,
            first_name=first_name,
            last_name=last_name,
            banned=person.banned,
            public_metadata=claim,
        )
        marks = {"deleted_at": person.deleted, "released_at": person.released and not user}
        ClerkAccount.objects.filter(pk=clerk_id).update(
            **{column: timezone.now() for column, marked in marks.items() if marked}
        )
    if user and person.link == "changed since":
        change_here(user, clerk_id=f"user_changed{number}")
    if user and person.pending:
        SyncAttemptFactory(user=user)


@settings(max_examples=40)
@given(people, st.booleans())
def test_the_plans_say_what_the_diff_says(everybody, scanned):
    fill(everybody, scanned=scanned)
    diff, plans = diff_of(), {command: plan_of(command) for command in COMMANDS}
    values = {
        (one["kind"], one["user_id"]): (one["ours"], one["theirs"])
        for one in diff
        if one["kind"] in ("name", "email")
    }
    assert changed(plans["clerk_push"], ours_last=True) == values
    assert_pull_agrees(plans["clerk_pull"], values)
    assert_link_agrees(plans["clerk_link"], [one for one in diff if one["kind"] == "match"])
    assert_left_out_agrees(plans["clerk_push"], Counter(one["kind"] for one in diff))


def changed(plan: dict, *, ours_last: bool) -> dict[tuple[str, str], tuple[str, str]]:
    """The changes of a plan, by field and user: our value and Clerk's as the diff shows it."""
    found = {}
    for row in plan["rows"]:
        for field, (before, after) in row["changes"].items():
            ours, theirs = (after, before) if ours_last else (before, after)
            theirs = comparison.normalized_name(theirs) if field == "name" else theirs
            found[field, row["user_id"]] = ours, theirs
    return found


def assert_pull_agrees(plan: dict, values: dict) -> None:
    """What differs is pulled, or a note says why it is not."""
    pulled = changed(plan, ours_last=False)
    assert pulled.items() <= values.items()
    for field, user_id in values.keys() - pulled.keys():
        user = BuilderUser.objects.get(pk=user_id)
        reason = ": Its name" if field == "name" else f" ({user.email}): Not copied: "
        assert [note for note in plan["notes"] if note.startswith(f"{user}{reason}")]


def assert_link_agrees(plan: dict, matches: list[dict]) -> None:
    """Only matches are linked, each row once; a note names each match that is not linked."""
    links = {row["user_id"]: row["changes"]["clerk_id"][1] for row in plan["rows"]}
    assert len(links) == len(plan["rows"])
    accounts, users = ({one[key] for one in matches} for key in ("clerk_id", "user_id"))
    assert all(pk in users or clerk_id in accounts for pk, clerk_id in links.items())
    named = {re.search(r"\((\w+)\)", note)[1] for note in plan["notes"]}
    assert accounts - set(links.values()) == named


def assert_left_out_agrees(plan: dict, kinds: Counter) -> None:
    said = dict(re.fullmatch(r"Left out: (\d+) (.*)\.", note).group(2, 1) for note in plan["notes"])
    without = [user for user in BuilderUser.objects.all() if not user.linked]
    expected = {
        "without a Clerk account": len(without),
        "whose account was not seen yet (--no-refresh?)": kinds["unseen"],
        "whose account is not among all of Clerk's users": kinds["missing"],
        "whose account was deleted in Clerk": kinds["deleted"],
    }
    assert said == {why: str(count) for why, count in expected.items() if count}


@settings(max_examples=20)
@given(people, st.booleans())
def test_users_chosen_by_a_kind_of_difference_are_those_of_the_diff(everybody, scanned):
    fill(everybody, scanned=scanned)
    kinds: dict[str, set[str]] = {}
    for one in diff_of():
        kinds.setdefault(one["kind"], set()).add(one["user_id"])
    everything = plan_of("clerk_push")["rows"]
    for kind in ("name", "email", "unfinished", "twins"):
        chosen = plan_of("clerk_push", "--drift", kind)["rows"]
        assert chosen == [row for row in everything if row["user_id"] in kinds.get(kind, set())]


def test_an_account_that_the_row_no_longer_has_is_not_compared(sandbox):
    user = linked(sandbox)
    change_here(user, name="Jane Roe", email="jane@example.com", clerk_id="user_changed")
    assert {one["kind"] for one in diff_of()} == {"unseen"}
    plan = plan_of("clerk_push")
    assert plan["rows"] == []
    assert plan["notes"] == ["Left out: 1 whose account was not seen yet (--no-refresh?)."]


def test_a_difference_that_the_look_at_clerk_finds_can_be_chosen(sandbox):
    user = linked(sandbox)
    sandbox.edit(user.clerk_id, last_name="Brown")
    out = run("clerk_push", "--json", "--drift", "name")[1]
    [row] = json.loads(out)["plan"]["rows"]
    assert row["changes"] == {"name": ["Mary Ann Brown", "Mary Ann Smith"]}


def test_a_row_with_two_matches_is_linked_once_however_they_are_read(monkeypatch):
    user = BuilderUserFactory(email="ann@example.com")
    for number in range(3):
        in_clerk(f"user_{number}", "ann@example.com", email_verified=True)
    together = plan_of("clerk_link")
    monkeypatch.setattr(choosing, "LOT", 1)
    for plan in (together, plan_of("clerk_link")):
        [row] = plan["rows"]
        assert row["user_id"] == str(user.pk)
        assert len(plan["notes"]) == 2
        assert all("has its email and another Clerk account" in note for note in plan["notes"])


def test_a_match_that_waits_for_a_pending_change_says_so():
    user = BuilderUserFactory(email="ann@example.com")
    in_clerk("user_1", "ann@example.com", email_verified=True)
    SyncAttemptFactory(user=user)
    plan = plan_of("clerk_link")
    assert plan["rows"] == []
    assert plan["notes"] == [
        "ann@example.com (user_1): Mary Ann Smith is being saved, or has a pending change. "
        "Nothing was linked."
    ]


# --- What planning loads -------------------------------------------------------------------------


@dataclass
class Load:
    """The queries of a command, and the rows that the database returned to them."""

    queries: int = 0
    rows: int = 0


@contextmanager
def counted() -> Iterator[Load]:
    load = Load()

    def count(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        load.queries += 1
        if sql.lstrip(" (").startswith("SELECT"):
            load.rows += max(0, context["cursor"].rowcount)
        return result

    with connection.execute_wrapper(count):
        yield load


def matching(first: int, count: int) -> None:
    """Users whose account holds what the row holds."""
    users = [
        BuilderUser(
            name=f"Ann Smith{number}",
            email=f"p{number}@example.com",
            clerk_id=f"user_{number}",
        )
        for number in range(first, first + count)
    ]
    BuilderUser.objects.bulk_create(users)
    store.keep_all(
        ClerkUser(
            id=user.clerk_id or "",
            email=user.email,
            email_verified=True,
            first_name="Ann",
            last_name=user.name.removeprefix("Ann "),
            asked_at=timezone.now(),
        )
        for user in users
    )


def set_apart(first: int, count: int) -> None:
    """Give the rows of these users other names, and their accounts the emails of other rows."""
    numbers = range(first, first + count)
    with without_clerk():
        for number in numbers:
            BuilderUser.objects.filter(clerk_id=f"user_{number}").update(name=f"Jane{number}")
            ClerkAccount.objects.filter(pk=f"user_{number}").update(
                email=BuilderUserFactory(email=f"taken{number}@example.com").email
            )


def wait_for_link(first: int, count: int) -> None:
    """Let these rows be without the account that is theirs."""
    ids = [f"user_{number}" for number in range(first, first + count)]
    Agreement.objects.filter(clerk_id__in=ids).update(clerk_id=None, linked_by="")
    ClerkAccount.objects.filter(pk__in=ids).update(user=None)
    with without_clerk():
        BuilderUser.objects.filter(clerk_id__in=ids).update(clerk_id=None)


PLANNING = [
    ("clerk_push",),
    ("clerk_push", "--role", "BUILDER"),
    ("clerk_push", "--drift", "name", "--drift", "email"),
    ("clerk_pull",),
    ("clerk_link",),
]


@pytest.mark.parametrize("command", PLANNING, ids=" ".join)
def test_planning_loads_nothing_of_the_users_who_match(command):
    matching(0, 10)
    set_apart(0, 2)
    wait_for_link(2, 2)
    with counted() as few:
        plan = plan_of(*command)
    matching(10, 100)
    with counted() as many:
        again = plan_of(*command)
    assert plan["rows"]
    assert again["rows"] == plan["rows"]
    assert (many.rows, many.queries) == (few.rows, few.queries)


@pytest.mark.parametrize("command", PLANNING, ids=" ".join)
def test_planning_takes_as_many_queries_for_many_differences_as_for_few(command):
    matching(0, 40)
    set_apart(0, 2)
    wait_for_link(20, 2)
    with counted() as few:
        plan = plan_of(*command)
    set_apart(2, 8)
    wait_for_link(22, 8)
    with counted() as many:
        again = plan_of(*command)
    assert len(again["rows"]) == 5 * len(plan["rows"])
    assert many.queries == few.queries
