"""Say what makes the adoption impossible. Each obstacle is a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator

from cascade.database.schemas import PUBLIC, SHARED_TABLES, set_search_path
from users.models import Role
from users.sync.adoption.catalog import Catalog
from users.sync.adoption.plan import INDEXES, plain

OLDEST_POSTGRESQL = 14
NEEDED = {
    "builder_groups": {"id": "uuid", "name": "", "email": "", "enrollment_slug": "",
                       "created_at": "timestamp"},
    "users": {"id": "uuid", "clerk_id": "", "name": "", "email": "", "role": "",
              "internal_role": "", "builder_group_id": "uuid", "created_at": "timestamp"},
}  # fmt: skip
"""The columns that must be there, and how their type must begin; "" for any text."""
TEXT = ("text", "character varying", "citext")
ADDED = "updated_at"
"""The plan adds this column to `users`."""


def by_hand(catalog: Catalog) -> list[str]:
    """List the statements that the owner of the role must run before `--apply`.

    A role needs rights over another role to run them, which the owner of the tables may lack.
    """
    if [catalog.schema, PUBLIC] in (catalog.search_path, catalog.stored_path):
        return []
    return [set_search_path(catalog.role, catalog.database)]


def find(catalog: Catalog) -> list[str]:
    """List what is in the way of the adoption."""
    if catalog.version < OLDEST_POSTGRESQL:
        return [f"PostgreSQL {catalog.version} is too old: {OLDEST_POSTGRESQL} is needed."]
    missing = [name for name in SHARED_TABLES if name not in catalog.tables]
    if missing:
        return [f"The schema public has no table {name}." for name in missing]
    return [
        *_of_connection(catalog),
        *_of_tables(catalog),
        *_of_schemas(catalog),
        *_of_columns(catalog),
        *_of_names(catalog),
    ]


def _of_connection(catalog: Catalog) -> Iterator[str]:
    right = [catalog.schema, PUBLIC]
    if catalog.stored_path == right != catalog.search_path:
        yield (
            f"The role {catalog.role} has the search path {catalog.schema}, public, but this "
            "connection of it does not. Either a pooler opened the connection earlier: run "
            "RECONNECT in the console of pgbouncer. Or DATABASE_URL sets another path: leave that "
            "out."
        )


def _of_tables(catalog: Catalog) -> Iterator[str]:
    for name, table in catalog.tables.items():
        if not table.is_table:
            yield f"public.{name} is not a table."
        elif not table.owned:
            yield (
                f"The role {catalog.owner} does not own public.{name}. Give the URL of its owner "
                "with --owner-url, or in CASCADE_OWNER_URL."
            )
        if table.hides_rows:
            yield (
                f"Row security may hide rows of public.{name} from the role {catalog.role}. Give "
                "that role the attribute BYPASSRLS."
            )


def _of_schemas(catalog: Catalog) -> Iterator[str]:
    for name in catalog.shadows:
        yield f"{catalog.schema}.{name} would hide public.{name}. Look at it, then drop it."
    if not catalog.has_schema and not catalog.may_create_schema:
        yield (
            f"The role {catalog.owner} may not create the schema {catalog.schema}. Create it for "
            "that role."
        )
    if not catalog.may_create_in_schema:
        yield f"The role {catalog.owner} may not create a function in schema {catalog.schema}."
    if catalog.unapplied and catalog.ours_in_public:
        listed = ", ".join(catalog.ours_in_public)
        yield (
            "The schema public has tables that are named as ours, perhaps of an earlier migrate: "
            f"{listed}. Drop them if they are, or adopt another database."
        )


def _of_columns(catalog: Catalog) -> Iterator[str]:
    for name, wanted in NEEDED.items():
        table = catalog.tables[name]
        for column, kind in wanted.items():
            yield from _of_column(catalog, name, column, kind)
        if list(table.key) != ["id"]:
            yield f"public.{name} has no primary key on id."
        yield from (
            f"public.{name}.{column} refuses NULL and has no default, so nothing can be inserted."
            for column, found in table.columns.items()
            if not (found.nullable or found.has_default or column in (*wanted, ADDED))
        )


def _of_column(catalog: Catalog, table: str, column: str, kind: str) -> Iterator[str]:
    found = catalog.tables[table].columns.get(column)
    if found is None:
        yield f"public.{table} has no column {column}."
    elif kind and not found.type.startswith(kind):
        yield f"public.{table}.{column} has the type {found.type} and not {kind}."
    elif (table, column) == ("users", "role") and catalog.roles is not None:
        lacking = [role for role in Role.values if role not in catalog.roles]
        if lacking:
            yield f"The type of public.users.role lacks {', '.join(lacking)}."
    elif not kind and not found.type.startswith(TEXT):
        yield f"public.{table}.{column} has the type {found.type} and not a type of text."


def _of_names(catalog: Catalog) -> Iterator[str]:
    for name, definition in INDEXES.items():
        index = catalog.indexes.get(name)
        if index is not None and plain(index.definition) != plain(definition):
            yield f"public.users has another index named {name}: {index.definition}"
