"""Count the requests to Clerk: how long each took, and how it ended.

With PROMETHEUS_MULTIPROC_DIR all processes of a host write to that folder, and any of them can add
them up. Without it a process counts its own requests.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from django.conf import settings
from prometheus_client import Histogram, values

_ID = re.compile(r"/[a-z]+_[A-Za-z0-9_]+(?=/|\Z)")


def _process() -> str:
    """Name the process. Two containers may share the folder and have processes of one number."""
    return f"{socket.gethostname()}-{os.getpid()}"


if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # Before the first metric is made: it keeps the class of its values.
    values.ValueClass = values.MultiProcessValue(_process)  # type: ignore[no-untyped-call]

CALLS = Histogram(
    "cascade_clerk_call_seconds",
    "Requests to Clerk by operation and status; “none” is an outcome without an answer.",
    ["operation", "status"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0),
)


class Observed:
    """A request under way. Set `status` when the answer is there."""

    status = "none"


@contextmanager
def observed(method: str, url: str) -> Iterator[Observed]:
    """Count a request when it ends, however it ends."""
    call, started = Observed(), time.monotonic()
    try:
        yield call
    finally:
        CALLS.labels(operation_of(method, url), call.status).observe(time.monotonic() - started)


def operation_of(method: str, url: str) -> str:
    """Return the method and the path without ids, so that the number of operations is small."""
    path = urlsplit(url).path.removeprefix(urlsplit(settings.CLERK_API_URL).path)
    return f"{method} {_ID.sub('/{id}', path)}"


def forget_ended_processes(folder: str) -> None:
    """Delete the files of processes of this host that have ended.

    A server does it at its start: counts of Prometheus may begin again.
    """
    mine = re.compile(rf"[a-z]+_{re.escape(socket.gethostname())}-(\d+)\.db\Z")
    for name in os.listdir(folder):
        if (found := mine.match(name)) and not os.path.exists(f"/proc/{found[1]}"):
            os.unlink(os.path.join(folder, name))
