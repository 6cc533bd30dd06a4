"""Start, watch and stop the processes of the demo together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

import requests

from demo.environment import CHECKOUT
from demo.errors import DemoError

READY_SECONDS = 60
STOPPING = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1


class Processes:
    """Run Python processes under names that people know."""

    def __init__(self) -> None:
        self._children: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, name: str, *command: str, environment: Mapping[str, str]) -> None:
        """Start `python command` in the checkout."""
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command],
            cwd=CHECKOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only the demo, which stops them in order
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        self._children.append((name, child))

    def wait_for(self, url: str) -> None:
        """Wait until `url` answers.

        Raises:
            DemoError: It does not answer within `READY_SECONDS`, or a process has ended.
        """
        for _ in range(READY_SECONDS * 10):
            self._check()
            try:
                if requests.get(url, timeout=5).ok:
                    return
            except (requests.ConnectionError, requests.Timeout):
                pass
            time.sleep(0.1)
        raise DemoError(f"{url} did not answer within {READY_SECONDS} seconds.")

    def watch(self) -> None:
        """Wait until the `make` that started the demo has ended; without one, forever.

        Raises:
            DemoError: A process has ended.
        """
        started_by = os.getppid()
        while not (os.environ.get("MAKELEVEL") and os.getppid() != started_by):
            self._check()
            time.sleep(0.5)

    def stop(self) -> None:
        """Stop all processes, the newest first."""
        for number in STOPPING:  # a second Ctrl-C must not leave processes behind
            signal.signal(number, signal.SIG_IGN)
        for _, child in reversed(self._children):
            child.terminate()
        for _, child in reversed(self._children):
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _check(self) -> None:
        for name, child in self._children:
            if child.poll() is not None:
                raise DemoError(f"{name} ended by itself (exit code {child.returncode}).")


def _end_with_parent() -> None:
    """Ask Linux to stop this process if the demo is killed.

    Otherwise the process would keep its port.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
