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
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import django

from tests.support.burst import deliver, live, wrong_rows
from tests.support.server import serving

if TYPE_CHECKING:
    from sandbox import Event, Sandbox

USERS = int(os.environ.get("USERS", "1000"))
ROUNDS = 10


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
        "SSL_REDIRECT": "false",
        "LOG_LEVEL": "WARNING",
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


def rename_everybody(sandbox: Sandbox) -> list[Event]:
    """Rename each user twice in Clerk, and return the events in order."""
    start = len(sandbox.webhooks.events)
    for turn in range(2):
        for user in sandbox.users():
            sandbox.edit(user["id"], last_name=f"Turn{turn}")
    return sandbox.webhooks.events[start:]


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


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
    main()
