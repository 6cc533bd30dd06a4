"""Say what makes the adoption impossible. Each obstacle is a sentence that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import inf

from cascade.database.schemas import PUBLIC, SHARED_TABLES, set_search_path
from users.models import InternalRole, Role
from users.sync.adoption.catalog import UPDATED_AT, Catalog
from users.sync.adoption.plan import INDEXES, NOT_EMPTY, NOT_EMPTY_CHECK, plain
from users.sync.mirror import listing
from users.validation import EMAIL_LENGTH, NAME_LENGTH

OLDEST_POSTGRESQL = 14
CLERK_ID_LENGTH = 32
NEEDED = {
    "builder_groups": {"id": "uuid", "name": "", "email": "", "enrollment_slug": "",
                       "created_at": "timestamp"},
    "users": {"id": "uuid", "clerk_id": "", "name": "", "email": "", "role": "",
              "internal_role": "", "builder_group_id": "uuid", "created_at": "timestamp"},
}  # fmt: skip
"""The columns that must be there, and how their type must begin; "" for any text."""
TEXT = ("text", "character varying", "citext")
LONGEST = {
    ("builder_groups", "name"): NAME_LENGTH,
    ("builder_groups", "email"): EMAIL_LENGTH,
    ("users", "clerk_id"): CLERK_ID_LENGTH,
    ("users", "name"): NAME_LENGTH,
    ("users", "email"): EMAIL_LENGTH,
    ("users", "role"): max(map(len, Role.values)),
    ("users", "internal_role"): max(map(len, InternalRole.values)),
}
"""The characters of the longest value that the application stores."""
NEVER_NULL = {("builder_groups", "name"), ("users", "name"), ("users", "email")}
"""The columns without which nobody could say whom or what a row stands for."""
ADDED = "updated_at"
"""The plan adds this column to `users`."""


def by_hand(catalog: Catalog) -> list[str]:
    """List the statements that somebody with more rights must run before `--apply`.

    The owner of the tables may lack rights over the role, or over tables and schemas of others.
    """
    statements = [*catalog.beyond_owner]
    if not catalog.may_create_in_public:
        statements.append(f"GRANT CREATE ON SCHEMA {PUBLIC} TO {catalog.quoted_owner}")
    if [catalog.schema, PUBLIC] not in (catalog.search_path, catalog.stored_path):
        statements.append(set_search_path(catalog.role, catalog.database))
    return statements


def find(catalog: Catalog) -> list[str]:
    """List what is in the way of the adoption."""
    if catalog.version < OLDEST_POSTGRESQL:
        return [f"PostgreSQL {catalog.version} is too old: {OLDEST_POSTGRESQL} is needed."]
    if not catalog.same_database:
        return [
            "The address of the owner leads to another database than DATABASE_URL. Both must lead "
            "to the same database of the same server."
        ]
    if catalog.encoding != "UTF8":
        return [f"The database has the encoding {catalog.encoding}, and UTF8 is needed."]
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
            yield f"public.{name} is no ordinary table: it is a view, foreign or partitioned."
        elif not table.owned:
            yield (
                f"The role {catalog.owner} does not own public.{name}. Give the URL of its owner "
                "with --owner-url, or in CASCADE_OWNER_URL."
            )
        elif table.relatives:
            listed = ", ".join(table.relatives)
            yield (
                f"public.{name} shares its rows by inheritance with {listed}. Changes of those "
                "would not reach the list, and an email could be there twice."
            )
        for rule in table.rules:
            yield (
                f"public.{name} has the rule {rule}, which rewrites statements. Nobody could say "
                "whether a change was stored. Make it a trigger, or drop it."
            )
    users = catalog.tables["users"]
    if users.row_type_uses and ADDED not in users.columns:
        yield (
            "No column can be added to public.users, because its row type belongs to "
            f"{', '.join(users.row_type_uses)}."
        )
    for role, name in catalog.hidden:
        yield (
            f"Row security may hide rows of {name} from the role {role}. Give that role the "
            "attribute BYPASSRLS."
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
        yield (
            f"The role {catalog.owner} may not use the schema {catalog.schema}, or not create a "
            f"function in it: GRANT USAGE, CREATE ON SCHEMA {catalog.schema} TO "
            f"{catalog.quoted_owner}."
        )
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
    added = catalog.tables["users"].columns.get(ADDED)
    if added is not None:
        yield from _of_column(catalog, "users", ADDED, "timestamp")


def _of_column(catalog: Catalog, table: str, column: str, kind: str) -> Iterator[str]:
    found = catalog.tables[table].columns.get(column)
    if found is None:
        yield f"public.{table} has no column {column}."
    elif found.generated:
        yield f"public.{table}.{column} is generated, so nobody can change it."
    elif found.nullable and (table, column) in NEVER_NULL:
        yield (
            f"public.{table}.{column} accepts NULL. Give the rows without one a text, an empty one "
            f"perhaps, then ALTER TABLE public.{table} ALTER {column} SET NOT NULL."
        )
    elif kind and not found.type.startswith(kind):
        yield f"public.{table}.{column} has the type {found.type} and not {kind}."
    elif (table, column) == ("users", "role") and catalog.roles is not None:
        lacking = [role for role in Role.values if role not in catalog.roles]
        if lacking:
            yield f"The type of public.users.role lacks {', '.join(lacking)}."
    elif not kind and not found.type.startswith(TEXT):
        yield f"public.{table}.{column} has the type {found.type} and not a type of text."
    elif (longest := LONGEST.get((table, column))) and _length(found.type) < longest:
        yield (
            f"public.{table}.{column} has the type {found.type}; values of {longest} characters "
            f"must fit: ALTER TABLE public.{table} ALTER {column} TYPE text."
        )


def _length(type_name: str) -> float:
    """Return how many characters a type of text holds."""
    found = re.search(r"\((\d+)\)", type_name)
    return int(found[1]) if found else inf


def _of_names(catalog: Catalog) -> Iterator[str]:
    for name, definition in INDEXES.items():
        index = catalog.indexes.get(name)
        if index is not None and plain(index.definition) != plain(definition):
            yield f"public.users has another index named {name}: {index.definition}"
        elif name in catalog.other_relations:
            yield f"The schema public has something else named {name}. Rename it."
    constraint = catalog.constraints.get(NOT_EMPTY)
    if constraint is not None and NOT_EMPTY_CHECK not in plain(constraint.definition):
        yield f"public.users has another constraint named {NOT_EMPTY}: {constraint.definition}"
    ours = {("users", UPDATED_AT), *((one.table, one.name) for one in listing.TRIGGERS)}
    for trigger in catalog.triggers:
        if not trigger.ours and (trigger.table, trigger.name) in ours:
            yield (
                f"public.{trigger.table} has another trigger named {trigger.name}, which calls "
                f"{trigger.function}. Rename it."
            )
    for name, index in catalog.indexes.items():
        if index.definition.endswith("(clerk_id) NULLS NOT DISTINCT"):
            yield (
                f"The index {name} lets only one user have no Clerk id. Make it again without "
                "NULLS NOT DISTINCT."
            )
