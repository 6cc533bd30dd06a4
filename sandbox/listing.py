"""List users with filters, order, pages and cursors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from sandbox.errors import Refusal, invalid, lacking, problem
from sandbox.requests import Request
from sandbox.state import Encoded, Json, State

KEYS = ("created_at", "updated_at", "first_name", "last_name", "username", "last_active_at",
        "last_sign_in_at", "email_address")  # fmt: skip
LACKING = ("web3wallet", "phone_number")
"""Orders that Clerk has and the sandbox lacks."""

FILTERS = frozenset({
    "email_address", "user_id", "external_id", "username", "query", "email_address_query",
    "name_query", "username_query", "banned", "created_at_after", "created_at_before",
    "last_active_at_after", "last_active_at_before", "last_sign_in_at_after",
    "last_sign_in_at_before",
})  # fmt: skip
PAGES = frozenset({"limit", "offset", "order_by", "starting_after", "paginated"})

Test = Callable[[Json], bool]


def list_users(state: State, request: Request) -> Encoded:
    """Return a page of users (`GET /users`), newest first by default.

    Raises `Refusal` for an order that is unknown or that the sandbox lacks, and for a cursor that
    is not valid with the other parameters.
    """
    limit, offset = request.limit_and_offset()
    order = request.one("order_by") or "-created_at"
    column, newest_first = order.lstrip("+-"), order.startswith("-")
    cursor = request.one("starting_after") or None
    if column in LACKING:
        raise lacking(f"order_by {column}")
    if column not in KEYS:
        raise Refusal(422, invalid("order_by", f"order_by must be one of {', '.join(KEYS)}."))
    if cursor:
        if column != "created_at":
            raise Refusal(422, invalid("order_by", "starting_after needs order_by created_at."))
        if offset:
            raise Refusal(422, invalid("offset", "offset cannot be used with starting_after."))
        if cursor not in state:
            raise Refusal(422, invalid("starting_after", "starting_after is no user's id."))
    tests, places = _tests(request), _window(state, request, cursor, newest_first)
    if column == "created_at" and not tests:
        shown: Iterable[str] = state.texts_at(places[offset : offset + limit])
    else:
        found = _found(state, request, places, tests)
        if column != "created_at":
            found = iter(sorted(found, key=_key(column), reverse=newest_first))
        shown = map(json.dumps, islice(found, offset, offset + limit))
    data = f"[{','.join(shown)}]"
    if request.flag("paginated"):
        total = count_users(state, request)["total_count"]
        return Encoded(f'{{"data": {data}, "total_count": {total}}}')
    return Encoded(data)


def count_users(state: State, request: Request) -> Json:
    """Return how many users match the filters (`GET /users/count`)."""
    tests, places = _tests(request), _window(state, request)
    found = sum(1 for _ in _found(state, request, places, tests)) if tests else len(places)
    return {"object": "total_count", "total_count": found}


def get_user(state: State, request: Request, user_id: str) -> Encoded:
    """Return one user (`GET /users/{user_id}`)."""
    return state.text(user_id)


def _window(
    state: State, request: Request, cursor: str | None = None, newest_first: bool = False
) -> range:
    return state.window(
        after=request.number("created_at_after"),
        before=request.number("created_at_before"),
        cursor=cursor,
        newest_first=newest_first,
    )


def _found(state: State, request: Request, places: range, tests: list[Test]) -> Iterator[Json]:
    """Yield the users of the window who pass the tests.

    To be fast, the index of addresses and a search in the text exclude users before their JSON is
    parsed.
    """
    texts: Iterable[str]
    if addresses := request.many("email_address"):
        ids = {user_id for address in addresses for user_id in state.ids_by_address(address)}
        texts = state.texts_at(state.only(ids, places))
    elif ids := {v.lstrip("+") for v in request.many("user_id") if not v.startswith("-")}:
        texts = state.texts_at(state.only(ids, places))
    else:
        texts = state.texts_at(places)
    needle = json.dumps((request.one("query") or "").lower())[1:-1]
    if needle.isascii() and "\\" not in needle:
        texts = (text for text in texts if needle in text.lower())
    return (user for user in map(json.loads, texts) if all(test(user) for test in tests))


def _tests(request: Request) -> list[Test]:
    tests: list[Test] = []
    for name in ("email_address", "user_id", "external_id", "username"):
        if values := request.many(name):
            if len(values) > 100:
                raise Refusal(
                    422, problem("form_param_array_size_exceeded", "has too many", param=name)
                )
            tests.append(_has_address(values) if name == "email_address" else _is_in(name, values))
    for name, texts in _TEXTS.items():
        if wanted := (request.one(name) or "").lower():
            tests.append(_contains(texts, wanted))
    if request.one("banned"):
        banned = request.flag("banned")
        tests.append(lambda user: user["banned"] is banned)
    for column in ("last_active_at", "last_sign_in_at"):
        before, after = request.number(f"{column}_before"), request.number(f"{column}_after")
        if before is not None or after is not None:
            tests.append(_between(column, after, before))
    return tests


def _has_address(values: list[str]) -> Test:
    wanted = {value.lower() for value in values}
    return lambda user: not wanted.isdisjoint(_addresses(user))


def _is_in(name: str, values: list[str]) -> Test:
    """Return a test for one of the values. A "-" in front of a value excludes it."""
    column = "id" if name == "user_id" else name
    included = {value.lstrip("+") for value in values if not value.startswith("-")}
    excluded = {value[1:] for value in values if value.startswith("-")}
    return lambda user: user[column] not in excluded and (not included or user[column] in included)


def _contains(texts: Callable[[Json], list[str]], wanted: str) -> Test:
    return lambda user: any(wanted in text for text in texts(user))


def _between(column: str, after: int | None, before: int | None) -> Test:
    return lambda user: (
        (before is None or (user[column] or 0) < before)
        and (after is None or (user[column] or 0) > after)
    )


def _addresses(user: Json) -> list[str]:
    return [email["email_address"].lower() for email in user["email_addresses"]]


def _names(user: Json) -> list[str]:
    return [f"{user['first_name'] or ''} {user['last_name'] or ''}".lower()]


_TEXTS: dict[str, Callable[[Json], list[str]]] = {
    "query": lambda user: [*_addresses(user), *_names(user), user["id"].lower()],
    "email_address_query": _addresses,
    "name_query": _names,
    "username_query": lambda user: [(user["username"] or "").lower()],
}


def _key(column: str) -> Callable[[Json], Any]:
    def key(user: Json) -> Any:
        if column == "email_address":
            return ((_addresses(user) or [""])[0], user["id"])
        value = user[column]
        empty = 0 if column.endswith("_at") else ""
        return (value is not None, value or empty, user["id"])

    return key
