"""The sandbox with users from a YAML file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "sandbox", "--port", "0"]


@contextmanager
def started(*options: str) -> Iterator[str]:
    """Start the sandbox as a command; give the address of its pages."""
    environment = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [*COMMAND, *options], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as sandbox:
        try:
            yield sandbox.stdout.readline().split()[-1]
        finally:
            sandbox.terminate()
        assert sandbox.wait(PATIENCE) == 0


def state(root: str) -> list[dict]:
    return requests.get(f"{root}/_sandbox/state", timeout=PATIENCE).json()["users"]


def test_the_example_is_loaded_without_events():
    with started("--seed", "sandbox/seed.example.yml") as root:
        users = state(root)
        events = requests.get(f"{root}/_sandbox/webhooks/events", timeout=PATIENCE).json()
    assert [user["first_name"] for user in users] == ["Mary Ann", "Ludwig", "Zoë", None, "Chloé"]
    mary, ludwig, zoe, unverified, chloe = users
    assert mary["email_addresses"][0]["email_address"] == "mary.smith@example.com"
    assert mary["created_at"] == 1_740_787_200_000
    assert mary["last_sign_in_at"] == 1_795_162_500_000
    assert mary["public_metadata"] == {"team": "north"}
    assert ludwig["external_id"] == "4711"
    assert zoe["banned"] is True
    assert unverified["email_addresses"][0]["verification"] is None
    assert (chloe["username"], chloe["email_addresses"]) == ("chloe", [])
    assert events == []


def test_a_state_file_with_users_wins_over_the_seed(tmp_path):
    seed = tmp_path / "seed.yml"
    options = ("--state-file", str(tmp_path / "state.json"), "--seed", str(seed))
    seed.write_text("users: [{email: first@example.com}]")
    with started(*options) as root:
        first = state(root)
    seed.write_text("users: [{email: second@example.com}]")
    with started(*options) as root:
        assert state(root) == first


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("users:\n  - emial: a@example.com", 2, "“emial” is not one of: email, verified"),
        ("people: []", 1, "“people” is not one of: users"),
        ("{}", 1, "the list “users” is missing"),
        ("users: 7", 1, "“users” must be a list"),
        ("users:\n  - mary@example.com", 2, "this must be a mapping"),
        ("users:\n  - email: mary", 2, "“mary” is not a valid email"),
        ("users:\n  - email:\n", 2, "email must be a text"),
        ("users:\n  - external_id: 4711", 2, "external_id must be a text (put it in quotes)"),
        ("users:\n  - banned: perhaps", 2, "banned must be true or false"),
        ("users:\n  -\n    created_at: 2026-13-45", 3, "created_at must be a date such as"),
        ("users:\n  - public_metadata: {on: 2026-01-01}", 2, "must be a mapping of JSON values"),
        ("users:\n  - first_name: " + "x" * 257, 2, "must not be longer than 256"),
        ("users:\n  - first_name: a\n    first_name: b", 3, "“first_name” is there twice"),
        ("users:\n  - email: a@example.com\n  - email: A@example.com", 3, "line 2 has the same"),
        ("users:\n  - email: [", 2, "the YAML is not valid"),
        ("users:\n  - email: !!python/name:os.system x", 2, "the YAML is not valid"),
    ],
)
def test_a_wrong_file_stops_the_start_with_one_line(tmp_path, text, line, words):
    file = tmp_path / "seed.yml"
    file.write_text(text)
    assert f"{file}, line {line}: " in (said := refused(file))
    assert words in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "the file is empty"),
        (b"\xff\xfe\xff", "the file is not a text in UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_stops_the_start_with_one_line(tmp_path, content, words):
    file = tmp_path / "seed.yml"
    if content is not None:
        file.write_bytes(content)
    assert f"{file}: {words}" in refused(file)


def refused(file: Path) -> str:
    """Return the one line that the sandbox says when it does not start."""
    ended = subprocess.run(
        [*COMMAND, "--seed", str(file)],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    return line
