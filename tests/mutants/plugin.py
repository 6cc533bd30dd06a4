"""Run the tests of a group once for each mutant, each time in a process of its own.

The parent collects the tests and sets up the database. A child first runs them all without a
mutant, and says which test calls which functions, and how long it takes. Each mutant then gets a
child, in which those tests run that call the mutated function, the quickest first, until one fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NoReturn

import hypothesis
import pytest
from _pytest.runner import runtestprotocol
from django.db import connection
from pytest_django.plugin import blocking_manager_key

from tests.mutants.swapping import AtImport, Module, Place
from tests.support.flush import empty

Said = dict[str, Any]
Work = Callable[[Callable[[Said], None]], None]
"""What a child does; it says its results by the function that it is given."""

MEASURING = 3600.0
"""Seconds that the tests may take without a mutant."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutants", help="a file of mutants, one a line")
    parser.addoption("--results", help="the file to which their results are appended")
    parser.addoption("--processes", type=int, help="mutants at a time")


def pytest_sessionstart() -> None:
    connection.settings_dict["TEST"]["NAME"] = "test_mutants"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    with session.config.stash[blocking_manager_key].unblock():
        _Run(session).run()
    return True


@dataclass
class _Child:
    """A forked process, which says its results through a pipe, one a line."""

    pid: int
    pipe: int
    database: str
    limit: float
    mutant: Said = field(default_factory=dict)
    said: bytes = b""

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def late(self) -> bool:
        return time.monotonic() > self.started + self.limit

    def read(self) -> bool:
        """Read what it says, and return whether that was all."""
        part = os.read(self.pipe, 1 << 16)
        self.said += part
        return not part

    def end(self) -> list[Said]:
        """Wait for its end, and return what it said."""
        os.close(self.pipe)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return [json.loads(line) for line in self.said.splitlines()]


class _Run:
    def __init__(self, session: pytest.Session) -> None:
        self.options = session.config.option
        self.warm_up, *self.items = session.items
        self.mutants: list[Said] = [
            json.loads(line) for line in Path(self.options.mutants).read_text().splitlines()
        ]
        names = {mutant["module"] for mutant in self.mutants}
        self.modules = {name: Module(Path(name).resolve()) for name in names}
        self.calls: dict[str, set[tuple[str, Place]]] = {}
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        databases = self._prepare()
        measuring = self._fork(self._measure, MEASURING, databases[0])
        while not measuring.read():
            pass
        for line in measuring.end():
            if "failed" in line:
                raise pytest.UsageError(f"{line['failed']} fails without a mutant: {line['how']}")
            self.calls[line["test"]] = {(name, tuple(at)) for name, at in line["calls"]}
            self.seconds[line["test"]] = line["seconds"]
        self.items.sort(key=lambda item: self.seconds[item.nodeid])
        with open(self.options.results, "a", buffering=1) as results:
            self._try_all(databases, lambda result: results.write(json.dumps(result) + "\n"))

    def _prepare(self) -> list[str]:
        """Set up a database for each process, and return their names."""
        from users.clerk import warm_up

        warm_up()
        for report in runtestprotocol(self.warm_up, log=False, nextitem=self.items[0]):
            assert report.passed, report.longreprtext
        suffixes = [str(number) for number in range(self.options.processes)]
        for suffix in suffixes:
            connection.creation.clone_test_db(suffix, verbosity=0)
        _leave_database()
        for item in self.items:
            assert isinstance(item, pytest.Function)
            quick = getattr(item.function, "_hypothesis_internal_use_settings", None)
            if quick is not None:  # to shrink an example would only take time
                phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
                quick = hypothesis.settings(quick, phases=phases, database=None)
                item.function._hypothesis_internal_use_settings = quick  # type: ignore[attr-defined]
        return [connection.creation.get_test_db_clone_settings(one)["NAME"] for one in suffixes]

    def _measure(self, say: Callable[[Said], None]) -> None:
        paths = {str(module.path): name for name, module in self.modules.items()}
        for item, following in self._in_turn(self.items):
            calls: set[tuple[str, Place]] = set()

            def called(
                frame: FrameType, event: str, _: object, calls: set[tuple[str, Place]] = calls
            ) -> None:
                code = frame.f_code
                if event == "call" and code.co_filename in paths:
                    at = (code.co_qualname, code.co_firstlineno)
                    calls.add((paths[code.co_filename], at))

            started = time.monotonic()
            threading.setprofile(called)
            sys.setprofile(called)
            reports = runtestprotocol(item, log=False, nextitem=following)
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            seconds = time.monotonic() - started
            for report in reports:
                if report.failed:
                    say({"failed": item.nodeid, "how": report.longreprtext[-3000:]})
                    return
            say({"test": item.nodeid, "calls": sorted(calls), "seconds": seconds})

    def _try_all(self, databases: list[str], write: Callable[[Said], object]) -> None:
        free, running = list(databases), {}
        mutants = iter(self.mutants)
        more = True
        while more or running:
            while more and free:
                mutant = next(mutants, None)
                if mutant is None:
                    more = False
                    break
                result = {key: mutant[key] for key in ("module", "operator", "line", "change")}
                found = self._tests_of(mutant)
                if isinstance(found, str):
                    write(result | {"outcome": found})
                    continue
                child = self._start(*found, free.pop())
                child.mutant = result
                running[child.pipe] = child
            ready, _, _ = select.select(list(running), [], [], 1.0) if running else ([], [], [])
            for child in list(running.values()):
                if not (child.pipe in ready and child.read()) and not child.late:
                    continue
                del running[child.pipe]
                seconds = round(time.monotonic() - child.started, 1)
                said = child.end()
                if not said:
                    _clean(child.database)
                free.append(child.database)
                end = said[-1] if said else {"outcome": "killed", "by": "no end"}
                write(child.mutant | end | {"seconds": seconds})

    def _tests_of(
        self, mutant: Said
    ) -> tuple[Module, dict[Place, CodeType], list[pytest.Item]] | str:
        """Return what a child needs, or why no test can find the mutant."""
        module = self.modules[mutant["module"]]
        try:
            codes = module.changed(mutant["source"])
        except AtImport:
            return "at import"
        if not codes:
            return "same code"
        places = {(mutant["module"], place) for place in codes}
        items = [item for item in self.items if self.calls[item.nodeid] & places]
        return (module, codes, items) if items else "not called"

    def _start(
        self, module: Module, codes: dict[Place, CodeType], items: list[pytest.Item], database: str
    ) -> _Child:
        def hunt(say: Callable[[Said], None]) -> None:
            module.swap(codes)
            for item, following in self._in_turn(items):
                signal.alarm(30 + round(10 * self.seconds[item.nodeid]))  # ends an endless loop
                for report in runtestprotocol(item, log=False, nextitem=following):
                    if report.failed:
                        say({"outcome": "killed", "by": item.nodeid})
                        return
            say({"outcome": "survived", "tests": len(items)})

        limit = 120 + 10 * sum(self.seconds[item.nodeid] for item in items)
        return self._fork(hunt, limit, database)

    def _in_turn(self, items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item]]:
        """Yield each test with one that follows, so that the session's fixtures stay."""
        for at, item in enumerate(items):
            yield item, items[at + 1] if at + 1 < len(items) else self.warm_up

    def _fork(self, work: Work, limit: float, database: str) -> _Child:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            os.setpgid(0, 0)
            connection.settings_dict["NAME"] = database
            _do(work, write)
        os.close(write)
        return _Child(pid, read, database, limit)


def _do(work: Work, write: int) -> NoReturn:
    try:
        with os.fdopen(write, "w", buffering=1) as out:
            work(lambda said: print(json.dumps(said), file=out))
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(0)


def _leave_database() -> None:
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]


def _clean(database: str) -> None:
    """Empty a database that a killed process left."""
    before, connection.settings_dict["NAME"] = connection.settings_dict["NAME"], database
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    empty("default")
    _leave_database()
    connection.settings_dict["NAME"] = before
