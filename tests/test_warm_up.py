"""The first save of a server process does not wait for the SDK to be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FIRST_WRITES = """
import socket, sys, threading
connect = socket.socket.connect
socket.socket.connect = None
from cascade.wsgi import application
socket.socket.connect = connect
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()

def modules():
    return {name for name in sys.modules if name.startswith(("clerk_backend_api", "pydantic"))}

before = modules()
assert "clerk_backend_api.users" in before
from users.clerk import Deadline, clerk
from users.errors import ClerkRefused
end = Deadline(60)
renamed = clerk().update_user(sys.argv[1], first_name="Mary", last_name="Lee", deadline=end)
assert renamed.last_name == "Lee"
try:
    clerk().update_user("user_gone", first_name="", last_name="", deadline=end)
except ClerkRefused:
    print(sorted(modules() - before))
"""
"""Imports the application as a server does, with no way to a network, then makes two calls."""


def in_a_process(
    code: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        cwd=ROOT, text=True, capture_output=True, check=False, timeout=300,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.django_db
def test_the_first_write_of_a_server_process_imports_no_more_of_the_sdk(sandbox):
    account = sandbox.add_user(email="mary@example.com", first_name="Mary")
    ended = in_a_process(
        FIRST_WRITES, account["id"],
        CLERK_API_URL=sandbox.url, CLERK_SECRET_KEY=sandbox.secret_key,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr
    assert sandbox.user(account["id"])["last_name"] == "Lee"


def test_a_server_without_a_key_starts():
    ended = in_a_process("import cascade.wsgi", CLERK_SECRET_KEY="")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
