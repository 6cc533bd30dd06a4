"""Many of Clerk's events, delivered through a real server."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from sandbox import Event, Sandbox

EVENTS_A_USER = 10
SENDERS = 16
PATH = "/webhooks/clerk/"


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


def asked(port, body, headers):
    """Status and text of one delivery."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("POST", PATH, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text
