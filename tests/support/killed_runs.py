"""A bulk command that is killed again and again, while staff and people go on with their work.

Nobody sleeps: whoever works meanwhile does so whenever some more rows of the run have ended.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shlex
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import count
from pathlib import Path
from signal import SIGKILL

from django.db import connection
from django.test import Client

from sandbox import Event, Sandbox
from tests.support.commands import run, start
from tests.support.events import post
from tests.support.patience import PATIENCE, wait_until
from tests.support.unknown import time_is_over
from users.models import BulkRow, BulkRun, RunStatus, SyncAttempt
from users.sync.bulk.run import bring_up_to_date, resume_command

ROWS = int(os.environ.get("BULK_ROWS", "24"))
KILLS = int(os.environ.get("BULK_KILLS", "2"))
ROWS_A_DEED = 3
"""Each of those who work meanwhile does one thing whenever so many more rows have ended."""
LAST_TRIES = 5
NO_DATABASE = "The database does not answer"
"""How a run ends, to be resumed, that gets no connection in time on a slow machine."""
NOTHING_LEFT = "has no row left to do"
"""How a run ends whose last attempts were resolved since it was killed."""


def ended() -> int:
    return BulkRow.objects.exclude(state="waiting").count()


def the_run() -> BulkRun:
    """The run of the command; scans have no rows."""
    return BulkRun.objects.filter(rows__isnull=False).distinct().get()


def killed_and_resumed(sandbox: Sandbox, *arguments: str | Path) -> int:
    """Run a command, kill it at random moments, and resume it each time while rows wait; return
    how often it was killed."""
    killed = 0
    rate = ("--rate", "1000")
    command: Sequence[str | Path] = [*arguments, "--apply", *rate, "--max-changes", str(ROWS)]
    for kill in range(KILLS):
        process = start(sandbox, *command)
        left = BulkRow.objects.filter(state="waiting").count() or ROWS
        wanted = ended() + random.randrange(1, max(2, 2 * left // (KILLS - kill + 1)))
        wait_until(
            lambda: ended() >= wanted or process.poll() is not None,  # noqa: B023
            "the run does not go on",
        )
        process.kill()
        output, _ = process.communicate()
        fine = (NO_DATABASE, NOTHING_LEFT)
        assert process.returncode in (-SIGKILL, 0, 2) or any(one in output for one in fine), output
        killed += process.returncode < 0
        if not BulkRow.objects.filter(state="waiting").exists():
            break
        command = [*_resuming(the_run()), *rate]
    return killed


def finished(sandbox: Sandbox) -> BulkRun:
    """Resume the run until no row waits. What is not confirmed yet is so by then."""
    bulk_run = the_run()
    again = [*_resuming(bulk_run), "--rate", "1000"]
    for _ in range(LAST_TRIES):
        if not BulkRow.objects.filter(state="waiting").exists():
            break
        last = start(sandbox, *again)
        output, _ = last.communicate(timeout=PATIENCE)
        fine = (NO_DATABASE, NOTHING_LEFT)
        assert last.returncode in (0, 2) or any(one in output for one in fine), output
        time_is_over()
        run("clerk_recover")
    wait_until(_is_over, "the database does not notice that the process is gone")
    return the_run()


def _is_over() -> bool:
    """Whether the run has ended, also one that was killed after its last row."""
    bring_up_to_date()
    return the_run().state != RunStatus.RUNNING


def _resuming(bulk_run: BulkRun) -> list[str]:
    """Return the command that the run itself advises, without `manage.py`."""
    return shlex.split(resume_command(bulk_run))[1:]


# --- What happens meanwhile ------------------------------------------------------------------


@contextmanager
def meanwhile(*workers: Callable[[int], object]) -> Iterator[None]:
    """Let each worker do its next deed, numbered from 1, as the run goes on."""
    over = threading.Event()
    problems: list[BaseException] = []
    threads = [
        threading.Thread(target=_work, args=(worker, over, problems), daemon=True)
        for worker in workers
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    if problems:
        raise problems[0]


def _work(
    worker: Callable[[int], object], over: threading.Event, problems: list[BaseException]
) -> None:
    try:
        for number in count(1):
            while not over.is_set() and ended() < number * ROWS_A_DEED:
                over.wait(0.01)
            if over.is_set():
                return
            worker(number)
    except BaseException as problem:
        problems.append(problem)
    finally:
        connection.close()


def near_the_front() -> list[BulkRow]:
    """List the rows that were just done, are in flight, or come next."""
    waiting = BulkRow.objects.filter(state="waiting").order_by("position")
    first = waiting.values_list("position", flat=True).first() or 0
    return list(BulkRow.objects.filter(position__range=(first - 8, first + 24)))


class Svix:
    """Delivers the events of the sandbox: late, in any order, some of them twice."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._client = Client()
        self._known: set[str] = set()
        self._waiting: list[Event] = []

    def deliver_some(self) -> None:
        self._look()
        random.shuffle(self._waiting)
        going = self._waiting[len(self._waiting) // 3 :]
        del self._waiting[len(self._waiting) // 3 :]
        for event in [*going, *going[:1]]:
            self._deliver(event)

    def deliver_all(self) -> None:
        self._look()
        while self._waiting:
            self._deliver(self._waiting.pop())

    def _look(self) -> None:
        for event in self._sandbox.webhooks.events:
            if event.id not in self._known:
                self._known.add(event.id)
                self._waiting.append(event)

    def _deliver(self, event: Event) -> None:
        """Svix sends again what was not taken."""
        response = post(self._sandbox, event, client=self._client)
        if response.status_code != 200:
            assert response.status_code == 503, response.content
            self._waiting.append(event)


# --- What is true in the end -----------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A name that an account had from `since` on (Unix seconds)."""

    name: str
    since: float


def names_in_clerk(sandbox: Sandbox) -> dict[str, list[Named]]:
    """The names that each account had, one after another."""
    had: dict[str, list[Named]] = defaultdict(list)
    for event in sandbox.webhooks.events:
        if event.type in ("user.created", "user.updated"):
            data = event.payload["data"]
            name = " ".join(filter(None, (data["first_name"], data["last_name"])))
            if not had[data["id"]] or had[data["id"]][-1].name != name:
                had[data["id"]].append(Named(name, event.at / 1000))
    return had


def assert_told(bulk_run: BulkRun, states: Mapping[str, str]) -> None:
    """What every surface says of the rows is `states`, by the key of the user."""
    assert bulk_run.state == "finished"
    _, exported = run("runs", "export", str(bulk_run.pk))
    lines = list(csv.DictReader(StringIO(exported)))
    assert {line["user_id"]: line["state"] for line in lines} == states
    assert all(line["reason"] for line in lines if line["state"] != "done")
    _, shown = run("runs", "show", str(bulk_run.pk), "--json")
    told = json.loads(shown)["run"]["counts"]
    assert {word.lower(): rows for word, rows in told.items()} == Counter(states.values())
    if result := bulk_run.options.get("result"):
        _assert_result_file(Path(result), bulk_run, states)


def _assert_result_file(file: Path, bulk_run: BulkRun, states: Mapping[str, str]) -> None:
    with file.open(encoding="utf-8", newline="") as text:
        outcomes = {int(line["line"]): line["outcome"] for line in csv.DictReader(text)}
    words = {"done": "changed"}
    rows = bulk_run.rows.values_list("line", "user_id")
    expected = {line: words.get(states[str(pk)], states[str(pk)]) for line, pk in rows}
    assert outcomes == expected, (outcomes, expected)


def assert_once(bulk_run: BulkRun, states: Mapping[str, str]) -> None:
    """The journal holds one applied attempt of the run for each row that is done, no other."""
    applied = SyncAttempt.objects.filter(run=bulk_run, status="applied")
    users = applied.exclude(error_code="repeated").values_list("user_id", flat=True)
    assert sorted(map(str, users)) == sorted(pk for pk, state in states.items() if state == "done")
