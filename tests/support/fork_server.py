"""Run `manage.py` in forks of one process, which has imported the libraries once for all of them.

    python -W ignore tests/support/fork_server.py DESCRIPTOR

A fork shares with the others what importing a library leaves in memory. It shares nothing of the
project, no settings, no thread, no connection and no open file. It has its own environment, folder,
arguments and streams, and it ends as any process of Python does. It can be killed.

DESCRIPTOR is a socket of the tests. Each request is one line of JSON with three descriptors: for
stdout, for stderr, and for two lines about the process: its id, and how it ended.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

LIBRARIES = (
    "authlib.integrations.django_client",
    "clerk_backend_api",
    "corsheaders.middleware",
    "django.contrib.admin.filters",
    "django.contrib.postgres.search",
    "django.core.management",
    "django.core.serializers.json",
    "django.db.backends.postgresql.base",
    "django.db.migrations.executor",
    "django.views.debug",
    "environ",
    "httpcore",
    "openpyxl",
    "procrastinate",
    "psycopg_pool",
    "rich.traceback",
    "structlog",
    "whitenoise.middleware",
)
"""What the project imports, as far as it needs no settings of Django and no variable of a test."""
OURS = {"cascade", "demo", "sandbox", "staff", "tests", "users"}


class Request(NamedTuple):
    """A process to start."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    stdout: int
    stderr: int
    about: int


def main() -> None:
    """Fork for each request. It returns in a fork only, after the command."""
    for library in LIBRARIES:
        import_module(library)
    from django.conf import settings

    assert not settings.configured
    assert not OURS & {name.partition(".")[0] for name in sys.modules}
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()  # a collection in a fork copies no page of what is shared
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        request = _forked(requests)
    if request:
        _become(request)
        runpy.run_path("manage.py", run_name="__main__")


def _forked(requests: socket.socket) -> Request | None:
    """Return each request in a fork; return None in the server when the tests have ended."""
    while request := _receive(requests):
        if not os.fork():
            _watch(request)
            return request
        for descriptor in (request.stdout, request.stderr, request.about):
            os.close(descriptor)
        with suppress(ChildProcessError):  # nobody is left
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
    return None


def _receive(requests: socket.socket) -> Request | None:
    line, descriptors = b"", []
    while not line.endswith(b"\n"):
        part, more, _, _ = socket.recv_fds(requests, 65536, 3)
        if not part:
            return None
        line += part
        descriptors += more
    return Request(*json.loads(line), *descriptors)


def _watch(request: Request) -> None:
    """Fork once more and return there; this process says how that one ends."""
    if not (process := os.fork()):
        return
    os.close(request.stdout)
    os.close(request.stderr)
    os.write(request.about, b"%d\n" % process)
    _, status = os.waitpid(process, 0)
    os.write(request.about, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(request: Request) -> None:
    """Make this the process that was asked for."""
    os.dup2(request.stdout, 1)
    os.dup2(request.stderr, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv = ["manage.py", *request.arguments]
    sys.path[0] = request.folder


if __name__ == "__main__":
    main()
