"""List the statements that are still missing, in their order. An empty plan: all is done."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby

from psycopg import sql

from users.models import ListEntry
from users.sync.adoption.catalog import TOUCH, UPDATED_AT, Catalog
from users.sync.adoption.findings import PASSWORDS, TWINS
from users.sync.mirror import listing

LOT = 1000
"""Rows whose password one statement empties."""
NOT_EMPTY = "users_clerk_id_not_empty"
NOT_EMPTY_CHECK = "clerk_id <> ''"
EMAIL_UNIQUE = "users_email_lower_unique"
EMAIL_PLAIN = "users_email_lower"
CLERK_ID_UNIQUE = "users_clerk_id_key"
_ON = "ON public.users USING btree"
INDEXES = {
    EMAIL_UNIQUE: f"CREATE UNIQUE INDEX {EMAIL_UNIQUE} {_ON} (lower(email))",
    EMAIL_PLAIN: f"CREATE INDEX {EMAIL_PLAIN} {_ON} (lower(email))",
    CLERK_ID_UNIQUE: f"CREATE UNIQUE INDEX {CLERK_ID_UNIQUE} {_ON} (clerk_id)",
    "users_created_at": f"CREATE INDEX users_created_at {_ON} (created_at DESC, id)",
    "users_name_lower": f"CREATE INDEX users_name_lower {_ON} (lower(name))",
    "users_builder_group": f"CREATE INDEX users_builder_group {_ON} (builder_group_id)",
}
"""The indexes that we may add to the table of the other application."""
_CHANGED = {
    "INSERT": "NEW TABLE AS new_rows",
    "UPDATE": "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "DELETE": "OLD TABLE AS old_rows",
}
BEGINNINGS = "The search finds only the beginnings of words"
ALWAYS = ("users_created_at", "users_name_lower", "users_builder_group")


@dataclass(frozen=True)
class Step:
    """Statements of the plan.

    Those of one step are one transaction. `concurrently`: the statement cannot be in a transaction,
    and does not keep others from writing. `repeated`: it is executed until it finds no row.
    `ours`: the role of the application executes it, because it owns the table.
    `optional`: the application also works without it, if the database refuses it.
    `migrates`: the step is not SQL of ours but `migrate`.
    """

    title: str
    statements: tuple[str, ...]
    concurrently: bool = False
    repeated: bool = False
    ours: bool = False
    optional: bool = False
    migrates: bool = False


@dataclass(frozen=True)
class Plan:
    """The steps to execute, and sentences about those that must wait for people.

    `notes` are sentences about what works less well here. Nothing has to be done about them.
    """

    steps: list[Step]
    waiting: list[str]
    notes: list[str]


def make(catalog: Catalog, *, kinds: Collection[str], clear_passwords: bool) -> Plan:
    """Make the plan. `kinds` are the kinds of findings that have rows."""
    steps = [
        *_schema(catalog),
        *_extension(catalog),
        *_column(catalog),
        *_clerk_id(catalog),
        *_indexes(catalog, kinds),
        *_trigger(catalog),
    ]
    if clear_passwords and PASSWORDS.name in kinds:
        steps.append(_passwords(catalog))
    if catalog.unapplied:
        title = f"Apply {catalog.unapplied} migrations in the schema {catalog.schema}"
        steps.append(Step(title, ("manage.py migrate",), migrates=True))
    steps += [*_list(catalog), *_search(catalog)]
    return Plan(steps, list(_waiting(catalog, kinds)), list(_notes(catalog)))


def plain(definition: str) -> str:
    """Return the definition of an index without what PostgreSQL adds for other types of text."""
    for added in ("::text", "(", ")"):
        definition = definition.replace(added, "")
    return definition


def _schema(catalog: Catalog) -> Iterator[Step]:
    if not catalog.has_schema:
        yield Step("Make the schema for all tables of ours", (f"CREATE SCHEMA {catalog.schema}",))
    if catalog.lacking:
        title = f"Let the role {catalog.role} do what it needs"
        yield Step(title, tuple(catalog.lacking))


def _extension(catalog: Catalog) -> Iterator[Step]:
    """Create the extension in our schema: the other application's stays as it was."""
    trigrams = catalog.trigrams
    if trigrams.extension_schema is None and trigrams.creatable:
        title = "Create the extension that the search for parts of words needs"
        yield Step(title, (_create_extension(catalog),), optional=True)


def _create_extension(catalog: Catalog) -> str:
    return f"CREATE EXTENSION pg_trgm SCHEMA {catalog.schema}"


def _column(catalog: Catalog) -> Iterator[Step]:
    if "updated_at" not in catalog.tables["users"].columns:
        yield Step(
            "Add the time of the last change",
            ("ALTER TABLE public.users ADD COLUMN updated_at timestamp DEFAULT now()",),
        )


def _clerk_id(catalog: Catalog) -> Iterator[Step]:
    if NOT_EMPTY not in catalog.constraints:
        yield Step(
            "Refuse an empty Clerk id",
            (
                f"ALTER TABLE public.users ADD CONSTRAINT {NOT_EMPTY} CHECK ({NOT_EMPTY_CHECK}) "
                "NOT VALID",
                "UPDATE public.users SET clerk_id = NULL WHERE clerk_id = ''",
            ),
        )
    if NOT_EMPTY not in catalog.constraints or not catalog.constraints[NOT_EMPTY].valid:
        statement = f"ALTER TABLE public.users VALIDATE CONSTRAINT {NOT_EMPTY}"
        yield Step("Check that no Clerk id is empty", (statement,))


def _indexes(catalog: Catalog, kinds: Collection[str]) -> Iterator[Step]:
    wanted = [*ALWAYS, EMAIL_PLAIN if TWINS in kinds else EMAIL_UNIQUE]
    if not _clerk_id_is_unique(catalog) and "duplicate_clerk_id" not in kinds:
        wanted.append(CLERK_ID_UNIQUE)
    # An index that was not finished refuses duplicates already, and no query uses it.
    unfinished = [
        name for name in INDEXES if name in catalog.indexes if not _finished(catalog, name)
    ]
    yield from (_drop(name, "Drop an index that was not finished") for name in unfinished)
    for name in wanted:
        if not _finished(catalog, name):
            statement = INDEXES[name].replace("INDEX", "INDEX CONCURRENTLY", 1)
            yield Step(f"Add the index {name}", (statement,), concurrently=True)
    if EMAIL_UNIQUE in wanted and _finished(catalog, EMAIL_PLAIN):
        yield _drop(EMAIL_PLAIN, "Drop the index that the unique one replaces")


def _finished(catalog: Catalog, name: str) -> bool:
    return name in catalog.indexes and catalog.indexes[name].valid


def _drop(name: str, title: str) -> Step:
    statement = f"DROP INDEX CONCURRENTLY IF EXISTS public.{name}"
    return Step(f"{title}: {name}", (statement,), concurrently=True)


def _clerk_id_is_unique(catalog: Catalog) -> bool:
    """Return whether a finished index makes the Clerk id unique, whatever its name is."""
    return any(
        index.valid
        and index.immediate
        and "UNIQUE" in index.definition
        and index.definition.endswith("(clerk_id)")
        for index in catalog.indexes.values()
    )


def _trigger(catalog: Catalog) -> Iterator[Step]:
    body = _body(catalog)
    # The operator compares stored bytes: some types of columns, such as json, cannot be compared
    # otherwise, and the statement of another application would fail.
    when = "" if _generated(catalog) else "WHEN (OLD.* *<> NEW.*) "
    made = catalog.trigger("users", UPDATED_AT)
    if made and made.enabled and made.body == body and ("*<>" in made.definition) == bool(when):
        return
    function = f"{catalog.schema}.{TOUCH}()"
    yield Step(
        "Keep the time of the last change",
        (
            f"CREATE OR REPLACE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS "
            f"$touch${body}$touch$",
            f"CREATE OR REPLACE TRIGGER {UPDATED_AT} BEFORE UPDATE ON public.users "
            f"FOR EACH ROW {when}EXECUTE FUNCTION {function}",
        ),
    )


def _generated(catalog: Catalog) -> list[str]:
    columns = catalog.tables["users"].columns
    return sorted(name for name, column in columns.items() if column.generated)


def _list(catalog: Catalog) -> Iterator[Step]:
    """Keep the list of users, after the migrations that make its functions."""
    refresh = f"SELECT {catalog.schema}.users_refresh_list(array_agg(id)) FROM public.users"
    # One table in each transaction: who holds one and waits for the other ends in a deadlock with
    # a client that does so the other way round.
    if catalog.list_functions:
        granted = ", ".join(catalog.list_functions)
        statement = f"GRANT EXECUTE ON FUNCTION {granted} TO {catalog.quoted_owner}"
        yield Step("Let the owner use the functions of the list", (statement,), ours=True)
    for table, grouped in groupby(listing.TRIGGERS, lambda one: one.table):
        triggers = list(grouped)
        made = [catalog.trigger(table, one.name) for one in triggers]
        if not all(one and one.enabled for one in made):
            statements = [
                f"CREATE OR REPLACE TRIGGER {one.name} AFTER {one.event} "
                f"ON public.{table} REFERENCING {_CHANGED[one.event]} FOR EACH STATEMENT "
                f"EXECUTE FUNCTION {catalog.schema}.{one.function}()"
                for one in triggers
            ]
            title = f"Keep the list of users when {table} changes"
            yield Step(title, (*statements, refresh))


def _search(catalog: Catalog) -> Iterator[Step]:
    """Make the index of the search where the migration could not."""
    trigrams, index = catalog.trigrams, f"{catalog.schema}.{listing.SEARCH_INDEX}"
    if not (trigrams.has_list and trigrams.usable):
        return
    if trigrams.index_valid is False:
        statement = f"DROP INDEX CONCURRENTLY IF EXISTS {index}"
        title = f"Drop an index that was not finished: {listing.SEARCH_INDEX}"
        yield Step(title, (statement,), concurrently=True, ours=True)
    if not trigrams.index_valid:
        statement = (
            f"CREATE INDEX CONCURRENTLY {listing.SEARCH_INDEX} "
            f"ON {catalog.schema}.{ListEntry._meta.db_table} "
            f"USING gin (search {trigrams.extension_schema}.gin_trgm_ops)"
        )
        yield Step("Index the list for parts of words", (statement,), concurrently=True, ours=True)


def _body(catalog: Catalog) -> str:
    """Return the body of the trigger's function, as the migration of a fresh installation has it.

    A column without a time zone holds UTC. A statement that sets the time keeps its value.
    """
    column = catalog.tables["users"].columns.get("updated_at")
    with_zone = column is not None and column.type.endswith("with time zone")
    now = "clock_timestamp()" if with_zone else "timezone('utc', clock_timestamp())"
    changed = "NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at"
    if generated := _generated(catalog):
        # A condition of the trigger may not read them, and they are computed after it.
        names = f"ARRAY[{', '.join(sql.Literal(name).as_string() for name in generated)}]::text[]"
        changed += f"\n        AND to_jsonb(NEW) - {names} IS DISTINCT FROM to_jsonb(OLD) - {names}"
    return f"""
BEGIN
    IF {changed} THEN
        NEW.updated_at := greatest({now}, OLD.updated_at + interval '1 microsecond');
    END IF;
    RETURN NEW;
END
"""


def _passwords(catalog: Catalog) -> Step:
    empty = "NULL" if catalog.tables["users"].columns["password"].nullable else "''"
    return Step(
        "Empty the passwords",
        (
            f"UPDATE public.users SET password = {empty} WHERE id IN (SELECT id FROM public.users "
            f"WHERE {PASSWORDS.condition} LIMIT {LOT} FOR NO KEY UPDATE SKIP LOCKED)",
        ),
        repeated=True,
    )


def _waiting(catalog: Catalog, kinds: Collection[str]) -> Iterator[str]:
    if TWINS in kinds:
        yield f"The unique index {EMAIL_UNIQUE} waits until no two rows share an email."
    if "duplicate_clerk_id" in kinds and not _clerk_id_is_unique(catalog):
        yield f"The unique index {CLERK_ID_UNIQUE} waits until no two rows share a Clerk id."


def _notes(catalog: Catalog) -> Iterator[str]:
    for trigger in catalog.triggers:
        if trigger.enabled and not trigger.ours:
            yield (
                f"public.{trigger.table} has the trigger {trigger.name}, which calls "
                f"{trigger.function}. It also runs when Cascade changes a row, as the role "
                f"{catalog.role}, which needs the rights for what it does."
            )
    yield from _notes_of_search(catalog)


def _notes_of_search(catalog: Catalog) -> Iterator[str]:
    trigrams = catalog.trigrams
    if trigrams.usable or (trigrams.extension_schema is None and trigrams.creatable):
        return
    if trigrams.extension_schema is not None:
        who = f"the role {catalog.role} may not use the extension pg_trgm"
        statement = f"GRANT USAGE ON SCHEMA {trigrams.extension_schema} TO {catalog.quoted_role}"
    elif trigrams.available:
        who = f"the role {catalog.owner} may not create the extension pg_trgm"
        statement = _create_extension(catalog)
    else:
        yield f"{BEGINNINGS}: the server does not have the extension pg_trgm."
        return
    yield (
        f"{BEGINNINGS}: {who}. Somebody who may can run this, after --apply: {statement}; "
        "then apply again."
    )
