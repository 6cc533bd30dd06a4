"""Execute the plan of an adoption. Whatever stops it, running it again goes on.

Each step is one transaction, or one statement that is whole by itself. So a process that is killed
leaves steps that are done and steps that are not, and the next plan lists the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections, transaction
from psycopg import errors

from cascade.database import schemas
from users.errors import BulkRefused
from users.sync.adoption import catalog, findings, obstacles, plan
from users.sync.adoption.catalog import Catalog
from users.sync.adoption.findings import Finding
from users.sync.adoption.plan import Plan, Step
from users.sync.mirror import listing

KEY = 4_317_288_202
"""Key of the advisory lock: one adoption at a time."""
TRIES = 30
"""How often a step is tried that cannot lock a table at once."""
PAUSE = 1.0
"""Seconds between two tries. Without a pause, other clients would queue behind the next one."""

_QUIETLY: dict[str, object] = {"interactive": False, "verbosity": 0, "skip_checks": True}

Connection = psycopg.Connection[object]


@dataclass(frozen=True)
class State:
    """What stands in the database, and what follows."""

    catalog: Catalog
    obstacles: list[str]
    by_hand: list[str]
    findings: list[Finding]
    plan: Plan


def application() -> Connection:
    """Connect as the application does, but outside its pool and before its path is checked."""
    parameters = dict(connections["default"].get_connection_params())
    for ours in ("cursor_factory", "context"):
        parameters.pop(ours)
    return psycopg.connect(**parameters, autocommit=True)


def owner_of(url: str) -> Connection:
    """Connect as the owner of the tables. Without a URL, the application's own role is it."""
    if not url:
        return application()
    return psycopg.connect(url, autocommit=True, prepare_threshold=None)


def look(owner: Connection, *, clear_passwords: bool = False) -> State:
    """Read everything, write nothing."""
    with application() as own, own.cursor() as ours, owner.transaction(), owner.cursor() as theirs:
        theirs.execute("SET TRANSACTION READ ONLY")
        found = catalog.read(theirs, ours)
        blocking = obstacles.find(found)
        if blocking:
            return State(found, blocking, [], [], Plan([], [], []))
        has_password = "password" in found.tables["users"].columns
        rows = findings.find(theirs, has_password=has_password)
    kinds = {finding.kind for finding in rows}
    steps = plan.make(found, kinds=kinds, clear_passwords=clear_passwords)
    return State(found, blocking, obstacles.by_hand(found), rows, steps)


def apply(
    owner_url: str,
    *,
    clear_passwords: bool,
    lock_timeout: float,
    tell: Callable[[str], None],
) -> State:
    """Execute all missing steps, and return what stands afterwards.

    `tell` gets a line before each step. Raises `BulkRefused` with a list if something is in the
    way, and if a table cannot be locked.
    """
    with owner_of(owner_url) as owner, _one_at_a_time(owner_url):
        refused: dict[Step, str] = {}
        state = _look_again(owner, refused, clear_passwords=clear_passwords)
        if in_the_way := [*state.obstacles, *map(_run_first, state.by_hand)]:
            raise BulkRefused("\n".join(["Nothing was changed.", *in_the_way]))
        while state.plan.steps:
            before = state.plan.steps
            for step in before:
                tell(f"{step.title}.")
                try:
                    _execute(owner, step, lock_timeout)
                except psycopg.DatabaseError as error:
                    if not step.optional:
                        raise
                    refused[step] = error.diag.message_primary or type(error).__name__
                if step.migrates:
                    break  # what the migrations made decides about the rest
            state = _look_again(owner, refused, clear_passwords=clear_passwords)
            if state.plan.steps == before:
                titles = "; ".join(step.title for step in before)
                raise BulkRefused(f"This had no effect: {titles}. Look at the table.")
        # The other application may have deleted rows after the migrations filled the list, and
        # before its triggers were there. Only our own role sees the entries of those.
        listing.refresh_all()
        return state


def _look_again(owner: Connection, refused: Mapping[Step, str], *, clear_passwords: bool) -> State:
    """Look, but plan nothing that the database has just refused."""
    state = look(owner, clear_passwords=clear_passwords)
    steps = [step for step in state.plan.steps if step not in refused]
    notes = [f"{step.title}: the database refused it ({why})." for step, why in refused.items()]
    return replace(state, plan=replace(state.plan, steps=steps, notes=[*state.plan.notes, *notes]))


def _run_first(statement: str) -> str:
    return f"Run this first, as a role that may: {statement};"


@contextmanager
def _one_at_a_time(owner_url: str) -> Iterator[None]:
    """Hold a lock by a transaction that does nothing else: it also holds behind a pooler."""
    with owner_of(owner_url) as holder, holder.transaction():
        # It is idle for as long as the adoption takes.
        holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        # Without parameters: else the open portal would keep a snapshot, and an index built
        # concurrently would wait for it without end.
        taken = holder.execute(f"SELECT pg_try_advisory_xact_lock({KEY})").fetchone()
        if taken != (True,):
            raise BulkRefused("Another adopt_database is at work. Run this when it has ended.")
        yield


def _execute(owner: Connection, step: Step, lock_timeout: float) -> None:
    if step.migrates:
        _migrate()
    elif step.ours:
        with application() as ours:
            _execute(ours, replace(step, ours=False), lock_timeout)
    elif step.concurrently:
        _concurrently(owner, step)
    else:
        while _in_transaction(owner, step, lock_timeout) and step.repeated:
            pass


def _in_transaction(owner: Connection, step: Step, lock_timeout: float) -> int:
    """Execute the statements of a step in one transaction; return the rows that the last one hit.

    A statement that waits for a table makes all others wait behind it. So it gives up soon, lets
    them pass, and is tried again. Raises `BulkRefused` if that never succeeds.
    """
    milliseconds = max(1, int(lock_timeout * 1000))
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        try:
            with owner.transaction(), owner.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {milliseconds}")
                for statement in step.statements:
                    cursor.execute(statement.encode())
                return cursor.rowcount
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            continue
    raise BulkRefused(
        f"{step.title}: not done, because another transaction held the table during {TRIES} tries. "
        "End that one (pg_stat_activity shows it), then run this again. What was done before stays."
    )


def _concurrently(owner: Connection, step: Step) -> None:
    """Execute a statement that waits for other transactions, but lets them all go on."""
    # A duplicate may have come meanwhile. Then the next plan drops the index and reports the rows.
    with suppress(errors.UniqueViolation):
        owner.execute(step.statements[0].encode())


def _migrate() -> None:
    """Apply the migrations so that a kill at any moment leaves a database that can go on.

    Django records a migration after its foreign keys are made. A kill in between would leave tables
    that the next run makes again. So ours are one transaction. Those of procrastinate cannot be:
    they use new values of a type, which PostgreSQL allows after a commit. They make no foreign
    key in that way, and each is recorded in its own transaction.

    Raises `BulkRefused` if the search path is not right.
    """
    with application() as ours, ours.cursor() as cursor:
        if why := schemas.problem(cursor):
            raise BulkRefused(why)
    try:
        call_command("migrate", "procrastinate", **_QUIETLY)
        with transaction.atomic(), connections["default"].cursor() as cursor:
            # Behind a pooler, this may be another connection than the one that was looked at.
            schemas.refuse(cursor)
            call_command("migrate", **_QUIETLY)
    except ImproperlyConfigured as error:
        raise BulkRefused(str(error)) from None
