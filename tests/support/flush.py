"""Empty the test database between tests, of every table that holds rows.

Django's own `flush` truncates its 40 tables, leaves out those of unmanaged models (the jobs of
procrastinate), and makes all permissions anew: a quarter of a second after each test.
"""

from __future__ import annotations

from typing import Any

from django.db import connections

KEPT = ("django_migrations", "django_content_type", "auth_permission")
"""Made by `migrate`, and changed by no test."""

LARGE = 1_000_000
"""Bytes. To delete the rows of a larger table takes longer than to truncate it."""

_TABLES = """
SELECT quote_ident(tablename),
       pg_relation_size(quote_ident(tablename)::regclass) AS bytes
  FROM pg_tables
 WHERE schemaname = 'public' AND tablename <> ALL(%s)
"""


def empty(database: str, **_options: Any) -> None:
    """Delete all rows of `database` (an alias) but those that `migrate` made.

    The constraints are checked when the transaction ends, so the order of tables does not matter.
    """
    connection = connections[database]
    with connection.cursor() as cursor:
        cursor.execute(_TABLES, [list(KEPT)])
        tables = cursor.fetchall()
        large = [name for name, size in tables if size > LARGE]
        statements = [f"DELETE FROM {name}" for name, size in tables if 0 < size <= LARGE]
        if large:
            statements.append(f"TRUNCATE {', '.join(large)} CASCADE")
        if statements:
            cursor.execute(f"BEGIN; {'; '.join(statements)}; COMMIT")
