"""Measure 50 staff who work at once: `python -m bench.load`.

Each of them opens the list, opens a user, saves another name, and pauses for about four seconds
(THINK_SECONDS) between two pages: about eight requests to Clerk a second. The server has the
settings that are shipped, Clerk answers after 100 ms and has the limits of production. Meanwhile a
bulk run pushes names, so forms and bulk work share Clerk's rate. The bench prints the median and
the 95th percentile of each page, and how often Clerk was asked. It fails for any answer that was
not expected, for any request (a read or a write, of a form or of the bulk run) that Clerk answered
with 429, and for a median of lists or forms over 300 ms.

LOAD_SECONDS (120) and LOAD_STAFF (50) make it shorter.
"""

from __future__ import annotations

import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from types import SimpleNamespace
from urllib.parse import urlencode

import django

from bench.bulk import ROOT, clerk, environment_of, people, statuses
from bench.webhooks import own_database
from tests.support.html_form import fields_of
from tests.support.server import serving

SECONDS = float(os.environ.get("LOAD_SECONDS", "120"))
STAFF = int(os.environ.get("LOAD_STAFF", "50"))
THINK_SECONDS = float(os.environ.get("THINK_SECONDS", "4"))
USERS = 2000
CLERK_SECONDS = 0.1
MOST_SECONDS = 0.3
HOST = "localhost"
LIST = "/admin/users/builderuser/"

Times = dict[str, list[float]]


class Clicking(threading.Thread):
    """One member of staff with a user of their own, until `end`."""

    def __init__(self, port: int, session: str, user_id: str, end: float) -> None:
        super().__init__(daemon=True)
        self._port, self._session, self._end = port, session, end
        self._page = f"{LIST}{user_id}/change/"
        self._cookies = f"sessionid={session}"
        self.times: Times = defaultdict(list)
        self.problems: list[str] = []

    def run(self) -> None:
        """Click until the end; a problem ends it earlier."""
        number = 0
        time.sleep(random.uniform(0, THINK_SECONDS))
        try:
            while time.monotonic() < self._end:
                number += 1
                self._timed("list", lambda: self._ask("GET", LIST, 200))
                page = self._timed("form", lambda: self._ask("GET", self._page, 200))
                form = {**_fields_of(page), "name": f"Mary Ann Load{number}", "_continue": "1"}
                self._timed("save", lambda form=form: self._ask("POST", self._page, 302, form))
        except Exception as error:
            self.problems.append(f"{type(error).__name__}: {error}")

    def _timed(self, kind: str, ask: Callable[[], str]) -> str:
        started = time.perf_counter()
        text = ask()
        self.times[kind].append(time.perf_counter() - started)
        time.sleep(random.uniform(0.5, 1.5) * THINK_SECONDS)
        return text

    def _ask(self, method: str, path: str, status: int, form: dict[str, str] | None = None) -> str:
        headers = {"Host": HOST, "X-Forwarded-Proto": "https", "Cookie": self._cookies}
        if form:
            headers |= {
                "Content-Type": "application/x-www-form-urlencoded",
                "Referer": f"https://{HOST}{path}",
            }
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)  # as nginx does
        connection.request(method, path, urlencode(form) if form else None, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        self._keep_cookies(answer)
        if answer.status != status:
            raise AssertionError(f"{method} {path} was answered with {answer.status}")
        return text

    def _keep_cookies(self, answer: HTTPResponse) -> None:
        """Keep the cookie against forged requests, which a form repeats."""
        for cookie in answer.headers.get_all("Set-Cookie", []):
            if cookie.startswith("csrftoken="):
                self._cookies = f"sessionid={self._session}; {cookie.partition(';')[0]}"


def main() -> None:
    """Start a sandbox, a database and a server, click, and report."""
    django.setup()
    with clerk(latency=CLERK_SECONDS) as root, own_database():
        environment = {
            **environment_of(root),
            "ALLOWED_HOSTS": f"{HOST},127.0.0.1",
            "TRUSTED_PROXY_COUNT": "1",
            "LOG_LEVEL": "WARNING",
        }
        _manage(environment, "collectstatic", "--noinput", "--verbosity", "0").wait()
        users = people(root, USERS)
        sessions = [_session(number, environment["SECRET_KEY"]) for number in range(STAFF)]
        pushed = [user_id for user_id, _ in users[STAFF:]]
        _rename_here(pushed)
        with serving(threads=None, workers=None, **environment) as port:
            end = time.monotonic() + SECONDS
            staff = [
                Clicking(port, session, users[number][0], end)
                for number, session in enumerate(sessions)
            ]
            bulk = _manage(environment, "clerk_push", "--apply", "--max-changes", str(USERS))
            for one in staff:
                one.start()
            for one in staff:
                one.join()
            bulk.terminate()
            bulk.wait(60)
        report(staff, statuses(root, reads=True))


def report(staff: list[Clicking], answers: Counter[int]) -> None:
    """Print what was measured. Raises `SystemExit` if it is not good enough."""
    problems = [problem for one in staff for problem in one.problems]
    print(
        f"{len(staff)} staff, {SECONDS:.0f} s, a pause of about {THINK_SECONDS:g} s between pages"
    )
    medians = {}
    for kind in ("list", "form", "save"):
        times = [seconds for one in staff for seconds in one.times[kind]]
        if len(times) < 2:
            raise SystemExit(f"No {kind} was answered: {problems[:3]}")
        medians[kind] = statistics.median(times)
        slow = statistics.quantiles(times, n=20)[-1]
        print(f"{kind}: {len(times)}, median {medians[kind]:.3f} s, 95 % below {slow:.3f} s")
    limited = answers[429]
    print(
        f"unexpected answers: {len(problems)}; requests to Clerk: {answers.total()}, of which "
        f"{limited} were refused by its limit"
    )
    if problems or limited or max(medians["list"], medians["form"]) > MOST_SECONDS:
        raise SystemExit(f"Not good enough. {problems[:3]}")


def _manage(environment: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def _fields_of(page: str) -> dict[str, str]:
    [token] = re.findall(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[-1:]
    fields = fields_of(SimpleNamespace(content=page.encode()))
    return {**fields, "csrfmiddlewaretoken": token}


def _session(number: int, secret_key: str) -> str:
    """Sign a staff user in, with the key of the server; return the id of the session."""
    from django.test import Client, override_settings

    from tests.support.factories import StaffFactory

    with override_settings(SECRET_KEY=secret_key):
        client = Client()
        client.force_login(StaffFactory(username=f"load{number}"))
        return client.cookies["sessionid"].value


def _rename_here(user_ids: list[str]) -> None:
    """Give rows another name than their accounts, as another application does."""
    from users.guard import without_clerk
    from users.models import BuilderUser

    with without_clerk():
        BuilderUser.objects.filter(pk__in=user_ids).update(name="Mary Ann Pushed")


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
    main()
