"""Bulk runs beside their floor: what Clerk's rate limit takes for the same writes.

`push`: 2,000 changed names. `update`: a spreadsheet of 100,000 lines of which 500 change, from
reading it to the last write. The sandbox answers after 50 ms and has production's limits.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[1]
RATE, SHARE, LATENCY = 100, 0.9, 0.05
KEY = "sk_live_bench"
CHUNK = 5000


@contextmanager
def clerk(port: int = 8397) -> Iterator[str]:
    """A sandbox in a process of its own."""
    root = f"http://127.0.0.1:{port}"
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", str(port), "--limits", "live",
         "--latency", str(LATENCY)],
        cwd=ROOT, env={**os.environ, "CLERK_SECRET_KEY": KEY}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(100):
            try:
                requests.get(f"{root}/_sandbox/faults", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield root
    finally:
        sandbox.terminate()
        sandbox.wait(30)


def people(root: str, count: int) -> list[tuple[str, str]]:
    """Fill both stores, in step; gives our id and Clerk's of each."""
    from django.utils import timezone

    from users.clerk import ClerkUser
    from users.models import BuilderUser, ClerkAccount
    from users.sync.copies import columns_of

    ids = []
    for start in range(0, count, CHUNK):
        made = requests.post(
            f"{root}/_sandbox/users",
            json=[
                {"email": f"m{n}@example.com", "first_name": "Mary Ann", "last_name": f"Smith{n}"}
                for n in range(start, min(start + CHUNK, count))
            ],
            timeout=120,
        ).json()
        accounts = [ClerkUser.parse(entry) for entry in made]
        users = [
            BuilderUser(name=account.name, email=account.email, clerk_id=account.id)
            for account in accounts
        ]
        BuilderUser.objects.bulk_create(users)
        now = timezone.now()
        ClerkAccount.objects.bulk_create(
            ClerkAccount(clerk_id=account.id, user=user, **columns_of(account, seen_at=now))
            for account, user in zip(accounts, users, strict=True)
        )
        ids += [(str(user.pk), user.clerk_id or "") for user in users]
    return ids


def command(root: str, *arguments: str) -> tuple[float, str]:
    """Run a command as a process of its own: seconds and output."""
    from django.db import connection

    database = connection.settings_dict
    url = f"postgres://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    environment = {
        **os.environ,
        "DEBUG": "0",  # as in production: under DEBUG Django keeps every query
        "SECRET_KEY": "a-bench-" + "0123456789" * 5,
        "ALLOWED_HOSTS": "localhost",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_b25seS1mb3ItYS1iZW5jaA==",
        "DATABASE_URL": url,
        "CLERK_SECRET_KEY": KEY,
        "CLERK_API_URL": f"{root}/v1",
        "CLERK_RATE_LIMIT": str(RATE),
    }
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "manage.py", *arguments],
        cwd=ROOT, env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip
    took = time.perf_counter() - started
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return took, done.stdout


def statuses(root: str) -> Counter[int]:
    asked: list[dict[str, Any]] = requests.get(f"{root}/_sandbox/requests", timeout=60).json()
    return Counter(request["status"] for request in asked if request["method"] != "GET")


def push(count: int = 2000) -> None:
    from django.db.models import F, Value
    from django.db.models.functions import Replace

    from users.models import BuilderUser, BulkRun

    with clerk() as root:
        people(root, count)
        BuilderUser.objects.update(name=Replace(F("name"), Value("Smith"), Value("Jones")))
        requests.delete(f"{root}/_sandbox/requests", timeout=30)
        command(
            root, "clerk_push", "--no-refresh", "--apply", "--max-changes", str(count), "--json"
        )
        run = BulkRun.objects.filter(command="clerk_push").latest("pk")
        assert run.finished_at
        took = (run.finished_at - run.started_at).total_seconds()
        floor = count / (SHARE * RATE)
        print(
            f"push {count} names: {took:.1f} s, floor {floor:.1f} s, ratio {took / floor:.3f}; "
            f"answers {dict(statuses(root))}"
        )


def update(count: int = 100_000, changed: int = 500) -> None:
    with clerk() as root, tempfile.TemporaryDirectory() as folder:
        ids = people(root, count)
        file = Path(folder) / "fixes.csv"
        with file.open("w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow(["id", "name", "email", "role"])
            step = count // changed
            for number, (pk, _) in enumerate(ids):
                surname = "Jones" if number % step == 0 else "Smith"
                writer.writerow(
                    [pk, f"Mary Ann {surname}{number}", f"m{number}@example.com", "BUILDER"]
                )
        requests.delete(f"{root}/_sandbox/requests", timeout=30)
        arguments = (
            "update_users",
            str(file),
            "--no-refresh",
            "--apply",
            "--max-changes",
            str(changed),
            "--json",
        )
        first, _ = command(root, *arguments)
        written = statuses(root)
        again, _ = command(root, *arguments)
        print(
            f"update_users {count} lines, {changed} changed: {first:.1f} s, answers "
            f"{dict(written)}; floor of the writes {changed / (SHARE * RATE):.1f} s; again "
            f"{again:.1f} s, {sum((statuses(root) - written).values())} writes"
        )
