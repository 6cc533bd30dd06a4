"""Twenty people edit five users again and again, while Clerk is slow and fails."""

from __future__ import annotations

import html
import random
import re
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.db import connection

from tests.support.change_form import page_of
from tests.support.factories import linked
from tests.support.patience import PATIENCE
from tests.support.server import serving
from tests.support.unknown import NOT_CONFIRMED, time_is_over
from users.models import BuilderUser, SyncAttempt
from users.sync import maintenance
from users.sync.outbound.pending import TRIES

PEOPLE, USERS, EDITS = 20, 5, 15
DEADLINE, GRACE = 3.0, 1.0
FAULTS = ["status", "html", "broken_json", "reset", "close", "hang", "delay", "drip"]


@dataclass(frozen=True)
class Told:
    """How one save ended for the person who made it."""

    name: str
    status: int
    seconds: float
    text: str

    @property
    def saved(self) -> bool:
        return self.status == 302

    @property
    def unknown(self) -> bool:
        return NOT_CONFIRMED in self.text


class Person(threading.Thread):
    """Thinks for a second, opens a form, types a name, saves; again and again."""

    def __init__(self, number: int, port: int, cookies: str, users: list) -> None:
        super().__init__()
        self._chance = random.Random(number)
        self._number = number
        self._port = port
        self._cookies = cookies
        self._users = users
        self._thinking = threading.Event()
        self.told: list[Told] = []
        self.slowest_page = 0.0
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            for _ in range(EDITS):
                self._thinking.wait(self._chance.uniform(0.4, 1.6))
                self.told.append(self._edit(self._chance.choice(self._users)))
        except BaseException as problem:
            self.problem = problem

    def _edit(self, user: BuilderUser) -> Told:
        status, page, seconds = self._ask("GET", page_of(user))
        self.slowest_page = max(self.slowest_page, seconds)
        assert status == 200
        fields = {
            name: html.unescape(re.search(rf'name="{name}"[^>]*value="([^"]*)"', page)[1])
            for name in ("email", "version", "csrfmiddlewaretoken")
        }
        name = f"Mary Ann Edited{self._number}x{len(self.told)}"
        fields |= {"name": name, "role": "BUILDER", "internal_role": "", "builder_group": ""}
        status, text, seconds = self._ask("POST", page_of(user), urlencode(fields))
        return Told(name, status, seconds, text)

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str, float]:
        headers = {"Cookie": self._cookies, "Content-Type": "application/x-www-form-urlencoded"}
        asking = HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        started = time.monotonic()
        try:
            asking.request(method, path, body, headers)
            answer = asking.getresponse()
            return answer.status, html.unescape(answer.read().decode()), time.monotonic() - started
        finally:
            asking.close()


def make_trouble(sandbox, people: list[Person]) -> None:
    """Clerk is slow, and one thing after another goes wrong there, while anybody edits."""
    chance = random.Random(3)
    idle = threading.Event()
    while any(person.is_alive() for person in people):
        sandbox.clear_faults()
        sandbox.latency = chance.uniform(0.05, 0.2)
        kind = chance.choice(FAULTS)
        route = chance.choice(["PATCH /users/{user_id}", "GET /users/{user_id}", "*"])
        apply = chance.random() < 0.5
        status = chance.choice([500, 429])
        apply = apply and (kind, status) != ("status", 429)  # who is told to wait changed nothing
        sandbox.fault(route, kind, apply=apply, times=3, seconds=1.0, status=status, retry_after=1)
        idle.wait(0.4)
    sandbox.clear_faults()
    sandbox.latency = 0.0


def asked(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
HELD = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
AND state LIKE 'idle in transaction%%' AND pid <> pg_backend_pid()
"""
POOL = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
SERVER = "twenty people"
CONNECTIONS = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{SERVER}'"


@pytest.mark.django_db(transaction=True)
def test_no_edit_is_lost_and_nobody_waits_for_ever(sandbox, client):
    users = [linked(sandbox, name="Mary Ann Smith") for _ in range(USERS)]
    client.get(page_of(users[0]))
    cookies = "; ".join(
        f"{name}={client.cookies[name].value}" for name in ("sessionid", "csrftoken")
    )
    deadlocks = asked(DEADLOCKS)
    clerk = {"CLERK_API_URL": sandbox.url, "CLERK_SECRET_KEY": sandbox.secret_key}
    environment = {
        "CLERK_EDIT_DEADLINE": str(DEADLINE),
        "CLERK_SETTLE_SECONDS": "1",  # the sandbox takes a request at once or never
        "PGAPPNAME": SERVER,
        **clerk,
    }
    with serving(threads=PEOPLE + 4, **environment) as port:
        people = [Person(number, port, cookies, users) for number in range(PEOPLE)]
        for person in people:
            person.start()
        make_trouble(sandbox, people)
        for person in people:
            person.join()
        assert [person.problem for person in people if person.problem] == []
        assert asked(HELD) == 0
        assert 0 < asked(CONNECTIONS) <= POOL
    told = [one for person in people for one in person.told]

    assert {one.status for one in told} <= {200, 302}
    # A page asks Clerk nothing: its time is the machine's own, with so many people at once.
    longest = DEADLINE + GRACE + 3 * max(person.slowest_page for person in people)
    assert [one.seconds for one in told if one.seconds > longest] == []
    assert asked(DEADLOCKS) == deadlocks

    for _ in range(TRIES + 1):
        time_is_over(minutes=30)
        maintenance.run()
    assert not SyncAttempt.objects.filter(status="started").exists()
    applied = SyncAttempt.objects.filter(status="applied").order_by("settled_at")
    arrived = {attempt.changes["name"][1] for attempt in applied}
    assert {one.name for one in told if one.saved} <= arrived
    assert not {one.name for one in told if not one.saved and not one.unknown} & arrived
    assert sum(one.saved for one in told) > USERS  # these were not refusals alone
    for user in users:
        names = [user.name]
        for attempt in applied.filter(user=user):
            before, after = attempt.changes["name"]
            assert before == names[-1], "an edit was overwritten unseen"
            names.append(after)
        user.refresh_from_db()
        account = sandbox.user(user.clerk_id)
        assert user.name == names[-1] == f"{account['first_name']} {account['last_name']}"
