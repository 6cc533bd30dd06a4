"""Processes of `manage.py` that need not import the libraries: see `tests.support.fork_server`.

What they share is what the import of a library leaves in memory. Tests of the start itself, such
as a variable that Python reads, start a process by `subprocess`.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
SERVER = Path(__file__).with_name("fork_server.py")

_one_request = threading.Lock()


class Process:
    """A command as a process of its own, with what tests use of `subprocess.Popen`.

    Its stdin is empty. With `text` its output is text, and otherwise bytes. Without
    `separate_errors` stderr goes to stdout.
    """

    def __init__(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str],
        text: bool = True,
        separate_errors: bool = False,
    ) -> None:
        own = environment.items() - os.environ.items()
        assert not any(name.startswith("PYTHON") for name, _ in own), (
            "Python reads its own variables as it starts. Start a new one by subprocess."
        )
        self.args = ["manage.py", *map(str, arguments)]
        self.returncode: int | None = None
        self._said: dict[IO[Any] | None, Any] = {}
        self.stdout, out = _pipe(text=text)
        self.stderr, errors = _pipe(text=text) if separate_errors else (None, os.dup(out))
        about, end = os.pipe()
        self._about = os.fdopen(about, "rb", buffering=0)
        request = [self.args[1:], dict(environment), str(ROOT)]
        with _one_request:
            line = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(_server(), [line], [out, errors, end])
            _server().sendall(line[sent:])
            for descriptor in (out, errors, end):
                os.close(descriptor)
            self.pid = self._told()

    def poll(self) -> int | None:
        """Return the exit code, or None as long as the process runs."""
        if self.returncode is None and self._ends_within(0):
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code: negative is the number of the signal that ended the process."""
        if self.returncode is None:
            if not self._ends_within(timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._end()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Return all of stdout and of stderr, and wait for the end. Again it returns the same."""
        said = self._said
        threads = [
            threading.Thread(target=lambda one: said.update({one: one.read()}), args=[stream])
            for stream in self._streams()
            if not stream.closed
        ]
        for thread in threads:
            thread.daemon = True
            thread.start()
        for thread in threads:
            thread.join(timeout)
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        for stream in self._streams():
            stream.close()
        self.wait(timeout)
        return said.get(self.stdout), said.get(self.stderr)

    def send_signal(self, number: int) -> None:
        """Send a signal to a process that still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _streams(self) -> list[IO[Any]]:
        return [stream for stream in (self.stdout, self.stderr) if stream]

    def _ends_within(self, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._about, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def _end(self) -> None:
        self.returncode = self._told()
        self._about.close()

    def _told(self) -> int:
        """Read the next line about the process."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self._about.read(1)
            if not byte:
                raise RuntimeError("The fork server has ended.")
            line += byte
        return int(line)


def run(
    *arguments: str | Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does with `capture_output` and `text`."""
    process = Process(*arguments, environment=environment, separate_errors=True)
    try:
        out, errors = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.wait(), out, errors)


def _pipe(*, text: bool) -> tuple[IO[Any], int]:
    """Return a stream to read from, and the descriptor to write to."""
    reading, writing = os.pipe()
    return os.fdopen(reading, "r" if text else "rb"), writing


@cache
def _server() -> socket.socket:
    """Start the fork server of these tests, and return the socket for its requests."""
    ours, its = socket.socketpair()
    with its:
        command = [sys.executable, "-W", "ignore", str(SERVER), str(its.fileno())]
        server = subprocess.Popen(
            command, cwd=ROOT, pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours
