"""A fork of `tests.support.fork_server` is what a new process is, for the command that it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support import processes
from tests.support.patience import PATIENCE
from tests.support.processes import ROOT, Process
from tests.support.production import PRODUCTION

SEEN = """
import json, os, signal, socket, sys, threading
handled = {one.name: str(signal.getsignal(one)) for one in signal.Signals}
print(json.dumps({
    "environment": {**os.environ, "LC_CTYPE": "set by Python itself"},
    "folder": os.getcwd(),
    "arguments": sys.argv,
    "path": sys.path,
    "flags": str(sys.flags),
    "main": type(sys.modules["__main__"]).__name__,
    "signals": {name: how for name, how in handled.items() if "function" not in how},
    "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "descriptors": sorted(os.listdir("/dev/fd")),
    "streams": [
        (one.fileno(), one.encoding, one.errors, one.isatty(), one.line_buffering)
        for one in (sys.stdin, sys.stdout, sys.stderr)
    ],
    "input": sys.stdin.read(),
    "threads": [one.name for one in threading.enumerate()],
    "children": os.path.exists("/proc/self/task") and open(
        f"/proc/self/task/{os.getpid()}/children").read(),
}))
"""
ENVIRONMENT = {
    **{name: os.environ[name] for name in os.environ if name.startswith(("PYTHON", "LANG", "LC_"))},
    "PATH": os.environ["PATH"],
    **PRODUCTION,
    "ODD": "a\nb = 'ö'",
}
"""What Python itself reads is that of the tests."""


def test_a_command_sees_what_it_would_see_in_a_new_process():
    arguments = ["shell", "--no-imports", "--command", SEEN]
    new = subprocess.run(
        [sys.executable, "-W", "ignore", "manage.py", *arguments], cwd=ROOT, env=ENVIRONMENT,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    fork = processes.run(*arguments, environment=ENVIRONMENT, timeout=PATIENCE)
    assert (fork.returncode, fork.stderr) == (new.returncode, new.stderr)
    assert json.loads(fork.stdout) == json.loads(new.stdout)


@pytest.mark.parametrize(("code", "ended"), [("import sys; sys.exit(7)", 7), ("1 / 0", 1)])
def test_its_end_is_told(code, ended):
    arguments = ["shell", "--no-imports", "--command", code]
    assert processes.run(*arguments, environment=ENVIRONMENT, timeout=PATIENCE).returncode == ended


@pytest.mark.parametrize(
    ("number", "ended"), [("SIGKILL", -9), ("SIGTERM", -15), ("SIGINT", 130), ("SIGSTOP", None)]
)
def test_it_gets_signals(number, ended):
    code = "import time; print('works', flush=True); time.sleep(1e6)"
    process = Process("shell", "--no-imports", "--command", code, environment=ENVIRONMENT)
    assert process.stdout.readline() == "works\n"
    assert process.poll() is None
    process.send_signal(signal.Signals[number])
    if ended is None:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.kill()
        ended = -signal.SIGKILL
    assert process.communicate(PATIENCE) == process.communicate()
    assert process.returncode == ended
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
