"""Databases that a test has for itself: copies of one that is made once in a test run."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlencode

import psycopg
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
"""The test run: the same for all its workers."""


def url_of(role: str, name: str, *, port: int | None = None) -> str:
    """Return the address of a database on the server of the tests, or of a pooler at `port`."""
    database = connection.settings_dict
    if port is not None:
        return f"postgres://{quote(role)}@127.0.0.1:{port}/{name}"
    where = urlencode(
        {
            key: value
            for key, value in (("host", database["HOST"]), ("port", database["PORT"]))
            if value
        }
    )
    return f"postgres://{quote(role)}@/{name}?{where}"


def connect(role: str, name: str) -> psycopg.Connection:
    return psycopg.connect(url_of(role, name), autocommit=True)


@contextmanager
def made_once(kind: str, make: Callable[[str], None]) -> Iterator[str]:
    """Yield the name of a database that `make` fills, once for all workers of the test run.

    The first worker makes it while the others wait, and the last one that leaves drops it: nobody
    else holds the lock of its users then.
    """
    name = f"{kind}_{RUN[:12]}"
    users = f"hashtext('users of {name}')"
    with connect(connection.settings_dict["USER"], "postgres") as server:
        with _alone(server, name):
            known = server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if known.fetchone() is None:
                try:
                    make(name)
                except BaseException:
                    server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                    raise
            server.execute(f"SELECT pg_advisory_lock_shared({users})")
        yield name
        with _alone(server, name):
            server.execute(f"SELECT pg_advisory_unlock_shared({users})")
            if server.execute(f"SELECT pg_try_advisory_lock({users})").fetchone() == (True,):
                server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def _alone(server: psycopg.Connection, name: str) -> Iterator[None]:
    """Let one worker at a time make or drop a database. Never wait for tests in it."""
    server.execute(f"SELECT pg_advisory_lock(hashtext('{name}'))")
    try:
        yield
    finally:
        server.execute(f"SELECT pg_advisory_unlock(hashtext('{name}'))")


@contextmanager
def copy_of(template: str, name: str, *, owner: str) -> Iterator[None]:
    """Let `name` be a copy of a database to which nobody is connected."""
    with connect(connection.settings_dict["USER"], "postgres") as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
        try:
            server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
            yield
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def connected_to(name: str, **more: str) -> Iterator[None]:
    """Let Django's connections go to this database, with `more` settings in place of its own."""
    ours = connection.settings_dict
    before = dict(ours)
    _leave()
    ours.update({"NAME": name, **more})
    try:
        yield
    finally:
        _leave()
        ours.update(before)


def _leave() -> None:
    connection.close()
    connections["default"].close_pool()
    ContentType.objects.clear_cache()
