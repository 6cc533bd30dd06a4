"""The sandbox's lists of users: pages, cursors, windows, filters; true after any change."""

from __future__ import annotations

import json
import random

import pytest
import requests

from sandbox import Request, Sandbox
from tests.support.patience import PATIENCE

START = 1_700_000_000_000


def get(sandbox: Sandbox, path: str = "/users", **params: object) -> requests.Response:
    return requests.get(
        f"{sandbox.url}{path}",
        params=params,
        headers={"Authorization": f"Bearer {sandbox.secret_key}"},
        timeout=PATIENCE,
    )


def ids(sandbox: Sandbox, **params: object) -> list[str]:
    answer = get(sandbox, **params)
    assert answer.status_code == 200, answer.text
    return [user["id"] for user in answer.json()]


def walk(sandbox: Sandbox, limit: int, **params: object) -> list[str]:
    """Everybody by cursor."""
    found: list[str] = []
    while page := ids(
        sandbox, limit=limit, **params, **({"starting_after": found[-1]} if found else {})
    ):
        found += page
        if len(page) < limit:
            break
    return found


@pytest.mark.parametrize("order", ["-created_at", "+created_at", "created_at"])
def test_a_walk_by_cursor_sees_everybody_once_though_many_were_created_at_once(sandbox, order):
    known = sandbox.fill(103, lambda n: {"created_at": START + n // 10})
    walked = walk(sandbox, 7, order_by=order)
    times = [sandbox.user(one)["created_at"] for one in walked]
    assert sorted(walked) == sorted(known)
    assert times == sorted(times, reverse=order.startswith("-"))


def test_a_walk_goes_on_when_people_come_and_go(sandbox):
    known = sandbox.fill(30, lambda n: {"created_at": START + n})
    first = ids(sandbox, limit=10)
    sandbox.add_user(email="late@example.com")
    sandbox.delete(known[10])
    rest, cursor = [], first[-1]
    while page := ids(sandbox, limit=10, starting_after=cursor):
        rest += page
        cursor = page[-1]
    assert first + rest == [one for one in reversed(known) if one != known[10]]


def test_windows_do_not_include_their_bounds_and_join_cursors(sandbox):
    known = sandbox.fill(40, lambda n: {"created_at": START + n})
    window = {"created_at_after": START + 9, "created_at_before": START + 20}
    assert ids(sandbox, limit=500, **window) == known[19:9:-1]
    assert walk(sandbox, 3, **window) == known[19:9:-1]
    assert ids(sandbox, limit=500, created_at_after=START + 39) == []
    assert ids(sandbox, limit=500, created_at_after=START + 30, created_at_before=START) == []
    assert get(sandbox, "/users/count", **window).json()["total_count"] == 10


def test_pages_are_of_ten_unless_asked_for_up_to_500(sandbox):
    sandbox.fill(600, lambda n: {"created_at": START + n})
    assert len(ids(sandbox)) == 10
    assert len(ids(sandbox, limit=500)) == 500
    assert len(ids(sandbox, limit=501)) == 10, "as observed: no error"
    assert len(ids(sandbox, limit=500, offset=550)) == 50


@pytest.mark.parametrize("order", ["phone_number", "-phone_number", "web3wallet"])
def test_an_order_that_clerk_has_and_the_sandbox_lacks_is_refused_with_501(sandbox, order):
    answer = get(sandbox, "/users", order_by=order)
    assert answer.status_code == 501
    assert f"The sandbox lacks this: order_by {order.lstrip('-')}." in answer.text


@pytest.mark.parametrize(
    ("params", "param_name"),
    [
        ({"starting_after": "user_nobody"}, "starting_after"),
        ({"starting_after": "known", "order_by": "last_name"}, "order_by"),
        ({"starting_after": "known", "offset": 1}, "offset"),
        ({"order_by": "shoe_size"}, "order_by"),
        ({"limit": "many"}, "limit"),
        ({"email_address": [f"{n}@example.com" for n in range(101)]}, "email_address"),
    ],
)
def test_what_clerk_does_not_understand_is_refused(sandbox, params, param_name):
    known = sandbox.add_user(email="mary@example.com")["id"]
    params = {key: known if value == "known" else value for key, value in params.items()}
    answer = get(sandbox, **params)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["meta"]["param_name"] == param_name


def test_paginated_lists_have_their_total_count(sandbox):
    known = sandbox.fill(12, lambda n: {"created_at": START + n, "first_name": f"Mary {n}"})
    page = get(sandbox, paginated="true", limit=5, offset=10).json()
    assert ([user["id"] for user in page["data"]], page["total_count"]) == (known[1::-1], 12)
    page = get(sandbox, paginated="true", limit=1, query="mary 1").json()
    assert (len(page["data"]), page["total_count"]) == (1, 3)
    assert get(sandbox, paginated="maybe").status_code == 422
    sessions = [sandbox.sign_in(known[0])["id"] for _ in range(3)]
    page = get(sandbox, "/sessions", user_id=known[0], paginated="true", limit=2).json()
    assert [session["id"] for session in page["data"]] == [sessions[2], sessions[1]]
    assert page["total_count"] == 3
    assert get(sandbox, "/invitations", paginated="true").json() == {"data": [], "total_count": 0}
    assert get(sandbox, "/invitations", paginated="false").json() == []


def test_pending_sessions_are_listed_but_cannot_be_chosen_by_their_status(sandbox):
    """The document of the API does not list `pending` among the values of the filter."""
    (mary,) = sandbox.fill(1, lambda n: {"created_at": START + n})
    pending, active = sandbox.sign_in(mary, pending=True), sandbox.sign_in(mary)
    assert get(sandbox, "/sessions", user_id=mary).json() == [active, pending]
    assert get(sandbox, "/sessions", user_id=mary, status="active").json() == [active]
    refused = get(sandbox, "/sessions", user_id=mary, status="pending")
    assert (refused.status_code, refused.json()["errors"][0]["meta"]["param_name"]) == (
        422, "status",
    )  # fmt: skip


def test_sessions_are_found_by_client_and_user(sandbox):
    mary, ann = sandbox.fill(2, lambda n: {"created_at": START + n})
    session = sandbox.sign_in(mary)
    by_client = get(sandbox, "/sessions", client_id=session["client_id"]).json()
    assert by_client == [session]
    assert get(sandbox, "/sessions", client_id=session["client_id"], user_id=ann).json() == []


@pytest.mark.parametrize("order", ["created_at", "-email_address", "+expires_at"])
def test_invitations_are_ordered(sandbox, order):
    with sandbox.state.lock:
        for number, address in enumerate("bca"):
            sandbox.state.invitations[address] = {
                "id": address, "email_address": address, "status": "pending",
                "created_at": number, "expires_at": sandbox.state.now() * 2 + number}  # fmt: skip
    answer = get(sandbox, "/invitations", order_by=order)
    found = [entry["email_address"] for entry in answer.json()]
    assert found == (["c", "b", "a"] if order == "-email_address" else ["b", "c", "a"])
    assert get(sandbox, "/invitations", order_by="status").status_code == 422


@pytest.mark.parametrize(
    ("path", "params", "lacks"),
    [
        ("/users", {"phone_number": "1"}, "the parameter phone_number of GET /users"),
        ("/users", {"last_active_at_since": 1}, "the parameter last_active_at_since of GET /users"),
        ("/users/count", {"limit": 1}, "the parameter limit of GET /users/count"),
        ("/users/user_1", {"a": 1}, "the parameter a of GET /users/{user_id}"),
        ("/organizations", {}, "the route GET /organizations"),
        ("/users/user_1/oauth_access_tokens/google", {},
         "the route GET /users/user_1/oauth_access_tokens/google"),
        ("/users/user_1/metadata", {}, "the route GET /users/user_1/metadata"),
    ],
)  # fmt: skip
def test_what_the_sandbox_lacks_is_refused_and_not_ignored(sandbox, path, params, lacks):
    answer = get(sandbox, path, **params)
    assert answer.status_code == 501
    assert answer.json()["errors"][0]["long_message"] == f"The sandbox lacks this: {lacks}."
    assert answer.json()["clerk_trace_id"]


@pytest.mark.parametrize("path", ["/users/", "/users/a b", "/sessions/"])
def test_a_malformed_id_of_a_known_route_is_not_found(sandbox, path):
    answer = sandbox.api.answer(Request("GET", path), f"Bearer {sandbox.secret_key}", [], False)
    assert (answer.status, json.loads(answer.body)["errors"][0]["code"]) == (
        404, "resource_not_found")  # fmt: skip


def test_filters(sandbox):
    mary = sandbox.add_user(email="mary@example.com", first_name="Mary", last_name="Élan",
                            external_id="a-1")["id"]  # fmt: skip
    ann = sandbox.add_user(email="ann@example.com", first_name="Ann", last_name="Smith",
                           banned=True, last_sign_in_at=START)["id"]  # fmt: skip
    both = [ann, mary]
    assert ids(sandbox, email_address="MARY@example.com") == [mary]
    assert ids(sandbox, email_address=["mary@example.com", "ann@example.com", "x@y.z"]) == both
    assert ids(sandbox, email_address="nobody@example.com") == []
    assert ids(sandbox, user_id=[mary, "user_nobody"]) == [mary]
    assert ids(sandbox, user_id=f"-{mary}") == [ann]
    assert ids(sandbox, user_id=["user_nobody"]) == []
    assert ids(sandbox, external_id="a-1") == [mary]
    assert ids(sandbox, query="éLAN") == [mary]
    assert ids(sandbox, query="mary é") == [mary]
    assert ids(sandbox, query="@EXAMPLE") == both
    assert ids(sandbox, query='"') == []
    assert ids(sandbox, email_address_query="ann@") == [ann]
    assert ids(sandbox, name_query="smi") == [ann]
    assert ids(sandbox, banned="true") == [ann]
    assert ids(sandbox, banned="false") == [mary]
    assert ids(sandbox, last_sign_in_at_after=START - 1) == [ann]
    assert ids(sandbox, order_by="first_name") == [ann, mary]
    assert ids(sandbox, order_by="-first_name") == [mary, ann]
    assert ids(sandbox, order_by="email_address", limit=1, offset=1) == [mary]


def test_the_indices_stay_true_over_any_changes(sandbox):
    chance = random.Random(3)
    for turn in range(300):
        everybody = sandbox.users()
        deed = chance.choice(["add", "add", "edit", "move", "delete"])
        one = chance.choice(everybody)["id"] if everybody else ""
        if deed == "add" or not one:
            sandbox.add_user(email=f"p{turn}@example.com", created_at=START + chance.randrange(9))
        elif deed == "edit":
            sandbox.edit(one, email=f"moved{turn}@example.com")
        elif deed == "move":
            sandbox.edit(one, created_at=START + chance.randrange(9))
        else:
            sandbox.delete(one)
    everybody = sandbox.users()
    expected = sorted(((user["created_at"], user["id"]) for user in everybody), reverse=True)
    assert walk(sandbox, 7) == [user_id for _, user_id in expected]
    for user in everybody:
        [address] = [email["email_address"] for email in user["email_addresses"]]
        assert ids(sandbox, email_address=address) == [user["id"]]
    for turn in range(300):
        for address in (f"p{turn}@example.com", f"moved{turn}@example.com"):
            assert [user["id"] for user in sandbox.find(address)] == [
                user["id"]
                for user in everybody
                if user["email_addresses"][0]["email_address"] == address
            ]


def test_a_refused_request_leaves_nothing_half_done(sandbox):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary")
    answer = requests.patch(
        f"{sandbox.url}/users/{user['id']}",
        json={"first_name": "Marie", "primary_email_address_id": "idn_other"},
        headers={"Authorization": f"Bearer {sandbox.secret_key}"},
        timeout=PATIENCE,
    )
    assert answer.status_code == 422
    assert sandbox.user(user["id"]) == user


def test_what_it_hands_out_is_not_its_own(sandbox):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary")
    user["first_name"] = "Changed"
    sandbox.users()[0]["first_name"] = "Changed"
    sandbox.find("mary@example.com")[0]["email_addresses"].clear()
    assert sandbox.user(user["id"])["first_name"] == "Mary"
    assert len(sandbox.find("mary@example.com")[0]["email_addresses"]) == 1


class Counted(dict):
    """Counts how often a value is looked at."""

    looked_at = 0

    def __getitem__(self, key):
        self.looked_at += 1
        return super().__getitem__(key)

    def values(self):
        self.looked_at += len(self)
        return super().values()


def test_many_users_are_loaded_at_once_without_events_and_paged_cheaply(sandbox, monkeypatch):
    """Measured at 300,000: loaded in 6 s, a page of 500 takes 0.5 ms of processor time."""
    sandbox.fill(
        20_000, lambda n: {"email": f"builder{n}@example.com", "created_at": START + n // 3}
    )
    assert sandbox.webhooks.events == []
    cursor = ids(sandbox, limit=1)[-1]
    texts = Counted(sandbox.state._texts)
    monkeypatch.setattr(sandbox.state, "_texts", texts)
    assert len(ids(sandbox, limit=500, starting_after=cursor, created_at_after=START + 100)) == 500
    assert texts.looked_at <= 500 + 1  # and the cursor
    assert [user["id"] for user in sandbox.find("builder7@example.com")] == ids(
        sandbox, email_address="builder7@example.com"
    )
