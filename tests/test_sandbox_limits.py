"""Clerk's known limits in the sandbox, at a clock of our own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sandbox import Limits, Request, Sandbox

LIVE, TEST = Limits.of_key("sk_live_x"), Limits.of_key("sk_test_x")


@dataclass
class World:
    sandbox: Sandbox
    now: float = 1_800_000_000.0

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        authorization = f"Bearer {self.sandbox.secret_key}"
        return self.sandbox.api.answer(Request(method, path, [], body), authorization, [], False)

    def statuses(self, count: int, method: str, path: str, body: Any = None) -> list[int]:
        return [self.ask(method, path, body).status for _ in range(count)]


@pytest.fixture
def world(request) -> Iterator[World]:
    found = World(Sandbox(limits=request.param, clock=lambda: found.now).start())
    yield found
    found.sandbox.stop()


@pytest.mark.parametrize(("world", "most"), [(LIVE, 1000), (TEST, 100)], indirect=["world"])
def test_the_instance_takes_so_many_in_ten_seconds(world, most):
    assert world.statuses(most, "GET", "/users") == [200] * most
    refused = world.ask("GET", "/users/count")
    assert (refused.status, refused.headers["Retry-After"]) == (429, "10")
    assert b'"too_many_requests"' in refused.body
    assert b'"resets_in": 10' in refused.body
    world.now += 9.5
    assert world.ask("GET", "/users").headers["Retry-After"] == "1"
    world.now += 0.5
    assert world.statuses(most, "GET", "/users") == [200] * most
    assert world.ask("GET", "/users").status == 429


@pytest.mark.parametrize("world", [LIVE], indirect=True)
def test_a_user_takes_ten_writes_in_ten_seconds(world):
    """PATCH of the user and of its metadata together, PUT of the metadata too; nothing else."""
    mary = world.sandbox.add_user(email="mary@example.com")["id"]
    ann = world.sandbox.add_user(email="ann@example.com")["id"]
    names, metadata = {"first_name": "Marie"}, {"public_metadata": {"a": 1}}
    assert world.statuses(6, "PATCH", f"/users/{mary}", names) == [200] * 6
    world.now += 4
    assert world.statuses(2, "PATCH", f"/users/{mary}/metadata", metadata) == [200] * 2
    assert world.statuses(3, "PUT", f"/users/{mary}/metadata", metadata) == [200, 200, 429]
    assert world.ask("PATCH", f"/users/{mary}", names).headers["Retry-After"] == "6"
    assert world.ask("PATCH", f"/users/{ann}", names).status == 200
    assert world.ask("POST", f"/users/{mary}/ban").status == 200
    assert world.ask("GET", f"/users/{mary}").status == 200
    updated = world.sandbox.user(mary)["updated_at"]
    world.now += 6
    assert world.statuses(7, "PATCH", f"/users/{mary}", names) == [200] * 6 + [429]
    assert world.sandbox.user(mary)["updated_at"] > updated


@pytest.mark.parametrize("world", [LIVE], indirect=True)
def test_a_hundred_invitations_an_hour(world):
    def invite(number: int) -> Any:
        return world.ask("POST", "/invitations", {"email_address": f"p{number}@example.com"})

    assert [invite(number).status for number in range(100)] == [200] * 100
    world.now += 1800
    refused = invite(100)
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1800")
    assert len(world.sandbox.invitations()) == 100
    assert world.ask("GET", "/invitations").status == 200, "reading is another thing"
    world.now += 1800
    assert invite(100).status == 200


@pytest.mark.parametrize("world", [Limits(instance=(1, 10.0))], indirect=True)
def test_reset_forgets_what_was_counted_and_a_wrong_key_is_not_counted(world):
    wrong = world.sandbox.api.answer(Request("GET", "/users"), "Bearer sk_test_no", [], False)
    assert wrong.status == 401
    assert world.statuses(2, "GET", "/users") == [200, 429]
    world.sandbox.reset()
    assert world.statuses(2, "GET", "/users") == [200, 429]
