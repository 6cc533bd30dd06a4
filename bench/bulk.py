"""Measure bulk work beside its floor: `python -m bench.bulk [push] [update] [scan] [drift] [plan]`.

- `push`: 2,000 changed names. The floor is the time that Clerk's rate limit needs for the writes.
- `update`: a spreadsheet of 100,000 lines of which 500 change, with process start and scan.
- `scan`: 100,000 and 300,000 users. The floor fetches the same pages and does nothing with them.
- `drift`: the report on 100,000 users. The floor is the bare SQL.
- `plan`: the plans of push, pull and link for 1,000 differences among BENCH_ROWS users
  (default: 1,000,000). The floor is `clerk_diff`.

The sandbox is a process of its own, answers after 50 ms and has the limits of production.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import django
import requests

from sandbox import LOG_LENGTH

ROOT = Path(__file__).parents[1]
RATE, SHARE, LATENCY = 100, 0.9, 0.05
KEY = "sk_live_bench"
CHUNK = 5000


@contextmanager
def clerk(port: int = 8397, *, latency: float = LATENCY) -> Iterator[str]:
    """Run a sandbox in a process of its own, and yield its address."""
    root = f"http://127.0.0.1:{port}"
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "--port", str(port), "--limits", "live",
         "--latency", str(latency)],
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


def accounts(root: str, count: int) -> Iterator[list[dict[str, Any]]]:
    """Create people in Clerk who signed up one a minute, and yield them in chunks."""
    began = int(time.time() * 1000) - count * 60_000
    for start in range(0, count, CHUNK):
        wanted = [
            {
                "email": f"m{n}@example.com",
                "first_name": "Mary Ann",
                "last_name": f"Smith{n}",
                "created_at": began + n * 60_000,
            }
            for n in range(start, min(start + CHUNK, count))
        ]
        yield requests.post(f"{root}/_sandbox/users", json=wanted, timeout=120).json()


def people(root: str, count: int) -> list[tuple[str, str]]:
    """Fill both stores in sync; return the database id and the Clerk id of each user."""
    from django.utils import timezone

    from users.clerk import ClerkUser
    from users.models import BuilderUser
    from users.sync.mirror import store

    ids = []
    for made in accounts(root, count):
        parsed = [ClerkUser.parse(entry, asked_at=timezone.now()) for entry in made]
        users = [
            BuilderUser(name=account.name, email=account.email, clerk_id=account.id)
            for account in parsed
        ]
        BuilderUser.objects.bulk_create(users)
        store.keep_all(parsed)
        ids += [(str(user.pk), user.clerk_id or "") for user in users]
    return ids


def environment_of(root: str) -> dict[str, str]:
    """Return the environment of a process on the bench's database and sandbox.

    DEBUG is off as in production, because Django keeps every query under DEBUG.
    """
    from django.db import connection

    database = connection.settings_dict
    return {
        **os.environ,
        "DEBUG": "0",
        "SECRET_KEY": "a-bench-" + "0123456789" * 5,
        "ALLOWED_HOSTS": "localhost",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_b25seS1mb3ItYS1iZW5jaA==",
        "DATABASE_URL": f"postgres://{database['USER']}@/{database['NAME']}?host={database['HOST']}",
        "CLERK_SECRET_KEY": KEY,
        "CLERK_API_URL": f"{root}/v1",
        "CLERK_RATE_LIMIT": str(RATE),
    }


def process(root: str, *arguments: str) -> tuple[float, str]:
    """Run Python in a process of its own; return its seconds and its output."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=ROOT, env=environment_of(root), text=True, capture_output=True, check=False,
    )  # fmt: skip
    took = time.perf_counter() - started
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return took, done.stdout


def statuses(root: str, *, reads: bool = False) -> Counter[int]:
    """Return how often the sandbox answered with each status: writes, or all its requests.

    Raises `AssertionError` if there were more requests than the sandbox remembers.
    """
    asked: list[dict[str, Any]] = requests.get(f"{root}/_sandbox/requests", timeout=60).json()
    assert len(asked) < LOG_LENGTH, "The sandbox has forgotten the first of the requests."
    return Counter(request["status"] for request in asked if reads or request["method"] != "GET")


def push(count: int = 2000) -> None:
    """Measure `clerk_push` of changed names."""
    from django.db.models import F, Value
    from django.db.models.functions import Replace

    from users.guard import without_clerk
    from users.models import BuilderUser, BulkRun

    with clerk() as root:
        people(root, count)
        with without_clerk():
            BuilderUser.objects.update(name=Replace(F("name"), Value("Smith"), Value("Jones")))
        requests.delete(f"{root}/_sandbox/requests", timeout=30)
        process(root, "manage.py", "clerk_push", "--apply", "--max-changes", str(count), "--json")
        run = BulkRun.objects.filter(command="clerk_push").latest("pk")
        assert run.finished_at
        took = (run.finished_at - run.started_at).total_seconds()
        floor = count / (SHARE * RATE)
        print(
            f"push {count} names: {took:.1f} s, floor {floor:.1f} s, ratio {took / floor:.3f}; "
            f"answers {dict(statuses(root))}"
        )


def update(count: int = 100_000, changed: int = 500) -> None:
    """Measure `update_users` with a spreadsheet, then run it again with nothing left to change."""
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
            "manage.py",
            "update_users",
            str(file),
            "--apply",
            "--max-changes",
            str(changed),
            "--json",
        )
        first, _ = process(root, *arguments)
        written = statuses(root)
        again, _ = process(root, *arguments)
        print(
            f"update_users {count} lines, {changed} changed: {first:.1f} s, answers "
            f"{dict(written)}; floor of the writes {changed / (SHARE * RATE):.1f} s; again "
            f"{again:.1f} s, {sum((statuses(root) - written).values())} writes"
        )


# --- Scan ----------------------------------------------------------------------------------------


def scan(*counts: int) -> None:
    """Measure a first and a second scan for each number of users."""
    for count in counts or (100_000, 300_000):
        with clerk() as root:
            for _ in accounts(root, count):
                pass
            floor = json.loads(process(root, "-m", "bench.bulk", "--fetch-only")[1])
            first = json.loads(process(root, "-m", "bench.bulk", "--scan-only")[1])
            again = json.loads(process(root, "-m", "bench.bulk", "--scan-only")[1])
            print(
                f"scan {count} users: {first['seconds']:.1f} s, again {again['seconds']:.1f} s; "
                f"floor {floor['seconds']:.1f} s for {floor['pages']} pages; ratios "
                f"{first['seconds'] / floor['seconds']:.2f}, "
                f"{again['seconds'] / floor['seconds']:.2f}; memory over start "
                f"{first['memory']:.0f} MB, {again['memory']:.0f} MB"
            )
            _empty()


def scan_only() -> None:
    """Run the scan in this process; print its seconds and its highest memory in megabytes."""
    from django.conf import settings

    from users.clerk import clerk
    from users.slots import shared_pace
    from users.sync.mirror.scan import scan

    client = clerk()
    before, started = _memory("VmRSS"), time.perf_counter()
    scan(client.paced(shared_pace(settings.CLERK_RATE_LIMIT * SHARE)))
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "memory": _memory("VmHWM") - before}))


def fetch_only() -> None:
    """Fetch the pages of a scan in this process, and discard them; print the seconds."""
    from django.conf import settings

    from users.clerk import clerk
    from users.slots import shared_pace
    from users.sync.mirror import scan

    pace = shared_pace(settings.CLERK_RATE_LIMIT * SHARE)
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {KEY}"
    session.headers["Clerk-API-Version"] = settings.CLERK_API_VERSION

    def read(bounds: tuple[int, int | None]) -> int:
        lower, upper = bounds
        query: dict[str, Any] = {"limit": 500, "order_by": "-created_at", "created_at_after": lower}
        query |= {"created_at_before": upper} if upper else {}
        pages = 0
        while True:
            pace.wait()
            body = session.get(f"{settings.CLERK_API_URL}/users", params=query, timeout=60).content
            pages += 1
            ids = re.findall(rb'"id": ?"(user_\w+)"', body)
            if len(ids) < 500:
                return pages
            query["starting_after"] = ids[-1].decode()

    windows = scan._bounds(clerk().paced(pace), scan.WINDOWS)
    started = time.perf_counter()
    with ThreadPoolExecutor(len(windows)) as pool:
        pages = sum(pool.map(read, windows))
    print(json.dumps({"seconds": time.perf_counter() - started, "pages": pages}))


# --- Drift ---------------------------------------------------------------------------------------


def drift(count: int = 100_000, apart: int = 300) -> None:
    """Measure the report on all users beside its SQL, with `apart` users of each difference."""
    from django.db import connection

    from users.guard import without_clerk
    from users.models import BuilderUser, ClerkAccount, SyncAttempt
    from users.sync.mirror import report

    with clerk() as root:
        people(root, count)
    some = list(BuilderUser.objects.values_list("pk", "clerk_id")[: apart * 7])
    parts = [some[start : start + apart] for start in range(0, len(some), apart)]
    users, ids = ([[row[column] for row in part] for part in parts] for column in (0, 1))
    known = ClerkAccount.objects
    with without_clerk():
        BuilderUser.objects.filter(pk__in=users[0]).update(name="Jane Roe")
        BuilderUser.objects.filter(pk__in=users[4]).update(clerk_id=None)  # a match
        BuilderUser.objects.filter(pk__in=users[5]).delete()  # only in Clerk
    known.filter(pk__in=ids[1]).update(email="x@example.com")  # these are also duplicates
    known.filter(pk__in=ids[2]).update(deleted_at=_now())
    known.filter(pk__in=ids[3]).delete()
    known.filter(pk__in=ids[4] + ids[5]).update(user=None)
    SyncAttempt.objects.bulk_create(
        SyncAttempt(user_id=pk, operation="update", source="admin", label="") for pk in users[6]
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        sql, params = report.statement().query.sql_with_params()
        bare = _seconds(lambda: (cursor.execute(sql, params), cursor.fetchall()))
    found: list[Any] = []
    took = _seconds(lambda: found.extend(report.find()))
    kinds = Counter(difference.kind.value for difference in found)
    print(
        f"drift of {count}: {took:.2f} s for {len(found)} differences {dict(kinds)}, "
        f"bare SQL {bare:.2f} s, ratio {took / bare:.2f}"
    )


# --- Plan ----------------------------------------------------------------------------------------

FILL = """
INSERT INTO users (id, clerk_id, name, email, role, created_at, updated_at)
SELECT gen_random_uuid(), 'user_' || n, 'Mary Ann Smith' || n, 'm' || n || '@example.com',
    'BUILDER', now(), now()
FROM generate_series(1, %(rows)s) AS n;

INSERT INTO users_clerkaccount (
    clerk_id, user_id, email, email_verified, first_name, last_name, image_url, banned, locked,
    two_factor_enabled, password_enabled, providers, seen_at, version, known_name, known_email,
    addresses
)
SELECT clerk_id, id, email, true, 'Mary Ann', substr(name, 10), '', false, false,
    false, true, '[]', now(), '1', name, email,
    jsonb_build_object(email, jsonb_build_array(
        extract(epoch FROM now())::bigint * 1000000, extract(epoch FROM now())::bigint * 1000000
    ))
FROM users;

INSERT INTO users_agreement (
    user_id, clerk_id, linked_by, linked_since, name, name_version, email, email_version,
    own_name, own_email, own_email_since, note
)
SELECT id, clerk_id, 'inherited', now(), name, '1', email, '1', name, email, now(), ''
FROM users;
"""

SET_APART = """
UPDATE users SET name = replace(name, 'Smith', 'Jones') WHERE clerk_id IN (
    SELECT 'user_' || n * %(step)s FROM generate_series(1, 400) AS n
);
UPDATE users SET email = 'x' || email WHERE clerk_id IN (
    SELECT 'user_' || n * %(step)s FROM generate_series(401, 700) AS n
);
UPDATE users_clerkaccount SET user_id = NULL WHERE clerk_id IN (
    SELECT 'user_' || n * %(step)s FROM generate_series(701, 1000) AS n
);
UPDATE users_agreement SET clerk_id = NULL, linked_by = '' WHERE clerk_id IN (
    SELECT 'user_' || n * %(step)s FROM generate_series(701, 1000) AS n
);
UPDATE users SET clerk_id = NULL WHERE clerk_id IN (
    SELECT 'user_' || n * %(step)s FROM generate_series(701, 1000) AS n
);
"""
"""Change 400 names and 300 emails, and detach 300 rows from their accounts."""

PLANNING = {
    "clerk_diff": ["clerk_diff"],
    "clerk_push": ["clerk_push", "--no-refresh", "--field", "name", "--field", "email"],
    "clerk_pull": ["clerk_pull", "--no-refresh"],
    "clerk_link": ["clerk_link", "--no-refresh"],
    "clerk_push --role": ["clerk_push", "--no-refresh", "--role", "BUILDER"],
    "clerk_push --drift": ["clerk_push", "--no-refresh", "--drift", "name"],
}
ROUNDS = 2
NOBODY = "http://127.0.0.1:9"
"""An address that does not answer: planning does not call Clerk."""


def plan(count: int | None = None) -> None:
    """Measure the plan of each bulk command among many users."""
    from django.db import connection

    count = count or int(os.environ.get("BENCH_ROWS", "1000000"))
    with connection.cursor() as cursor:
        cursor.execute(FILL % {"rows": count})
        cursor.execute(SET_APART % {"step": count // 1000})
        cursor.execute("VACUUM ANALYZE")
    # Take the minimum of several rounds, and run the commands in turns: other work on the machine
    # then slows them all alike.
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in PLANNING}
    for _ in range(ROUNDS):
        for name, arguments in PLANNING.items():
            output = process(NOBODY, "-m", "bench.bulk", "--command-only", *arguments)[1]
            measured[name].append(json.loads(output))
    seconds = {name: min(one["seconds"] for one in rounds) for name, rounds in measured.items()}
    for name, rounds in measured.items():
        print(
            f"{name} of {count} users: {rounds[0]['found']} found in {seconds[name]:.2f} s, ratio "
            f"to clerk_diff {seconds[name] / seconds['clerk_diff']:.2f}; memory over start "
            f"{max(one['memory'] for one in rounds):.0f} MB"
        )


def command_only(*arguments: str) -> None:
    """Run a command in this process; print its seconds, highest memory and number of findings."""
    from django.core.management import call_command, load_command_class
    from django.db import connection

    load_command_class("users", arguments[0])
    connection.ensure_connection()
    out = io.StringIO()
    before, started = _memory("VmRSS"), time.perf_counter()
    with suppress(SystemExit):  # clerk_diff exits with a code if there are differences
        call_command(*arguments, "--json", stdout=out)
    seconds, memory = time.perf_counter() - started, _memory("VmHWM") - before
    document = json.loads(out.getvalue())
    found = document["differences"] if "differences" in document else document["plan"]["rows"]
    print(json.dumps({"seconds": seconds, "memory": memory, "found": len(found)}))


def _now() -> Any:
    from django.utils import timezone

    return timezone.now()


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _memory(what: str) -> float:
    """Return the memory of this process in megabytes: `VmRSS` now, `VmHWM` at most."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def _empty() -> None:
    from users.models import Agreement, BuilderUser, BulkRow, BulkRun, ClerkAccount, SyncAttempt

    for model in (BulkRow, ClerkAccount, Agreement, SyncAttempt, BulkRun, BuilderUser):
        model.objects.all()._raw_delete("default")


PARTS = {"push": push, "update": update, "scan": scan, "drift": drift, "plan": plan}


def main(parts: list[str]) -> None:
    """Run the parts in a test database. Without names, run all of them."""
    from django.db import connection

    own = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = "bench_bulk"
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        for part in parts or PARTS:
            PARTS[part]()
            _empty()
    finally:
        connection.creation.destroy_test_db(own, verbosity=0)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
    django.setup()
    if sys.argv[1:] == ["--scan-only"]:
        scan_only()
    elif sys.argv[1:] == ["--fetch-only"]:
        fetch_only()
    elif sys.argv[1:2] == ["--command-only"]:
        command_only(*sys.argv[2:])
    else:
        main(sys.argv[1:])
