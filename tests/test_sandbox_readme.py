"""The sandbox's README: its tables match the code, and its commands work as printed."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.faults import KINDS
from sandbox.routes import QUERIES, ROUTES
from tests.support.patience import PATIENCE

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "sandbox" / "README.md").read_text()


def table(head: str) -> list[list[str]]:
    """Return the rows of the table whose first column is called `head`."""
    [rows] = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def commands() -> list[str]:
    """Return the printed commands, with ports that are free on this machine."""
    lines = "".join(re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)).splitlines()
    with socket.socket() as sandbox, socket.socket() as application:
        for probe, port in ((sandbox, "8001"), (application, "8000")):
            probe.bind(("127.0.0.1", 0))
            free = str(probe.getsockname()[1])
            lines = [re.sub(rf"\b{port}\b", free, line) for line in lines]
    return lines


@contextmanager
def running(command: str) -> Iterator[None]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        shlex.split(command), cwd=ROOT, env={"PATH": path}, stdout=subprocess.PIPE, text=True
    ) as sandbox:
        try:
            assert sandbox.stdout.readline().startswith("Sandbox of Clerk: http"), command
            yield
        finally:
            sandbox.terminate()
        assert sandbox.wait(PATIENCE) == 0


def test_the_table_has_every_route_with_its_parameters():
    listed = [(code(route)[0], frozenset(code(names))) for route, names, _ in table("Route")]
    assert listed == [(route, QUERIES.get(route, frozenset())) for route in ROUTES]


def test_the_table_has_every_kind_of_fault():
    assert {code(kind)[0]: text for kind, text in table("Kind")} == KINDS


def test_the_table_has_every_option():
    usage = subprocess.run(
        [sys.executable, "-m", "sandbox", "--help"],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True,
    ).stdout  # fmt: skip
    assert {code(option)[0] for option, _ in table("Option")} == set(
        re.findall(r"^  (--[a-z-]+)", usage, re.MULTILINE)
    )


def test_each_printed_command_works():
    activate, *lines = commands()
    assert activate == "source .venv/bin/activate"
    starts = [line for line in lines if line.startswith("python -m sandbox")]
    others = [line for line in lines if line not in starts]
    assert (len(starts), {line.split()[0] for line in others}) == (3, {"curl"})
    for start in starts[:-1]:
        with running(start):
            pass
    with running(starts[-1]):
        for line in others:
            ended = subprocess.run(
                ["bash", "-c", line], capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            assert ended.returncode == 0, f"{line}\n{ended.stderr}"
