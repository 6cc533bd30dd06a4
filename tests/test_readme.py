"""What README prints works as printed, in a second terminal beside `make demo`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import requests

from tests.support.patience import PATIENCE, wait_until

ROOT = Path(__file__).parents[1]

SAID = {
    "clerk_check": (0, "It accepts the key"),
    "clerk_diff": (2, "Name differs: 3"),
    "clerk_push": (2, "2 to change"),
    "clerk_pull": (2, "1 to change"),
    "clerk_link": (0, "Nothing to do."),
    "update_users": (2, "3 to change"),
    "import_users": (2, "3 to make"),
    "clerk_import": (2, "2 to make"),
    "clerk_action": (2, "to change"),
    "runs": (0, "scan"),
}
"""Exit code and words of each command that README prints."""


def printed_commands() -> dict[str, str]:
    """Return the lines of README's code blocks that call a command, by its name."""
    blocks = re.findall(r"```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = "\n".join(blocks).splitlines()
    return {line.split()[2]: line for line in lines if line.startswith("python manage.py ")}


def clean_environment() -> dict[str, str]:
    """Return what a new terminal has: nothing of ours, and no active virtual environment."""
    folders = os.environ["PATH"].split(os.pathsep)
    outside = [folder for folder in folders if not folder.startswith(sys.prefix)]
    return {"PATH": os.pathsep.join(outside), "HOME": os.environ.get("HOME", "/")}


def checkout(folder: Path) -> Path:
    """Copy the checkout, with the virtual environment but without any data."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "bench", "staticfiles")
    shutil.copytree(ROOT, folder, ignore=ignored)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


class Demo:
    """`make demo` in a checkout of its own; its packages are installed already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, sandbox_port = free_ports()
        self._log = folder / "demo.log"
        with self._log.open("w") as log:
            self._make = subprocess.Popen(
                ["make", "-o", "install", "demo",
                 f"PORT={self.port}", f"SANDBOX_PORT={sandbox_port}"],
                cwd=folder, env=clean_environment(), stdout=log, stderr=log,
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until the demo is ready and its worker has looked at all of Clerk's users."""
        wait_until(lambda: "Cascade is ready" in self.log or self._make.poll() is not None, "demo")
        assert self._make.poll() is None, self.log
        ready = f"http://127.0.0.1:{self.port}/readyz/"
        wait_until(
            lambda: re.search(r"last scan: .* UTC: \d+ users", requests.get(ready).text),
            "the first scan",
        )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        self._make.send_signal(signal.SIGTERM)
        self._make.wait(PATIENCE)


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def second_terminal(folder: Path, *lines: str) -> tuple[int, str]:
    """Type lines into a new shell; return the exit code of the last one, and all output."""
    ended = subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=folder, env=clean_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    # Not pytest's folder: its mode keeps out the user that PostgreSQL runs as when root tests.
    with TemporaryDirectory() as folder:
        demo = Demo(checkout(Path(folder) / "cascade"))
        try:
            demo.wait()
            yield demo
        finally:
            demo.stop()


ACTIVATE = "source .venv/bin/activate"


def test_each_command_of_the_readme_works_beside_the_demo(demo):
    assert f"{ACTIVATE}\n" in (ROOT / "README.md").read_text()
    printed = printed_commands()
    assert set(printed) - {"migrate", "procrastinate"} == set(SAID)
    for name, (code, words) in SAID.items():
        ended, out = second_terminal(demo.folder, ACTIVATE, printed[name])
        assert (ended, words in out) == (code, True), f"{printed[name]}\n{out}"


def test_a_command_without_the_virtual_environment_says_how_to_activate_it(demo):
    outside = f"{sys.base_prefix}/bin/python3 -S -E manage.py clerk_check"
    code, out = second_terminal(demo.folder, outside)
    assert (code, out.count("\n"), ACTIVATE in out) == (1, 1, True), out


@pytest.mark.parametrize(
    "variable",
    ["DATABASE_URL=postgres://127.0.0.1/other", "CLERK_SECRET_KEY=sk_live_other", "SECRET_KEY="],
)
def test_another_installation_is_never_mixed_with_the_demo(demo, variable):
    """One variable of another installation switches the demo's off, all of them."""
    code, out = second_terminal(demo.folder, ACTIVATE, f"{variable} python manage.py clerk_check")
    assert (code, out) == (1, "Set SECRET_KEY in the environment (see .env.example).\n")


def test_an_installation_in_an_env_file_is_never_mixed_with_the_demo(demo):
    file = demo.folder / ".env"
    file.write_text("CLERK_SECRET_KEY=sk_live_other\n")
    try:
        code, out = second_terminal(demo.folder, ACTIVATE, "python manage.py clerk_check")
    finally:
        file.unlink()
    assert (code, out) == (1, "Set SECRET_KEY in the environment (see .env.example).\n")


def test_a_second_demo_in_the_same_folder_is_refused(demo):
    one, other = free_ports()
    code, out = second_terminal(
        demo.folder, ACTIVATE, f"DEBUG=1 PORT={one} SANDBOX_PORT={other} python -m demo"
    )
    assert (code, "The demo runs in this checkout already." in out) == (1, True), out


def test_the_product_needs_no_demo(tmp_path):
    folder = checkout(tmp_path / "cascade")
    for package in ("demo", "sandbox"):
        shutil.rmtree(folder / package)
    code, out = second_terminal(
        folder, ACTIVATE, "DEBUG=1 DATABASE_URL=postgres://127.0.0.1:9/none python manage.py check"
    )
    assert (code, "no issues" in out) == (0, True), out


def test_the_file_that_a_killed_demo_left_has_no_effect(tmp_path):
    folder = checkout(tmp_path / "cascade")
    (folder / ".demo").mkdir()
    (folder / ".demo" / "environment.json").write_text(json.dumps({"DEBUG": "1"}))
    code, out = second_terminal(folder, ACTIVATE, "python manage.py clerk_check")
    assert (code, out) == (1, "Set SECRET_KEY in the environment (see .env.example).\n")
