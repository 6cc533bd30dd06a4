"""Run the application behind gunicorn, as the README starts it, for benches and tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(
    application: str = "cascade.wsgi",
    *,
    threads: int | None = 16,
    workers: int | None = 1,
    **environment: str,
) -> Iterator[int]:
    """Start a server on the database that this process uses, and yield its port.

    None, and all other settings, are those of `gunicorn.conf.py`.

    Raises `RuntimeError` if the server does not start.
    """
    from django.db import connection

    database, port = connection.settings_dict, _free_port()
    url = f"postgres://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "gunicorn", application,
         "--bind", f"127.0.0.1:{port}", "--access-logfile", os.devnull, "--log-level", "error",
         *(["--workers", str(workers)] if workers else []),
         *(["--threads", str(threads)] if threads else [])],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, **environment},
    )  # fmt: skip
    try:
        _wait(server, port)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        asking = HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            asking.request("GET", "/healthz/")
            asking.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
        finally:
            asking.close()
    raise RuntimeError("The server did not start.")
