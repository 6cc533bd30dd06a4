"""Read what stands in the database: the shared tables, our schema, and the role that we work as."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    """False also if the type is a domain that refuses NULL."""
    has_default: bool
    generated: bool


@dataclass(frozen=True)
class Table:
    """A shared table as it stands."""

    is_table: bool
    """Whether it is an ordinary one, not a view and not partitioned."""
    owned: bool
    """Whether the role that changes the tables owns it."""
    columns: Mapping[str, Column]
    key: Sequence[str]
    """The columns of the primary key."""
    relatives: Sequence[str]
    """Tables that it inherits from, or that inherit from it."""
    rules: Sequence[str]
    """Rules that rewrite statements which change it."""
    row_type_uses: Sequence[str]
    """What keeps PostgreSQL from adding a column: the type of the table, or columns of its type."""


@dataclass(frozen=True)
class Index:
    """An index of the table `users`."""

    definition: str
    valid: bool
    """Whether it is finished."""
    immediate: bool
    """Whether it checks each row at once, not at the commit."""


@dataclass(frozen=True)
class Trigger:
    """A trigger on a shared table that PostgreSQL did not make itself."""

    table: str
    name: str
    enabled: bool
    ours: bool
    """Whether its function stands in our schema."""
    function: str
    body: str
    definition: str


@dataclass(frozen=True)
class Constraint:
    """A constraint of the table `users`."""

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
    same_database: bool
    """Whether both addresses lead to one database of one server."""
    encoding: str
    version: int
    role: str
    owner: str
    has_schema: bool
    may_create_schema: bool
    may_create_in_schema: bool
    may_create_in_public: bool
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
    other_relations: Collection[str]
    """The names of all relations in `public` that are not indexes of `users`."""
    constraints: Mapping[str, Constraint]
    """The constraints of `users`."""
    triggers: Sequence[Trigger]
    hidden: Sequence[tuple[str, str]]
    """A role, and a table of which row security may hide rows from it."""
    lacking: Sequence[str]
    """GRANT statements for what the role of the application may not do yet."""
    beyond_owner: Sequence[str]
    """Those that the owner of the tables may not run."""
    list_functions: Sequence[str]
    """Functions of ours that triggers of the owner call, and that the owner may not."""
    unapplied: int
    """Migrations that are not recorded in our schema."""
    trigrams: Trigrams

    @property
    def quoted_role(self) -> str:
        """The role of the application, as SQL names it."""
        return sql.Identifier(self.role).as_string()

    @property
    def quoted_owner(self) -> str:
        """The role that changes the tables, as SQL names it."""
        return sql.Identifier(self.owner).as_string()

    def trigger(self, table: str, name: str) -> Trigger | None:
        """Return the trigger of this name on the table, or None."""
        return next((one for one in self.triggers if (one.table, one.name) == (table, name)), None)


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
    role, database, server, encoding, version, search_path, stored_path = application.fetchone()
    owner.execute(_SCHEMA, {"schema": schema})
    owner_role, where, has_schema, may_create_schema, may_create_in, in_public = owner.fetchone()
    names = {"schema": schema, "shared": list(SHARED_TABLES), "ours": our_tables()}
    referring = _rows(owner, _REFERRING, names)
    lacking = list(_lacking(owner, schema if has_schema else "", role, referring))
    known = {
        "role": role,
        "shared": names["shared"],
        "referring": [oid for _, oid, _, _ in referring],
    }
    return Catalog(
        schema=schema,
        database=database,
        same_database=where == server,
        encoding=encoding,
        version=version // 10_000,
        role=role,
        owner=owner_role,
        has_schema=has_schema,
        may_create_schema=may_create_schema,
        may_create_in_schema=may_create_in,
        may_create_in_public=in_public,
        search_path=_schemas_of(search_path),
        stored_path=_schemas_of(stored_path),
        tables=_tables(owner),
        shadows=_column(owner, _IN_SCHEMA, {"schema": schema, "names": list(SHARED_TABLES)}),
        ours_in_public=_column(owner, _IN_SCHEMA, {"schema": PUBLIC, "names": names["ours"]}),
        roles=_column(owner, _ROLES, {}) or None,
        indexes={name: Index(*rest) for name, *rest in _rows(owner, _INDEXES, {})},
        other_relations=_column(owner, _RELATIONS, {}),
        constraints={name: Constraint(*rest) for name, *rest in _rows(owner, _CONSTRAINTS, {})},
        triggers=[Trigger(*row) for row in _rows(owner, _TRIGGERS, names)],
        hidden=_rows(owner, _HIDDEN, known),
        lacking=[statement for statement, _ in lacking],
        beyond_owner=[statement for statement, may_grant in lacking if not may_grant],
        list_functions=_column(owner, _LIST_FUNCTIONS, {"schema": schema}),
        unapplied=_unapplied(application, schema),
        trigrams=_trigrams(owner, schema, role),
    )


_APPLICATION = """
SELECT current_user, current_database(), current_database() || ' ' || pg_postmaster_start_time(),
    current_setting('server_encoding'), current_setting('server_version_num')::int,
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
SELECT current_user, current_database() || ' ' || pg_postmaster_start_time(),
    to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL,
    has_database_privilege(current_database(), 'CREATE'),
    coalesce(has_schema_privilege(to_regnamespace(quote_ident(%(schema)s))::oid, 'CREATE')
        AND has_schema_privilege(to_regnamespace(quote_ident(%(schema)s))::oid, 'USAGE'), true),
    has_schema_privilege('public', 'CREATE')
"""
_TABLES = """
SELECT relname, relkind = 'r', pg_has_role(relowner, 'USAGE'),
    ARRAY(
        SELECT attname::text FROM pg_index
            JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
        WHERE indrelid = pg_class.oid AND indisprimary
    ),
    ARRAY(
        SELECT (CASE inhrelid WHEN pg_class.oid THEN inhparent ELSE inhrelid END)::regclass::text
        FROM pg_inherits WHERE pg_class.oid IN (inhrelid, inhparent)
    ),
    ARRAY(SELECT rulename::text FROM pg_rewrite WHERE ev_class = pg_class.oid AND ev_type <> '1'),
    ARRAY(
        SELECT format_type(reloftype, NULL) WHERE reloftype <> 0
        UNION ALL
        SELECT format('%%s.%%I', attrelid::regclass, attname)
        FROM pg_attribute JOIN pg_class AS other ON other.oid = attrelid
            JOIN pg_type ON pg_class.reltype IN (pg_type.oid, typelem)
        WHERE atttypid = pg_type.oid AND pg_class.reltype <> 0
            AND attnum > 0 AND NOT attisdropped AND other.relkind IN ('r', 'p', 'm')
    )
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)
    AND relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_COLUMNS = """
SELECT relname, attname, format_type(atttypid, atttypmod),
    NOT attnotnull AND NOT typnotnull,
    atthasdef OR attidentity <> '' OR typdefault IS NOT NULL, attgenerated <> ''
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_type ON pg_type.oid = atttypid
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
SELECT relname, pg_get_indexdef(indexrelid), indisvalid, indimmediate
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = to_regclass('public.users')
"""
_RELATIONS = """
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND NOT EXISTS (
    SELECT FROM pg_index
    WHERE indexrelid = pg_class.oid AND indrelid = to_regclass('public.users')
)
"""
_CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid), convalidated
FROM pg_constraint WHERE conrelid = to_regclass('public.users')
"""
_TRIGGERS = """
SELECT relname, tgname, tgenabled IN ('O', 'A'),
    pronamespace IS NOT DISTINCT FROM to_regnamespace(quote_ident(%(schema)s)),
    format('%%I.%%I', nspname, proname), prosrc, pg_get_triggerdef(pg_trigger.oid)
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
    JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%(shared)s) AND NOT tgisinternal
ORDER BY relname, tgname
"""
_LIST_FUNCTIONS = """
SELECT oid::regprocedure::text FROM pg_proc
WHERE pronamespace = to_regnamespace(quote_ident(%(schema)s))
    AND proname IN ('users_list_user', 'users_list_group', 'users_refresh_list')
    AND NOT has_function_privilege(oid, 'EXECUTE')
ORDER BY 1
"""
_HIDDEN = """
SELECT rolname, format('%%I.%%I', nspname, relname)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace, pg_roles
WHERE relrowsecurity AND NOT rolsuper AND NOT rolbypassrls
    AND (relforcerowsecurity OR NOT pg_has_role(rolname, relowner, 'USAGE'))
    AND (
        nspname = 'public' AND relname = ANY(%(shared)s) AND rolname IN (%(role)s, current_user)
        OR pg_class.oid = ANY(%(referring)s::oid[]) AND rolname = %(role)s
    )
ORDER BY 2, 1
"""
_REFERRING = """
SELECT DISTINCT format('%%I.%%I', nspname, relname), conrelid, quote_ident(nspname), relnamespace
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
_HAS_JOURNAL = """
SELECT CASE WHEN has_schema_privilege(to_regnamespace(quote_ident(%(schema)s))::oid, 'USAGE')
    THEN to_regclass(format('%%I.django_migrations', %(schema)s::text)) IS NOT NULL END
"""
_PRIVILEGES = """
SELECT bool_and(CASE WHEN %(schema)s
        THEN has_schema_privilege(%(role)s, %(oid)s::oid, privilege)
        ELSE has_table_privilege(%(role)s, %(oid)s::oid, privilege) END),
    bool_and(CASE WHEN %(schema)s
        THEN has_schema_privilege(%(oid)s::oid, privilege || ' WITH GRANT OPTION')
        ELSE has_table_privilege(%(oid)s::oid, privilege || ' WITH GRANT OPTION') END)
FROM unnest(%(privileges)s::text[]) AS privilege
"""
_OIDS = """
SELECT to_regnamespace('public')::oid, to_regnamespace(quote_ident(%(schema)s))::oid,
    ARRAY(
        SELECT to_regclass(format('public.%%I', name))::oid FROM unnest(%(shared)s::text[]) AS name
    )
"""


def _schemas_of(search_path: str) -> list[str]:
    return [part.strip().strip('"') for part in search_path.split(",")]


def _rows(cursor: Cursor, query: str, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
    cursor.execute(query, values)
    return list(cursor.fetchall())


def _column(cursor: Cursor, query: str, values: Mapping[str, object]) -> list[str]:
    return [value for (value,) in _rows(cursor, query, values)]


def _tables(cursor: Cursor) -> dict[str, Table]:
    columns: dict[str, dict[str, Column]] = {name: {} for name in SHARED_TABLES}
    cursor.execute(_COLUMNS, [list(SHARED_TABLES)])
    for table, name, *column in cursor.fetchall():
        columns[table][name] = Column(*column)
    cursor.execute(_TABLES, [list(SHARED_TABLES)])
    return {
        name: Table(is_table, owned, columns[name], key, relatives, rules, uses)
        for name, is_table, owned, key, relatives, rules, uses in cursor.fetchall()
    }


def _lacking(
    cursor: Cursor, schema: str, role: str, referring: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[str, bool]]:
    """Yield a GRANT for each privilege that the application lacks, and whether the owner may."""
    quoted_role = sql.Identifier(role).as_string()
    cursor.execute(_OIDS, {"schema": schema, "shared": list(SHARED_TABLES)})
    public, ours, shared = cursor.fetchone()
    wanted = [("SCHEMA ", PUBLIC, public, "USAGE")]
    wanted += [("SCHEMA ", settings.CASCADE_SCHEMA, ours, "USAGE, CREATE")]
    wanted += [
        ("", f"public.{name}", oid, "SELECT, INSERT, UPDATE, DELETE")
        for name, oid in zip(SHARED_TABLES, shared, strict=True)
    ]
    others = {name: oid for _, _, name, oid in referring if name != PUBLIC}
    wanted += [("SCHEMA ", name, oid, "USAGE") for name, oid in sorted(others.items())]
    wanted += [("", name, oid, "SELECT") for name, oid, _, _ in referring]
    for kind, name, oid, privileges in wanted:
        values = {"schema": bool(kind), "role": role, "oid": oid,
                  "privileges": privileges.split(", ")}  # fmt: skip
        cursor.execute(_PRIVILEGES, values)
        has_all, may_grant = cursor.fetchone()
        if not has_all:  # also if our schema is not there yet, which the owner makes
            yield f"GRANT {privileges} ON {kind}{name} TO {quoted_role}", may_grant is not False


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
