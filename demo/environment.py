"""Share the environment of a running `make demo` with commands in a second terminal.

The demo writes its variables to a git-ignored file and locks that file while it runs. `manage.py`
reads the file only while the demo holds this lock, and only if neither the environment nor `.env`
names an installation. So a command never mixes two installations, and the file of a killed demo has
no effect.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import environ

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = CHECKOUT / ".demo"
INSTALLATION = (
    "SECRET_KEY",
    "DATABASE_URL",
    "CLERK_SECRET_KEY",
    "CLERK_API_URL",
    "CLERK_WEBHOOK_SIGNING_SECRET",
)
"""Each of these variables names an installation, even if its value is empty."""

FILE = "environment.json"


def join() -> None:
    """Use the variables of the running demo, unless other variables name an installation."""
    environ.Env.read_env(CHECKOUT / ".env")
    if any(name in os.environ for name in INSTALLATION):
        return
    for name, value in running().items():
        os.environ.setdefault(name, value)


@contextmanager
def shared(variables: Mapping[str, str]) -> Iterator[None]:
    """Share `variables` until the block or the process ends."""
    file = FOLDER / FILE
    handle, temporary = tempfile.mkstemp(dir=FOLDER)  # mode 0600, because it contains keys
    with os.fdopen(handle, "w") as text:
        json.dump(variables, text)
        text.flush()
        fcntl.flock(text, fcntl.LOCK_EX)
        os.replace(temporary, file)  # only now, so that the visible file is always locked
        try:
            yield
        finally:
            file.unlink()


def running() -> dict[str, str]:
    """Return the variables of the running demo. Return none if no process holds the lock."""
    try:
        text = (FOLDER / FILE).open()
    except OSError:
        return {}
    with text:
        try:
            fcntl.flock(text, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            variables: dict[str, str] = json.load(text)
            return variables
    return {}
