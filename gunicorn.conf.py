"""Settings of gunicorn, which reads this file by itself. Options of its command line win.

gunicorn must stand behind a proxy that buffers (`deploy/nginx/cascade.conf`): a client that sends
or reads slowly would hold one of its threads.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

wsgi_app = "cascade.wsgi"
bind = os.environ.get("BIND", "127.0.0.1:8000")

# A save waits for Clerk and for the database, so threads wait most of the time.
workers = int(os.environ.get("WEB_CONCURRENCY") or 2 * len(os.sched_getaffinity(0)) + 1)
worker_class = "gthread"
threads = 8

# The master imports the application and Clerk's SDK once. The workers share that memory, and none
# of them imports the SDK during somebody's save. The import opens no connection, so a fork is safe.
preload_app = True

# A worker that does not report for `timeout` seconds is killed. Its threads do not count: the
# deadlines of the application end a request. A stopping worker may finish its saves.
timeout = 60
graceful_timeout = 30
keepalive = 5

# Replace workers after a while, not all at the same time, so that a slow leak does no harm.
max_requests = 10_000
max_requests_jitter = 2_000

# The heartbeat must not wait for a disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
control_socket_disable = True

# The processes add up their counts of requests to Clerk in one folder. A worker in another service
# counts with them if both have the same PROMETHEUS_MULTIPROC_DIR.


def _remove(folder: str, master: int) -> None:
    if os.getpid() == master:  # the workers inherit this
        shutil.rmtree(folder, ignore_errors=True)


if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="cascade-metrics-")
    atexit.register(_remove, os.environ["PROMETHEUS_MULTIPROC_DIR"], os.getpid())


def on_starting(server: object) -> None:
    """Forget the counts of earlier processes of this host."""
    from users.clerk.metrics import forget_ended_processes

    forget_ended_processes(os.environ["PROMETHEUS_MULTIPROC_DIR"])


# The application decides whether X-Forwarded-Proto is believed (TRUSTED_PROXY_COUNT).
secure_scheme_headers: dict[str, str] = {}

# The path and the query of a request can contain addresses and tokens of a password reset, and the
# network address belongs to a person. Only the route of the view is logged.
accesslog = None if os.environ.get("DEBUG") else "-"
access_log_format = (
    '{"event": "request", "request_id": "%({cascade.request_id}e)s", "method": "%(m)s",'
    ' "route": "%({cascade.route}e)s", "actor": "%({cascade.actor}e)s", "status": %(s)s,'
    ' "milliseconds": %(M)s}'
)
