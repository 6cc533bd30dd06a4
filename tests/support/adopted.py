"""A live database of the other application: its tables, awkward rows, its owner, and our role."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection
from django.test import override_settings

from tests.support.databases import connect, connected_to, copy_of, url_of
from tests.support.processes import Process

DDL = (Path(__file__).parent / "original_schema.sql").read_text()
SCHEMA = "cascade"
OWNER, APPLICATION = "react_owner", "cascade_app"
ROWS = int(os.environ.get("ADOPTION_ROWS", "300"))
"""The long form: 5,000 rows."""

AWKWARD = r"""
INSERT INTO builder_groups (name) SELECT 'Oak Hill ' || n FROM generate_series(1, 10) AS n;
INSERT INTO users (name, email, role, internal_role, clerk_id, password, created_at,
    builder_group_id, notify_claims)
SELECT
    CASE n % 9 WHEN 0 THEN '' WHEN 1 THEN repeat('x', 599) WHEN 2 THEN E'Mary\tAnn'
        WHEN 3 THEN '<b>Mary</b>' WHEN 4 THEN '  Mary  Ann ' ELSE 'Mary Ann Smith' END,
    CASE n % 11 WHEN 0 THEN 'not an address ' || n WHEN 1 THEN 'Legacy' || n || '@Example.COM'
        WHEN 2 THEN repeat('e', 587) || '@example' || n ELSE 'legacy' || n || '@example.com' END,
    (ARRAY['ADMIN', 'HOMEOWNER', 'BUILDER', NULL])[1 + n % 4]::user_role,
    (ARRAY['Administrator', 'Employee', 'Back Office', '', NULL])[1 + n % 5],
    CASE WHEN n = 7 THEN '' WHEN n % 13 = 0 THEN 'pending-' || n END,
    CASE n % 3 WHEN 0 THEN 'hunter' || n WHEN 1 THEN '' END,
    CASE n % 17 WHEN 0 THEN NULL ELSE timestamp '2025-06-01 23:30' + n * interval '1 minute' END,
    (SELECT id FROM builder_groups ORDER BY name OFFSET n % 10 LIMIT 1),
    n % 2 = 0
FROM generate_series(1, %(rows)s) AS n;
INSERT INTO homeowners (name, builder_user_id)
SELECT 'Homeowner', id FROM users ORDER BY email LIMIT 20;
INSERT INTO appointments (created_by_id) SELECT id FROM users ORDER BY email LIMIT 3;
"""


class Original:
    """The database of the other application while it is live."""

    def __init__(self, name: str, *, owner: str = OWNER, application: str = APPLICATION) -> None:
        self.name, self.owner, self.application = name, owner, application
        self.superuser = connection.settings_dict["USER"]

    def make(self, *, rows: int) -> None:
        with connect(self.superuser, "postgres") as server:
            server.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
            for role in (self.owner, self.application):
                if not server.execute(
                    "SELECT 1 FROM pg_roles WHERE rolname = %s", [role]
                ).fetchone():
                    server.execute(f"CREATE ROLE {role} LOGIN")
            server.execute(f"CREATE DATABASE {self.name} OWNER {self.owner}")
        with connect(self.superuser, self.name) as server:
            server.execute(f"ALTER SCHEMA public OWNER TO {self.owner}")
        with self.react() as client:
            client.execute(DDL)
            if rows:
                client.execute(AWKWARD.replace("%(rows)s", str(rows)))

    def drop(self) -> None:
        with connect(self.superuser, "postgres") as server:
            server.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    def everything(self) -> psycopg.Connection[Any]:
        """Connect as a role that may do everything."""
        return connect(self.superuser, self.name)

    def react(self) -> psycopg.Connection[Any]:
        """Connect as the other application does."""
        return connect(self.owner, self.name)

    def ours(self) -> psycopg.Connection[Any]:
        """Connect as this application does."""
        return connect(self.application, self.name)

    def prepare_role(self) -> None:
        """Run what the plan says that the owner of the role runs by hand."""
        with connect(self.superuser, self.name) as server:
            server.execute(
                f"ALTER ROLE {self.application} IN DATABASE {self.name} "
                f"SET search_path = {SCHEMA}, public"
            )

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": url_of(self.application, self.name),
            "CASCADE_OWNER_URL": url_of(self.owner, self.name),
            "CASCADE_SCHEMA": SCHEMA,
            **more,
        }

    def through(self, port: int) -> dict[str, str]:
        """Return the addresses of both roles by a pooler, for `run` and `start`."""
        return {
            "DATABASE_URL": url_of(self.application, self.name, port=port),
            "CASCADE_OWNER_URL": url_of(self.owner, self.name, port=port),
        }

    def start(self, *arguments: str, **more: str) -> Process:
        """Start a command of ours on this database."""
        return Process(*arguments, environment=self.environment(**more))

    def run(self, *arguments: str, **more: str) -> tuple[int, str]:
        """Return the exit code of a command of ours, and all that it says."""
        process = self.start(*arguments, **more)
        out, _ = process.communicate()
        return process.returncode, out


@contextmanager
def original(
    name: str, *, rows: int, owner: str = OWNER, application: str = APPLICATION
) -> Iterator[Original]:
    database = Original(name, owner=owner, application=application)
    database.make(rows=rows)
    try:
        yield database
    finally:
        database.drop()


@contextmanager
def working_on(database: Original) -> Iterator[None]:
    """Let Django's connections go to an adopted database, as the role of the application."""
    with (
        connected_to(database.name, USER=database.application),
        override_settings(CASCADE_SCHEMA=SCHEMA),
    ):
        yield


def make_adopted(name: str) -> None:
    """Make a database of the other application, with rows of every awkward kind, and adopt it."""
    database = Original(name)
    database.make(rows=ROWS)
    database.prepare_role()
    code, out = database.run("adopt_database", "--apply")
    assert code == 0, out


@contextmanager
def copy_of_adopted(template: str) -> Iterator[Original]:
    """Yield a copy of what `make_adopted` has made."""
    database = Original(f"adopted_{uuid.uuid4().hex[:8]}")
    with copy_of(template, database.name, owner=database.owner):
        database.prepare_role()  # PostgreSQL does not copy what a role has in a database
        yield database
