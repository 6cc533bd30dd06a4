"""Stand beside another application: its tables in `public`, all others in `CASCADE_SCHEMA`.

The role of the application finds both by its `search_path`, which is a setting of the role in the
database: it also holds behind a pooler in transaction mode. A wrong path is dangerous. Tables of
ours would stand where the other application's tool deletes what it does not know, or a second table
`users` would hide the real one. So nothing starts with a wrong path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from psycopg import sql

PUBLIC = "public"
SHARED_TABLES = ("builder_groups", "users")
"""The tables of the other application that this one reads and writes."""
SHARED_MODELS = ("buildergroup", "builderuser")
"""The names of their models, in the app `users`."""

_LOOK = """
SELECT current_schemas(false)::text[],
    ARRAY(
        SELECT name FROM unnest(%(tables)s::text[]) AS name
        WHERE CASE WHEN %(schema)s = ANY(current_schemas(false))
            THEN to_regclass(format('%%I.%%I', %(schema)s::text, name)) IS NOT NULL END
    ),
    ARRAY(
        SELECT name FROM unnest(%(tables)s::text[]) AS name
        WHERE to_regclass(format('public.%%I', name)) IS NULL
            OR to_regclass(format('%%I', name)) <> to_regclass(format('public.%%I', name))
    )
"""


class SharedTables:
    """Keep migrations away from the shared tables: `adopt_database` changes them instead."""

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        """Refuse operations on the shared models, unless all tables are ours."""
        if settings.CASCADE_SCHEMA and app_label == "users" and model_name in SHARED_MODELS:
            return False
        return None


def set_search_path(role: str, database: str) -> str:
    """Return the statement that gives the role of the application its search path."""
    statement = sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}, public").format(
        sql.Identifier(role), sql.Identifier(database), sql.Identifier(settings.CASCADE_SCHEMA)
    )
    return statement.as_string()


def problem(cursor: Any) -> str:
    """Say why the application must not work through this connection; "" if it may."""
    schema = settings.CASCADE_SCHEMA
    cursor.execute(_LOOK, {"schema": schema, "tables": list(SHARED_TABLES)})
    path, shadows, elsewhere = cursor.fetchone()
    if path != [schema, PUBLIC]:
        return (
            f"CASCADE_SCHEMA is {schema}, so the search path must be exactly {schema}, public. "
            f"It is {_listed(path)}. Run manage.py adopt_database: its plan says what the owner "
            "of the database must run."
        )
    if shadows:
        return (
            f"The schema {schema} must not have tables that are named as those of the other "
            f"application: {_listed(shadows)}. Nobody would see the real ones. Look at them, then "
            "drop or rename them."
        )
    if elsewhere:
        return f"The tables {_listed(elsewhere)} are not found in the schema public."
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "empty"


def refuse(cursor: Any) -> None:
    """Raise `ImproperlyConfigured` if the application must not work through this connection."""
    if why := problem(cursor):
        raise ImproperlyConfigured(why)
