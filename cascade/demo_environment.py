"""The environment of a running `make demo`, for commands in a second terminal.

The demo writes its variables to a git-ignored file and locks that file while it runs. Settings
read the file only while the demo holds this lock, and only if neither the environment nor `.env`
names an installation. So a command never mixes two installations, and the file of a killed demo
has no effect.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

INSTALLATION = (
    "SECRET_KEY",
    "DATABASE_URL",
    "CLERK_SECRET_KEY",
    "CLERK_API_URL",
    "CLERK_WEBHOOK_SIGNING_SECRET",
)
"""Any of these names an installation, also with an empty value."""

FILE = "environment.json"


def read(folder: Path) -> None:
    """Take over the variables of the demo, if it runs and the environment names nothing else."""
    if any(name in os.environ for name in INSTALLATION):
        return
    for name, value in running(folder).items():
        os.environ.setdefault(name, value)


@contextmanager
def shared(folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Share `variables` until the block or the process ends."""
    file = folder / FILE
    handle, temporary = tempfile.mkstemp(dir=folder)  # 0600: it holds keys
    with os.fdopen(handle, "w") as text:
        json.dump(variables, text)
        text.flush()
        fcntl.flock(text, fcntl.LOCK_EX)
        os.replace(temporary, file)  # nobody sees the file without its lock
        try:
            yield
        finally:
            file.unlink()


def running(folder: Path) -> dict[str, str]:
    """Return the variables of the demo that runs, none if no process holds the lock."""
    try:
        text = (folder / FILE).open()
    except OSError:
        return {}
    with text:
        try:
            fcntl.flock(text, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            variables: dict[str, str] = json.load(text)
            return variables
    return {}
