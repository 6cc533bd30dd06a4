"""Measure a burst of Clerk's events, shuffled and duplicated, through the real server.

`python -m bench.webhooks` sends 10,000 events about 1,000 users, each twice and in random order.
The application receives them behind gunicorn, in turns with a bare view (`bench.bare`) behind the
same server. The bench prints both rates and their ratio, once for the burst and once for events
that all have an effect. It fails unless all rows are right afterwards.
"""

from __future__ import annotations

import os
import random
import secrets
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import django

from bench.server import serving

if TYPE_CHECKING:
    from sandbox import Event, Sandbox

USERS = int(os.environ.get("USERS", "1000"))
EVENTS_A_USER = 10
ROUNDS = 10
SENDERS = 16
PATH = "/webhooks/clerk/"


def main() -> None:
    """Start a sandbox and a database of its own, measure, and delete both."""
    django.setup()
    from sandbox import Sandbox

    sandbox = Sandbox().start()
    try:
        with own_database():
            measure(sandbox)
    finally:
        sandbox.stop()


@contextmanager
def own_database() -> Iterator[None]:
    """Create a test database for the block.

    Its name differs from that of the tests, which may run at the same time.
    """
    from django.db import connection

    own = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = f"bench_{own}"
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(own, verbosity=0)


def measure(sandbox: Sandbox) -> None:
    """Measure both kinds of events. Raises `SystemExit` if a row is wrong afterwards."""
    chance = random.Random(7)
    events = live(sandbox, USERS)
    copy_for_the_bare_view(sandbox)
    environment = production(sandbox)
    with serving(**environment) as real, serving("bench.bare", **environment) as bare:
        burst = events * 2
        chance.shuffle(burst)
        compare(f"burst of {len(events)} events, each twice, shuffled", sandbox, burst, real, bare)
        wrong = wrong_rows(sandbox)
        # Send these events in order and once, so that each one has an effect.
        effective = rename_everybody(sandbox)
        compare("events that all take effect", sandbox, effective, real, bare)
        wrong += wrong_rows(sandbox)
    if wrong:
        raise SystemExit(f"{len(wrong)} rows are wrong: {wrong[:5]}")
    print(f"all {USERS} rows are right")


def production(sandbox: Sandbox) -> dict[str, str]:
    """Return the settings of an installation: under DEBUG, Django logs every statement."""
    return {
        "DEBUG": "0",
        "SECRET_KEY": secrets.token_urlsafe(60),
        "ALLOWED_HOSTS": "127.0.0.1",
        "CLERK_WEBHOOK_SIGNING_SECRET": sandbox.webhooks.secret,
    }


def compare(what: str, sandbox: Sandbox, events: list[Event], real: int, bare: int) -> None:
    """Deliver the events to both servers in turns, and print the rates and their ratio.

    The turns are short, so that other work on the machine slows both servers.
    """
    size = -(-len(events) // ROUNDS)
    rounds = [events[start : start + size] for start in range(0, len(events), size)]
    deliver(sandbox, events[:200], bare)  # warm up; the real server would remember the events
    times: list[tuple[float, float]] = []
    answers: Counter[str] = Counter()
    for some in rounds:
        floor, _ = deliver(sandbox, some, bare)
        whole, said = deliver(sandbox, some, real)
        times.append((floor, whole))
        answers += said
    floor, whole = (sum(column) for column in zip(*times, strict=True))
    ratios = [floor / whole for floor, whole in times]
    print(
        f"{what}: bare {len(events) / floor:.0f}/s, Cascade {len(events) / whole:.0f}/s, "
        f"{floor / whole:.2f} of bare (rounds {min(ratios):.2f} to {max(ratios):.2f}, "
        f"median {statistics.median(ratios):.2f}); answers {dict(answers)}"
    )


# --- Events in Clerk -----------------------------------------------------------------------------


def live(sandbox: Sandbox, users: int) -> list[Event]:
    """Return ten events about each of `users` people, whose rows exist but are not linked yet.

    Each person is created with the name of the row, then renamed, moved to another email, signed
    in, banned and unbanned. One person in ten is deleted.
    """
    from users.models import BuilderUser
    from users.sync.inbound.events import EFFECTS

    BuilderUser.objects.bulk_create(
        BuilderUser(name=f"Person N{number}", email=f"person{number}@example.com")
        for number in range(users)
    )
    start = len(sandbox.webhooks.events)
    for number in range(users):
        clerk_id = sandbox.add_user(
            email=f"Person{number}@example.com", first_name="Person", last_name=f"N{number}"
        )["id"]
        sandbox.edit(clerk_id, last_name=f"Berg{number}")
        sandbox.sign_in(clerk_id)
        sandbox.edit(clerk_id, email=f"moved{number}@example.com")
        sandbox.edit(clerk_id, banned=True)
        sandbox.edit(clerk_id, banned=False, first_name="Other")
        sandbox.edit(clerk_id, image_url=f"https://img.example.com/{number}.png")
        sandbox.edit(clerk_id, last_name=f"Last{number}")
        sandbox.sign_in(clerk_id)
        if number % 10:
            sandbox.edit(clerk_id, email=f"final{number}@example.com")
        else:
            sandbox.delete(clerk_id)
    events = [event for event in sandbox.webhooks.events[start:] if event.type in EFFECTS]
    assert len(events) == users * EVENTS_A_USER
    return events


def rename_everybody(sandbox: Sandbox) -> list[Event]:
    """Rename each user twice in Clerk, and return the events in order."""
    start = len(sandbox.webhooks.events)
    for turn in range(2):
        for user in sandbox.users():
            sandbox.edit(user["id"], last_name=f"Turn{turn}")
    return sandbox.webhooks.events[start:]


def wrong_rows(sandbox: Sandbox) -> list[str]:
    """Process the stored events again, then describe the rows that differ from Clerk.

    If a person is deleted in Clerk, the row must be as it was before its account.
    """
    from users.models import BuilderUser, ClerkAccount, WebhookDelivery
    from users.sync.inbound import deliveries

    deliveries.retry()
    wrong = [f"{kept} is kept: {kept.error}" for kept in WebhookDelivery.objects.filter(
        processed_at=None)]  # fmt: skip
    last: dict[str, dict] = {}
    born: dict[str, str] = {}
    deleted = set()
    for event in sandbox.webhooks.events:
        data = event.payload["data"]
        if event.type == "user.deleted":
            deleted.add(data["id"])
            continue
        user = data.get("user") or data
        if event.type == "user.created":
            born[user["id"]] = user["email_addresses"][0]["email_address"].lower()
        if user["updated_at"] >= last.get(user["id"], user)["updated_at"]:
            last[user["id"]] = user
    everybody = list(BuilderUser.objects.select_related("account"))
    rows = {row.clerk_id: row for row in everybody if row.clerk_id}
    free = {row.email: row.name for row in everybody if not row.clerk_id}
    accounts = {account.pk: account for account in ClerkAccount.objects.all()}
    for clerk_id, user in last.items():
        row, account = rows.get(clerk_id), accounts.get(clerk_id)
        if clerk_id in deleted:
            email = born[clerk_id]
            name = free.get(email, "").replace("Person N", "person")
            gone = row is None and account and account.deleted_at and account.user_id is None
            if not gone or not email.startswith(f"{name}@"):
                wrong.append(f"{clerk_id}: deleted, but its row is not as before")
            continue
        [email] = [entry["email_address"] for entry in user["email_addresses"]]
        found = row and account and (
            row.name, row.email, account.user_id, account.email, account.banned,
            account.image_url, account.deleted_at, account.last_name,
        )  # fmt: skip
        wanted = row and (
            f"{user['first_name']} {user['last_name']}", email.lower(), row.pk, email.lower(),
            user["banned"], user["image_url"], None, user["last_name"],
        )  # fmt: skip
        if not found or found != wanted:
            wrong.append(f"{clerk_id}: {found} instead of {wanted}")
    if len(everybody) != len(last):
        wrong.append(f"{len(everybody)} rows for {len(last)} people")
    return wrong


def copy_for_the_bare_view(sandbox: Sandbox) -> None:
    """Copy the table `users` for the bare view, and link the rows of the copy."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare_users (LIKE users INCLUDING ALL)")
        cursor.execute("INSERT INTO bare_users SELECT * FROM users")
        cursor.executemany(
            "UPDATE bare_users SET clerk_id = %s WHERE email = %s",
            [(event.payload["data"]["id"],
              event.payload["data"]["email_addresses"][0]["email_address"].lower())
             for event in sandbox.webhooks.events if event.type == "user.created"],
        )  # fmt: skip


# --- Sending -------------------------------------------------------------------------------------


def deliver(sandbox: Sandbox, events: list[Event], port: int) -> tuple[float, Counter[str]]:
    """Send the events over several connections; return the seconds and the count of each answer.

    The events are signed beforehand, so that signing does not count.
    """
    todo = deque(sandbox.webhooks.signed(event) for event in events)
    answers: Counter[str] = Counter()
    lock = threading.Lock()

    def send() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        mine: Counter[str] = Counter()
        while True:
            try:
                body, headers = todo.popleft()
            except IndexError:
                break
            connection.request("POST", PATH, body, headers | {"X-Forwarded-Proto": "https"})
            answer = connection.getresponse()
            text = answer.read(200).decode().strip()
            mine[text if answer.status == 200 else f"{answer.status} {text[:80]}"] += 1
        connection.close()
        with lock:
            answers.update(mine)

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    assert sum(answers.values()) == len(events), answers
    return took, answers


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
    main()
