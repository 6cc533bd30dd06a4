"""Read what stands in the database: the shared tables, our schema, and the role that we work as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from django.apps import apps
from django.conf import settings
from django.db.migrations.loader import MigrationLoader
from psycopg import sql

from cascade.database.schemas import PUBLIC, SHARED_TABLES
from users.models import ListEntry
from users.sync.mirror import listing

UPDATED_AT = "users_updated_at"
"""The trigger that keeps `updated_at`."""
TOUCH = "users_set_updated_at"
"""Its function, in our schema."""


@dataclass(frozen=True)
class Column:
    """A column of a shared table."""

    type: str
    nullable: bool
    has_default: bool


@dataclass(frozen=True)
class Table:
    """A shared table as it stands."""

    is_table: bool
    owned: bool
    """Whether the role that changes the tables owns it."""
    hides_rows: bool
    """Whether row security applies to the role of the application."""
    columns: Mapping[str, Column]
    key: Sequence[str]
    """The columns of the primary key."""


@dataclass(frozen=True)
class Index:
    """An index of the table `users`."""

    definition: str
    valid: bool


@dataclass(frozen=True)
class Trigrams:
    """What the search for parts of words stands on: the extension `pg_trgm`, and an index."""

    extension_schema: str | None
    """Where the extension stands; None if it is not there."""
    available: bool
    """Whether the server has the files of the extension."""
    creatable: bool
    """Whether the owner may create it."""
    usable: bool
    """Whether the role of the application may use the schema of the extension."""
    has_list: bool
    """Whether the table of the index is there."""
    index_valid: bool | None
    """None without the index; false while it is not finished."""


@dataclass(frozen=True)
class Catalog:
    """What stands in the database. `role` is the application's, `owner` changes the tables."""

    schema: str
    database: str
    version: int
    role: str
    owner: str
    has_schema: bool
    may_create_schema: bool
    may_create_in_schema: bool
    search_path: Sequence[str]
    """Of the connection that was read. Behind a pooler it may be older than the next one."""
    stored_path: Sequence[str]
    """What the role has in this database. New connections get it."""
    tables: Mapping[str, Table]
    shadows: Sequence[str]
    ours_in_public: Sequence[str]
    """Tables that are named as ours, in the schema of the other application."""
    roles: Sequence[str] | None
    """The labels of the type of `users.role`; None if it is not an enum."""
    indexes: Mapping[str, Index]
    constraints: Mapping[str, bool]
    """The constraints of `users`, and whether each is validated."""
    trigger_body: str | None
    """The body of the function that the trigger calls; None without the trigger."""
    list_triggers: frozenset[tuple[str, str]]
    """The table and the name of each trigger that keeps the list of users, if it is enabled."""
    referring: Sequence[str]
    """Other tables with a foreign key to a shared table, quoted and with their schema."""
    lacking: Sequence[str]
    """GRANT statements for what the role of the application may not do yet."""
    unapplied: int
    """Migrations that are not recorded in our schema."""
    trigrams: Trigrams

    @property
    def quoted_role(self) -> str:
        """The role of the application, as SQL names it."""
        return sql.Identifier(self.role).as_string()


class Cursor(Protocol):
    """What the cursors of psycopg and of Django have in common."""

    def execute(self, query: str, values: Any = None, /) -> object:
        """Run a statement."""

    def fetchone(self) -> Any:
        """Return the next row."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""


def our_tables() -> list[str]:
    """List the tables that our migrations make, apart from the shared ones."""
    made = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    return sorted((made | {"django_migrations"}) - set(SHARED_TABLES))


def read(owner: Cursor, application: Cursor) -> Catalog:
    """Read the catalogue through a cursor of the owner and one of the application."""
    schema = settings.CASCADE_SCHEMA
    application.execute(_APPLICATION)
    role, database, version, search_path, stored_path = application.fetchone()
    owner.execute(_SCHEMA, {"schema": schema})
    owner_role, has_schema, may_create_schema, may_create_in = owner.fetchone()
    names = {"schema": schema, "shared": list(SHARED_TABLES), "ours": our_tables()}
    referring = _column(owner, _REFERRING, names)
    return Catalog(
        schema=schema,
        database=database,
        version=version // 10_000,
        role=role,
        owner=owner_role,
        has_schema=has_schema,
        may_create_schema=may_create_schema,
        may_create_in_schema=may_create_in,
        search_path=_schemas_of(search_path),
        stored_path=_schemas_of(stored_path),
        tables=_tables(owner, role),
        shadows=_column(owner, _IN_SCHEMA, {"schema": schema, "names": list(SHARED_TABLES)}),
        ours_in_public=_column(owner, _IN_SCHEMA, {"schema": PUBLIC, "names": names["ours"]}),
        roles=_column(owner, _ROLES, {}) or None,
        indexes={name: Index(*rest) for name, *rest in _rows(owner, _INDEXES, {})},
        constraints=dict(_rows(owner, _CONSTRAINTS, {})),
        trigger_body=next(iter(_column(owner, _TRIGGER, {"name": UPDATED_AT})), None),
        list_triggers=frozenset((table, name) for table, name in _rows(owner, _LIST_TRIGGERS, {})),
        referring=referring,
        lacking=_lacking(owner, schema if has_schema else "", role, referring),
        unapplied=_unapplied(application, schema),
        trigrams=_trigrams(owner, schema, role),
    )


_APPLICATION = """
SELECT current_user, current_database(), current_setting('server_version_num')::int,
    (SELECT setting FROM pg_settings WHERE name = 'search_path'),
    coalesce((
        SELECT substr(setting, length('search_path=') + 1)
        FROM pg_db_role_setting, unnest(setconfig) AS setting
        WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)
            AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND setting LIKE 'search_path=%'
    ), '')
"""
_SCHEMA = """
SELECT current_user, to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL,
    has_database_privilege(current_database(), 'CREATE'),
    coalesce(has_schema_privilege(to_regnamespace(quote_ident(%(schema)s))::oid, 'CREATE'), true)
"""
_TABLES = """
SELECT relname, relkind IN ('r', 'p'), pg_has_role(relowner, 'USAGE'),
    relrowsecurity AND NOT pg_has_role(%(role)s, relowner, 'USAGE')
        AND NOT (SELECT rolbypassrls FROM pg_roles WHERE rolname = %(role)s),
    ARRAY(
        SELECT attname::text FROM pg_index
            JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
        WHERE indrelid = pg_class.oid AND indisprimary
    )
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%(tables)s)
    AND relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_COLUMNS = """
SELECT relname, attname, format_type(atttypid, atttypmod),
    NOT attnotnull, atthasdef OR attidentity <> ''
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)
    AND attnum > 0 AND NOT attisdropped
"""
_IN_SCHEMA = """
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %(schema)s AND relname = ANY(%(names)s) AND relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY relname
"""
_ROLES = """
SELECT enumlabel FROM pg_enum JOIN pg_attribute ON atttypid = enumtypid
WHERE attrelid = to_regclass('public.users') AND attname = 'role' ORDER BY enumsortorder
"""
_INDEXES = """
SELECT relname, pg_get_indexdef(indexrelid), indisvalid
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = to_regclass('public.users')
"""
_CONSTRAINTS = """
SELECT conname, convalidated FROM pg_constraint WHERE conrelid = to_regclass('public.users')
"""
_LIST_TRIGGERS = """
SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = 'public'::regnamespace AND tgname LIKE 'users\\_list\\_%%'
    AND tgenabled IN ('O', 'A')
"""
_TRIGGER = """
SELECT prosrc FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgrelid = to_regclass('public.users') AND tgname = %(name)s AND tgenabled = 'O'
"""
_REFERRING = """
SELECT DISTINCT format('%%I.%%I', nspname, relname)
FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE contype = 'f' AND confrelid IN (
        SELECT to_regclass(format('public.%%I', name)) FROM unnest(%(shared)s::text[]) AS name
    )
    AND nspname <> %(schema)s AND NOT (nspname = 'public' AND relname = ANY(%(shared)s))
ORDER BY 1
"""
_TRIGRAMS = """
WITH extension AS (
    SELECT extnamespace FROM pg_extension WHERE extname = 'pg_trgm'
), file AS (
    SELECT superuser, trusted FROM pg_available_extensions
        JOIN pg_available_extension_versions AS one USING (name)
    WHERE name = 'pg_trgm' AND one.version = default_version
)
SELECT (SELECT extnamespace::regnamespace::text FROM extension), EXISTS (SELECT FROM file),
    EXISTS (
        SELECT FROM file WHERE NOT superuser
            OR trusted AND has_database_privilege(current_database(), 'CREATE')
            OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
    ),
    EXISTS (SELECT FROM extension WHERE has_schema_privilege(%(role)s, extnamespace, 'USAGE')),
    EXISTS (
        SELECT FROM pg_class WHERE relname = %(table)s
            AND relnamespace = to_regnamespace(quote_ident(%(schema)s))
    ),
    (
        SELECT indisvalid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE relname = %(index)s AND relnamespace = to_regnamespace(quote_ident(%(schema)s))
    )
"""
_MAY = """
SELECT has_schema_privilege(%(role)s, 'public', 'USAGE'),
    %(schema)s <> '' AND has_schema_privilege(%(role)s, nullif(%(schema)s, ''), 'USAGE')
        AND has_schema_privilege(%(role)s, nullif(%(schema)s, ''), 'CREATE')
"""
_HAS_JOURNAL = """
SELECT CASE WHEN has_schema_privilege(to_regnamespace(quote_ident(%(schema)s))::oid, 'USAGE')
    THEN to_regclass(format('%%I.django_migrations', %(schema)s::text)) IS NOT NULL END
"""
_TABLE_PRIVILEGE = """
SELECT bool_and(has_table_privilege(%(role)s, to_regclass(%(table)s)::oid, privilege))
FROM unnest(%(privileges)s::text[]) AS privilege
"""


def _schemas_of(search_path: str) -> list[str]:
    return [part.strip().strip('"') for part in search_path.split(",")]


def _rows(cursor: Cursor, query: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
    cursor.execute(query, values)
    return list(cursor.fetchall())


def _column(cursor: Cursor, query: str, values: Mapping[str, object]) -> list[str]:
    return [value for (value,) in _rows(cursor, query, values)]


def _tables(cursor: Cursor, role: str) -> dict[str, Table]:
    columns: dict[str, dict[str, Column]] = {name: {} for name in SHARED_TABLES}
    cursor.execute(_COLUMNS, [list(SHARED_TABLES)])
    for table, name, *column in cursor.fetchall():
        columns[table][name] = Column(*column)
    found = _rows(cursor, _TABLES, {"role": role, "tables": list(SHARED_TABLES)})
    return {
        name: Table(is_table, owned, hides_rows, columns[name], key)
        for name, is_table, owned, hides_rows, key in found
    }


def _lacking(cursor: Cursor, schema: str, role: str, referring: Sequence[str]) -> list[str]:
    """Return a GRANT for each privilege that the role of the application lacks."""
    quoted_role = sql.Identifier(role).as_string()
    cursor.execute(_MAY, {"role": role, "schema": schema})
    uses_public, uses_ours = cursor.fetchone()
    grants = [] if uses_public else [f"GRANT USAGE ON SCHEMA public TO {quoted_role}"]
    if not uses_ours:
        grants.append(f"GRANT USAGE, CREATE ON SCHEMA {settings.CASCADE_SCHEMA} TO {quoted_role}")
    wanted = [(f"public.{name}", "SELECT, INSERT, UPDATE, DELETE") for name in SHARED_TABLES]
    wanted += [(name, "SELECT") for name in referring]
    for table, privileges in wanted:
        values = {"role": role, "table": table, "privileges": privileges.split(", ")}
        cursor.execute(_TABLE_PRIVILEGE, values)
        if cursor.fetchone()[0] is False:
            grants.append(f"GRANT {privileges} ON {table} TO {quoted_role}")
    return grants


def _trigrams(owner: Cursor, schema: str, role: str) -> Trigrams:
    table, index = ListEntry._meta.db_table, listing.SEARCH_INDEX
    owner.execute(_TRIGRAMS, {"schema": schema, "role": role, "table": table, "index": index})
    return Trigrams(*owner.fetchone())


def _unapplied(application: Cursor, schema: str) -> int:
    """Count the migrations that are not recorded as applied in our schema."""
    known = set(MigrationLoader(None).disk_migrations)
    application.execute(_HAS_JOURNAL, {"schema": schema})
    if application.fetchone()[0]:
        application.execute(f"SELECT app, name FROM {schema}.django_migrations")
        known -= set(application.fetchall())
    return len(known)
