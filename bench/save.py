"""Measure a save in the admin beside its floor: a GET and a PATCH of Clerk, and an UPDATE.

A save reads Clerk before it writes if the mirror is older than some seconds. That is the usual case
when a staff user opens a form. So the bench makes the mirror old before each save.

`make bench` measures both in turns in one run. It prints the milliseconds, their ratio, the queries
and Clerk calls of a save, and the server's memory after a thousand saves.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import django
import httpx
import requests
from clerk_backend_api import Clerk

LATENCY = 0.1
PAIRS = int(os.environ.get("PAIRS", "60"))
SAVES = int(os.environ.get("SAVES", "1000"))
PORT = int(os.environ.get("PORT", "8765"))
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Start a sandbox and a test database, measure, and delete both."""
    from sandbox import Sandbox

    sandbox = Sandbox(secret_key="sk_test_bench").start()
    os.environ |= {"CLERK_API_URL": sandbox.url, "CLERK_SECRET_KEY": sandbox.secret_key}
    django.setup()
    from django.db import connection
    from django.test.utils import setup_test_environment

    setup_test_environment()
    own = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        measure(sandbox)
    finally:
        connection.creation.destroy_test_db(own, verbosity=0)
        sandbox.stop()


def measure(sandbox) -> None:
    """Measure pairs of floor and save, count the queries of a save, and watch the memory."""
    from django.db import connection
    from django.db.models.functions import Now
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from tests.support.change_form import form_of, page_of
    from tests.support.factories import StaffFactory, linked
    from users.clerk import ClerkUser
    from users.guard import without_clerk
    from users.models import BuilderUser, ClerkAccount
    from users.sync.mirror import store

    user, client = linked(sandbox), Client()
    client.force_login(StaffFactory())
    server = start_server(connection.settings_dict)
    client.get(page_of(user))
    cookies = {name: client.cookies[name].value for name in ("sessionid", "csrftoken")}
    headers = {
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Forwarded-Proto": "https",
        "Referer": f"https://127.0.0.1:{PORT}/",
    }
    connected = HTTPConnection("127.0.0.1", PORT, timeout=60)
    reader = requests.Session()
    reader.headers["Authorization"] = f"Bearer {sandbox.secret_key}"
    sdk = Clerk(
        bearer_auth=sandbox.secret_key,
        server_url=sandbox.url,
        client=httpx.Client(),
        retry_config=None,
    )

    def save(number: int) -> float:
        user.refresh_from_db()
        make_copy_old()
        fields = form_of(user, name=f"Mary Ann Jones{number}")
        fields |= {"csrfmiddlewaretoken": cookies["csrftoken"], "token": uuid.uuid4()}
        body = urlencode(fields)
        started = time.perf_counter()
        connected.request("POST", page_of(user), body, headers)
        answer = connected.getresponse()
        text = answer.read()
        took = time.perf_counter() - started
        assert answer.status == 302, text[:500]
        return took

    def make_copy_old() -> None:
        store.keep(ClerkUser.parse(sandbox.user(user.clerk_id)))
        ClerkAccount.objects.filter(user=user).update(seen_at=Now() - timedelta(hours=1))

    def floor(number: int) -> float:
        started = time.perf_counter()
        reader.get(f"{sandbox.url}/users/{user.clerk_id}", timeout=60).json()
        sdk.users.update(user_id=user.clerk_id, first_name="Mary Ann", last_name=f"Floor{number}")
        with without_clerk():
            BuilderUser.objects.filter(pk=user.pk).update(name=f"Mary Ann Floor{number}")
        return time.perf_counter() - started

    try:
        sandbox.latency = LATENCY
        for number in range(5):  # warm up
            floor(number)
            save(number)
        pairs = [(floor(number), save(number)) for number in range(PAIRS)]
        bare, whole = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
        print(f"floor {bare:.1f} ms, save {whole:.1f} ms, ratio {whole / bare:.2f} ({PAIRS} pairs)")
        sandbox.latency = 0.0
        sandbox.clear_requests()
        user.refresh_from_db()
        make_copy_old()
        with CaptureQueriesContext(connection) as queries:
            client.post(page_of(user), form_of(user, name="Mary Ann Brown", token=uuid.uuid4()))
        calls = ", ".join(request.method for request in sandbox.requests())
        assert len(sandbox.writes()) == 1
        print(f"a save: {len(queries)} queries; calls of Clerk: {calls}")
        before = memory(server)
        for number in range(SAVES):
            save(number)
        print(f"memory {before:.0f} MB, after {SAVES} more saves {memory(server):.0f} MB")
    finally:
        server.terminate()
        server.wait(30)


def start_server(database: dict) -> subprocess.Popen[bytes]:
    """Start gunicorn with production settings on the bench's database.

    Raises `SystemExit` if it does not answer within about 30 seconds.
    """
    from django.conf import settings

    url = f"postgres://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "gunicorn", "cascade.wsgi", "--bind",
         f"127.0.0.1:{PORT}", "--workers", "1", "--threads", "4",
         "--access-logfile", os.devnull, "--log-level", "error"],
        cwd=ROOT,
        env={
            **os.environ,
            "DEBUG": "",
            "DATABASE_URL": url,
            "ALLOWED_HOSTS": "127.0.0.1",
            "TRUSTED_PROXY_COUNT": "1",
            "SECRET_KEY": settings.SECRET_KEY,
            "CLERK_WEBHOOK_SIGNING_SECRET": settings.CLERK_WEBHOOK_SIGNING_SECRET,
        },
    )  # fmt: skip
    for _ in range(300):
        try:
            requests.get(f"http://127.0.0.1:{PORT}/healthz/", timeout=5)
            return server
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(0.1)
    server.kill()
    raise SystemExit("The server did not start.")


def memory(server: subprocess.Popen[bytes]) -> float:
    """Return the memory of the server's workers in megabytes."""
    workers = subprocess.run(
        ["pgrep", "-P", str(server.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    status = "".join(Path(f"/proc/{pid}/status").read_text() for pid in workers)
    held = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    return sum(held) / 1024


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
    main()
