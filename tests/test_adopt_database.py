"""The application moves onto the live tables of another one, which goes on writing them."""

from __future__ import annotations

import os
import random
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from tests.support.adopted import (
    APPLICATION,
    OWNER,
    ROWS,
    SCHEMA,
    Original,
    copy_of_adopted,
    original,
)
from tests.support.databases import url_of
from tests.support.documents import read_document
from tests.support.patience import wait_until
from tests.support.pgbouncer import CONSOLE, pooling
from tests.support.react import React, read
from users.sync.adoption.run import KEY

pytestmark = pytest.mark.django_db

KILLS = int(os.environ.get("ADOPTION_KILLS", "3"))
"""The long form: 20 kills."""

ROOT = Path(__file__).parents[1]
STEPS = 14
"""As many as a plan has."""
CATALOGUE = """
SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable
    || ' ' || coalesce(column_default, '')
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'trigger ' || pg_get_triggerdef(pg_trigger.oid)
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE NOT tgisinternal AND relnamespace = 'public'::regnamespace
UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
"""
ADDED = {
    "column users.updated_at timestamp without time zone YES now()",
    "constraint users_clerk_id_not_empty CHECK ((clerk_id <> ''::text))",
    "index CREATE UNIQUE INDEX users_email_lower_unique ON public.users USING btree (lower(email))",
    "index CREATE INDEX users_created_at ON public.users USING btree (created_at DESC, id)",
    "index CREATE INDEX users_name_lower ON public.users USING btree (lower(name))",
    "index CREATE INDEX users_builder_group ON public.users USING btree (builder_group_id)",
    "trigger CREATE TRIGGER users_updated_at BEFORE UPDATE ON public.users FOR EACH ROW "
    "WHEN ((old.* *<> new.*)) EXECUTE FUNCTION cascade.users_set_updated_at()",
    "trigger CREATE TRIGGER users_list_insert AFTER INSERT ON public.users REFERENCING "
    "NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION cascade.users_list_user()",
    "trigger CREATE TRIGGER users_list_update AFTER UPDATE ON public.users REFERENCING OLD TABLE "
    "AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT "
    "EXECUTE FUNCTION cascade.users_list_user()",
    "trigger CREATE TRIGGER users_list_delete AFTER DELETE ON public.users REFERENCING "
    "OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION cascade.users_list_user()",
    "trigger CREATE TRIGGER users_list_update AFTER UPDATE ON public.builder_groups REFERENCING "
    "OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT "
    "EXECUTE FUNCTION cascade.users_list_group()",
}


@pytest.fixture
def live() -> Iterator[Original]:
    """The tables of the other application, with rows of every awkward kind."""
    with original(f"adoption_{uuid.uuid4().hex[:8]}", rows=ROWS) as database:
        yield database


@pytest.fixture
def adopted(adopted_template: str) -> Iterator[Original]:
    """The same, adopted already."""
    with copy_of_adopted(adopted_template) as database:
        yield database


@pytest.fixture
def prepared(live: Original) -> Original:
    live.prepare_role()
    return live


def catalogue(database: Original) -> set[str]:
    with database.react() as client:
        return {line for (line,) in client.execute(CATALOGUE)}


def times(database: Original) -> list[tuple]:
    with database.react() as client:
        return client.execute("SELECT id, updated_at FROM users ORDER BY id").fetchall()


def waits_for_a_table(database: Original) -> bool:
    with database.everything() as server:
        waiting = server.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
            [database.name],
        ).fetchone()
    return waiting != (0,)


def go_back(database: Original) -> None:
    """Run what docs/adopting.md says under "The way back"."""
    _, _, rest = (ROOT / "docs" / "adopting.md").read_text().partition("\n## The way back\n")
    section, _, _ = rest.partition("\n## ")
    [statements] = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    with database.react() as owner, database.everything() as server:
        for statement in statements.replace('"app"', f'"{database.name}"').splitlines():
            client = server if statement.startswith("ALTER ROLE") else owner
            client.execute(statement)


@pytest.fixture
def react(prepared: Original) -> Iterator[React]:
    """The other application, which is at work until the test stops it."""
    thread = React(prepared)
    thread.start()
    wait_until(
        lambda: thread.rounds > 10 or thread.failures, "the other application does not write"
    )
    yield thread
    thread.stop()


def test_the_report_writes_nothing_and_the_plan_says_what_the_owner_runs(live):
    before = catalogue(live), read(live)
    code, out = live.run("adopt_database", "--json")
    assert code == 2, out
    document = read_document("adopt_database", out)
    kinds = {finding["kind"]: finding["rows"] for finding in document["rows"]}
    assert kinds["no_role"] == ROWS // 4
    assert kinds["empty_clerk_id"] == 1
    assert kinds["plain_password"] == ROWS // 3
    assert {"invalid_clerk_id", "other_internal_role", "name_not_valid", "email_not_valid"} <= {
        *kinds
    }
    assert document["by_hand"] == [
        f'ALTER ROLE "{APPLICATION}" IN DATABASE "{live.name}" SET search_path = "cascade", public'
    ]
    assert (catalogue(live), read(live)) == before
    code, out = live.run("adopt_database", "--apply")
    assert code == 1
    assert "Nothing was changed." in out
    assert "ALTER ROLE" in out
    assert (catalogue(live), read(live)) == before


def test_an_adoption_changes_what_the_plan_says_while_another_client_writes(prepared, react):
    listing = catalogue(prepared)
    code, out = prepared.run("adopt_database", "--apply")
    react.stop()
    assert code == 0, out
    assert react.failures == []
    assert read(prepared) == react.rows
    assert catalogue(prepared) - listing == ADDED
    assert listing - catalogue(prepared) == set()
    with prepared.ours() as ours:
        made = ours.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = %s",
            [SCHEMA, "users_agreement"],
        ).fetchone()
        listed = ours.execute("SELECT count(*) FROM users_listentry").fetchone()
    assert made == (1,)
    assert listed == (len(react.rows["users"]),)


def test_a_second_adoption_changes_nothing(adopted):
    before = catalogue(adopted), read(adopted), times(adopted)
    code, out = adopted.run("adopt_database", "--apply")
    assert code == 0, out
    assert out.splitlines()[-1] == "Everything is adopted."
    assert (catalogue(adopted), read(adopted), times(adopted)) == before


def test_a_killed_adoption_goes_on_when_it_is_run_again(prepared, react):
    """Each kill meets a run that is at work: when one has ended, everything is taken back."""
    chosen, kills = random.Random(KILLS), 0
    while kills < KILLS:
        process = prepared.start("adopt_database", "--apply")
        assert process.stdout is not None
        for _ in range(chosen.randint(1, STEPS)):  # it writes a line before each of its steps
            process.stdout.readline()
        try:
            process.wait(chosen.random() / 2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, process.stdout.read()
            go_back(prepared)
            prepared.prepare_role()
    code, out = prepared.run("adopt_database", "--apply")
    react.stop()
    assert code == 0, out
    assert react.failures == []
    assert read(prepared) == react.rows
    assert catalogue(prepared) >= ADDED


def test_the_way_back_leaves_what_was_there_before(prepared, react):
    before = catalogue(prepared)
    assert prepared.run("adopt_database", "--apply")[0] == 0
    go_back(prepared)
    react.stop()
    assert react.failures == []
    assert read(prepared) == react.rows
    assert catalogue(prepared) - before == {line for line in ADDED if "column users.upd" in line}
    assert before - catalogue(prepared) == set()
    prepared.prepare_role()
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out


def test_a_trigger_of_the_list_that_somebody_disabled_works_again(adopted):
    with adopted.react() as client:
        client.execute("ALTER TABLE users DISABLE TRIGGER users_list_insert")
        client.execute("INSERT INTO users (name, email) VALUES ('Mary', 'mary@example.com')")
        code, out = adopted.run("adopt_database", "--apply")
        assert code == 0, out
        client.execute("INSERT INTO users (name, email) VALUES ('Tom', 'tom@example.com')")
    with adopted.ours() as ours:
        listed = ours.execute("SELECT name_key FROM users_listentry WHERE name_key IN "
                              "('mary', 'tom') ORDER BY 1").fetchall()  # fmt: skip
    assert listed == [("mary",), ("tom",)]


def test_an_adoption_never_waits_for_one_table_while_it_holds_another(adopted):
    """Else a client that locks them the other way round would fail by a deadlock."""
    with adopted.react() as client:
        client.execute("DROP TRIGGER users_list_update ON builder_groups")
        client.execute("DROP TRIGGER users_list_insert ON users")
        with client.transaction():
            client.execute("UPDATE builder_groups SET name = 'Elm'")
            process = adopted.start("adopt_database", "--apply", "--lock-timeout", "300")
            wait_until(
                lambda: process.poll() is not None or waits_for_a_table(adopted),
                "the adoption does not wait for the groups",
            )
            client.execute("INSERT INTO users (name, email) VALUES ('Mary', 'mary@example.com')")
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert catalogue(adopted) >= ADDED


def test_behind_a_pooler_each_transaction_may_go_through_another_connection(prepared, react):
    listing = catalogue(prepared)
    with pooling(prepared.name, OWNER, APPLICATION) as port:
        process = prepared.start("adopt_database", "--apply", **prepared.through(port))
        assert process.stdout is not None
        for _ in range(7):
            process.stdout.readline()
        process.kill()
        process.wait()
        code, out = prepared.run("adopt_database", "--apply", **prepared.through(port))
    react.stop()
    assert code == 0, out
    assert react.failures == []
    assert read(prepared) == react.rows
    assert catalogue(prepared) - listing == ADDED


def test_behind_a_pooler_only_one_adoption_is_at_work(prepared):
    with (
        pooling(prepared.name, OWNER, APPLICATION) as port,
        prepared.react() as other,
        other.transaction(),
    ):
        other.execute(f"SELECT pg_advisory_xact_lock({KEY})")
        code, out = prepared.run("adopt_database", "--apply", **prepared.through(port))
    assert code == 1
    assert "Another adopt_database is at work." in out
    assert not any("django_migrations" in line for line in catalogue(prepared))


def test_a_connection_of_a_pooler_that_is_older_than_the_search_path_is_refused(live):
    with pooling(live.name, OWNER, APPLICATION, size=1) as port:
        way = live.through(port)
        code, out = live.run("adopt_database", "--json", CASCADE_OWNER_URL=url_of(OWNER, live.name),
                             DATABASE_URL=way["DATABASE_URL"])  # fmt: skip
        assert len(read_document("adopt_database", out)["by_hand"]) == 1
        live.prepare_role()
        before = catalogue(live)
        code, out = live.run("adopt_database", "--apply", DATABASE_URL=way["DATABASE_URL"])
        assert code == 1
        assert "run RECONNECT in the console of pgbouncer" in out
        assert catalogue(live) == before
        with psycopg.connect(url_of(CONSOLE, CONSOLE, port=port), autocommit=True) as console:
            psycopg.ClientCursor(console).execute("RECONNECT")
        code, out = live.run("adopt_database", "--apply", DATABASE_URL=way["DATABASE_URL"])
        assert code == 0, out


def test_a_pooler_that_knows_no_transactions_is_refused(prepared):
    with pooling(prepared.name, OWNER, APPLICATION, mode="statement") as port:
        code, out = prepared.run("adopt_database", "--apply", **prepared.through(port))
    assert code == 1
    assert "transaction blocks not allowed in statement pooling mode. Nothing was changed." in out


def test_a_time_limit_of_the_database_is_named(prepared):
    with prepared.everything() as server:
        server.execute(f"ALTER ROLE {OWNER} IN DATABASE {prepared.name} SET statement_timeout = 1")
    code, out = prepared.run("adopt_database")
    assert code == 1
    assert "canceling statement due to statement timeout. Nothing was changed." in out


def test_the_time_of_a_change_is_kept_in_utc_whoever_writes(adopted):
    with adopted.react() as client:
        client.execute("SET TIME ZONE 'Asia/Tokyo'")
        client.execute("UPDATE users SET updated_at = '2020-01-01'")
        client.execute("UPDATE users SET notify_tasks = NOT notify_tasks WHERE role IS NULL")
        client.execute("UPDATE users SET notify_tasks = notify_tasks WHERE role = 'ADMIN'")
        moved = client.execute(
            "SELECT role IS NULL, bool_and(updated_at BETWEEN timezone('utc', now()) - interval "
            "'5 minutes' AND timezone('utc', now()) + interval '5 minutes') "
            "FROM users WHERE role IS NULL OR role = 'ADMIN' GROUP BY 1 ORDER BY 1"
        ).fetchall()
    assert moved == [(False, False), (True, True)]


def test_duplicate_emails_are_reported_and_the_unique_index_waits_for_them(prepared):
    with prepared.react() as client:
        client.execute(
            "INSERT INTO users (name, email) VALUES ('One', 'twin@example.com'), "
            "('Two', 'Twin@example.com')"
        )
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 2
    assert "duplicate_email: 2." in out
    assert "waits until no two rows share an email" in out
    assert not any("users_email_lower_unique" in line for line in catalogue(prepared))
    with prepared.react() as client:
        client.execute("DELETE FROM users WHERE name = 'Two'")
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert catalogue(prepared) >= ADDED
    assert not any("INDEX users_email_lower " in line for line in catalogue(prepared))


def search_of(database: Original) -> tuple[str | None, bool]:
    """Return the schema of the extension of the search, and whether its index is finished."""
    with database.everything() as server:
        found: tuple[str | None, bool] = server.execute(
            "SELECT (SELECT extnamespace::regnamespace::text FROM pg_extension "
            "WHERE extname = 'pg_trgm'), EXISTS (SELECT FROM pg_index "
            "WHERE indexrelid = to_regclass('cascade.users_listentry_search') AND indisvalid)"
        ).fetchone()
    return found


def test_the_owner_creates_the_extension_of_the_search_in_our_schema(prepared):
    code, out = prepared.run("adopt_database", "--json")
    statements = [one for step in read_document("adopt_database", out)["steps"]
                  for one in step["statements"]]  # fmt: skip
    assert "CREATE EXTENSION pg_trgm SCHEMA cascade" in statements
    assert search_of(prepared) == (None, False)
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert "beginnings" not in out
    assert search_of(prepared) == ("cascade", True)


def test_an_earlier_adoption_without_the_extension_gets_it_with_its_index(adopted):
    with adopted.everything() as server:
        server.execute("DROP EXTENSION pg_trgm CASCADE")
    code, out = adopted.run("adopt_database", "--apply")
    assert code == 0, out
    assert search_of(adopted) == ("cascade", True)
    code, out = adopted.run("adopt_database", "--apply")
    assert out.splitlines()[-1] == "Everything is adopted."


def test_an_extension_in_another_schema_is_used_where_the_role_may(prepared):
    with prepared.everything() as server:
        server.execute("CREATE SCHEMA extensions; CREATE EXTENSION pg_trgm SCHEMA extensions")
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert search_of(prepared) == ("extensions", False)
    printed = re.search(r"GRANT USAGE ON SCHEMA extensions TO [^;]+;", out)
    assert printed, out
    with prepared.everything() as server:
        server.execute(printed[0])
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert search_of(prepared) == ("extensions", True)


def test_without_the_right_to_create_the_extension_the_report_says_what_to_run(prepared):
    with prepared.everything() as server:
        server.execute(f"CREATE SCHEMA cascade AUTHORIZATION {OWNER}")
        server.execute(f"ALTER DATABASE {prepared.name} OWNER TO {prepared.superuser}")
    code, out = prepared.run("adopt_database", "--json")
    document = read_document("adopt_database", out)
    [note] = document["notes"]
    assert note.startswith("The search finds only the beginnings of words: the role react_owner")
    assert not any("pg_trgm" in str(step) for step in document["steps"])
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert note in out
    assert search_of(prepared) == (None, False)
    [printed] = re.findall(r"CREATE EXTENSION [^;]+;", note)
    with prepared.everything() as server:
        server.execute(printed)
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert search_of(prepared) == ("cascade", True)


def test_a_server_that_refuses_the_extension_does_not_stop_the_adoption(prepared):
    with prepared.everything() as server:
        server.execute(
            "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN "
            "IF current_query() ~ 'pg_trgm' THEN RAISE insufficient_privilege "
            "USING MESSAGE = 'pg_trgm is not allow-listed'; END IF; END$$;"
            "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN tag IN ('CREATE EXTENSION') "
            "EXECUTE FUNCTION refuse()"
        )
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert "the database refused it (pg_trgm is not allow-listed)" in out
    assert search_of(prepared) == (None, False)
    assert catalogue(prepared) >= ADDED


def test_passwords_are_emptied_only_when_asked(adopted):
    with adopted.react() as client:
        assert client.execute("SELECT count(*) FROM users WHERE password <> ''").fetchone() == (
            ROWS // 3,
        )
        code, out = adopted.run("adopt_database", "--apply", "--clear-passwords")
        assert code == 0, out
        assert client.execute("SELECT count(*) FROM users WHERE password <> ''").fetchone() == (0,)


COLUMNS = {
    "ALTER TABLE builder_groups DROP COLUMN enrollment_slug": (
        "public.builder_groups has no column enrollment_slug."
    ),
    "ALTER TABLE users ADD COLUMN region text NOT NULL DEFAULT 'x'; "
    "ALTER TABLE users ALTER region DROP DEFAULT": (
        "public.users.region refuses NULL and has no default"
    ),
    "CREATE DOMAIN must AS text NOT NULL; ALTER TABLE users ADD COLUMN area must DEFAULT 'x'; "
    "ALTER TABLE users ALTER area DROP DEFAULT": (
        "public.users.area refuses NULL and has no default"
    ),
    "ALTER TABLE users DROP COLUMN internal_role; ALTER TABLE users ADD COLUMN internal_role "
    "text GENERATED ALWAYS AS (lower(email)) STORED": "public.users.internal_role is generated",
    "ALTER TABLE users ALTER email DROP NOT NULL": (
        "public.users.email accepts NULL. Give the rows without one a text, an empty one perhaps, "
        "then ALTER TABLE public.users ALTER email SET NOT NULL."
    ),
    "ALTER TABLE users ADD COLUMN updated_at text": (
        "public.users.updated_at has the type text and not timestamp."
    ),
    "ALTER TABLE users ALTER clerk_id TYPE varchar(20)": (
        "must fit: ALTER TABLE public.users ALTER clerk_id TYPE text."
    ),
    "DROP TABLE homeowners, appointments; ALTER TABLE users DROP COLUMN id; "
    "ALTER TABLE users ADD COLUMN id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY": (
        "public.users.id has the type integer and not uuid."
    ),
    "ALTER TABLE users ALTER role DROP DEFAULT, ALTER role TYPE text; DROP TYPE user_role; "
    "UPDATE users SET role = 'ADMIN'; CREATE TYPE user_role AS ENUM ('ADMIN'); "
    "ALTER TABLE users ALTER role TYPE user_role USING role::user_role": (
        "The type of public.users.role lacks HOMEOWNER, BUILDER."
    ),
}
NAMES = {
    "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
    "CREATE TRIGGER users_updated_at BEFORE UPDATE ON users "
    "FOR EACH ROW EXECUTE FUNCTION theirs()": (
        "has another trigger named users_updated_at, which calls public.theirs. Rename it."
    ),
    "ALTER TABLE users ADD CONSTRAINT users_clerk_id_not_empty CHECK (length(name) < 9999)": (
        "public.users has another constraint named users_clerk_id_not_empty"
    ),
    "CREATE INDEX users_name_lower ON homeowners (lower(name))": (
        "The schema public has something else named users_name_lower. Rename it."
    ),
    "CREATE TABLE django_migrations (id int)": (
        "The schema public has tables that are named as ours"
    ),
    "CREATE SCHEMA cascade; CREATE TABLE cascade.users (id uuid)": (
        "cascade.users would hide public.users."
    ),
    f"REVOKE USAGE ON SCHEMA cascade FROM {OWNER}": (
        f'GRANT USAGE, CREATE ON SCHEMA cascade TO "{OWNER}".'
    ),
}
TABLES = {
    "CREATE TABLE former_users () INHERITS (users)": (
        "public.users shares its rows by inheritance with former_users."
    ),
    "CREATE TABLE holder (one users)": (
        "No column can be added to public.users, because its row type belongs to holder.one."
    ),
    "CREATE RULE soft AS ON DELETE TO users DO INSTEAD "
    "UPDATE users SET password = NULL WHERE id = OLD.id": (
        "public.users has the rule soft, which rewrites statements."
    ),
    "ALTER TABLE builder_groups ENABLE ROW LEVEL SECURITY": (
        f"Row security may hide rows of public.builder_groups from the role {APPLICATION}."
    ),
    "ALTER TABLE users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY": (
        f"Row security may hide rows of public.users from the role {OWNER}."
    ),
    "ALTER TABLE homeowners ENABLE ROW LEVEL SECURITY": (
        f"Row security may hide rows of public.homeowners from the role {APPLICATION}."
    ),
    "ALTER TABLE users NO FORCE ROW LEVEL SECURITY; UPDATE users SET clerk_id = id; "
    "ALTER TABLE users FORCE ROW LEVEL SECURITY; "
    "CREATE UNIQUE INDEX one ON users (clerk_id) NULLS NOT DISTINCT": (
        "The index one lets only one user have no Clerk id."
    ),
}
VIEW = {
    "ALTER TABLE users RENAME TO people; CREATE VIEW users AS SELECT * FROM people": (
        "public.users is no ordinary table: it is a view, foreign or partitioned."
    ),
}
PARTITIONED = {
    "DROP TABLE homeowners, appointments; ALTER TABLE users RENAME TO people; "
    "CREATE TABLE users (LIKE people INCLUDING DEFAULTS, PRIMARY KEY (id)) "
    "PARTITION BY HASH (id)": (
        "public.users is no ordinary table: it is a view, foreign or partitioned."
    ),
}


@pytest.mark.parametrize(
    "obstacles", [COLUMNS, NAMES, TABLES, VIEW, PARTITIONED],
    ids=["columns", "names", "tables", "a view", "a partitioned table"],
)  # fmt: skip
def test_an_adoption_that_cannot_work_is_refused_with_a_list(prepared, obstacles):
    """The report has all obstacles at once."""
    with prepared.react() as client:
        for statements in obstacles:
            client.execute(statements)
    before = catalogue(prepared)
    code, out = prepared.run("adopt_database")
    assert (code, "This is in the way:" in out) == (2, True), out
    code, refused = prepared.run("adopt_database", "--apply")
    assert code == 1
    for said in obstacles.values():
        assert said in out, out
        assert said in refused, refused
    assert "Traceback" not in out + refused
    assert catalogue(prepared) == before


def test_what_the_owner_may_not_do_is_printed_and_the_adoption_works_after_it(prepared):
    with prepared.everything() as server:
        server.execute(
            f"ALTER TABLE homeowners OWNER TO {prepared.superuser}; "
            "CREATE SCHEMA crm; CREATE TABLE crm.visits (user_id uuid REFERENCES public.users); "
            f"ALTER SCHEMA public OWNER TO {prepared.superuser}; "
            f"REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO {OWNER}"
        )
    before = catalogue(prepared)
    code, out = prepared.run("adopt_database", "--json")
    by_hand = read_document("adopt_database", out)["by_hand"]
    assert by_hand == [
        f'GRANT USAGE ON SCHEMA public TO "{APPLICATION}"',
        f'GRANT USAGE ON SCHEMA crm TO "{APPLICATION}"',
        f'GRANT SELECT ON crm.visits TO "{APPLICATION}"',
        f'GRANT SELECT ON public.homeowners TO "{APPLICATION}"',
        f'GRANT CREATE ON SCHEMA public TO "{OWNER}"',
    ]
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 1
    assert f"Run this first, as a role that may: {by_hand[0]};" in out
    assert catalogue(prepared) == before
    with prepared.everything() as server:
        for statement in by_hand:
            server.execute(statement)
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out


AWKWARD_TABLES = (
    "ALTER TABLE users ADD COLUMN email_lower text GENERATED ALWAYS AS (lower(email)) STORED",
    "ALTER TABLE users ADD COLUMN settings json",
    "ALTER TABLE users ADD COLUMN number int GENERATED ALWAYS AS IDENTITY",
    "CREATE VIEW everybody AS SELECT * FROM users",
    "ALTER TYPE user_role ADD VALUE 'SUPERADMIN'",
    "ALTER TABLE users DROP CONSTRAINT users_clerk_id_unique",
    "ALTER TABLE users ADD UNIQUE (clerk_id) DEFERRABLE INITIALLY DEFERRED",
    "ALTER DATABASE {name} SET search_path = elsewhere, public",
)
SENSITIVE_TEXT = (
    "CREATE EXTENSION citext",
    "ALTER TABLE users ALTER email TYPE citext, ALTER clerk_id TYPE citext, ALTER name TYPE citext",
)
WRITES = (
    "INSERT INTO users (name, email) VALUES ('Mary Ann', 'mary@example.com')",
    "UPDATE users SET name = name || ' x' WHERE email = 'mary@example.com'",
    "UPDATE users SET notify_tasks = NOT notify_tasks WHERE email = 'mary@example.com'",
    "DELETE FROM users WHERE email = 'mary@example.com'",
)


@pytest.mark.parametrize(
    "statements", [AWKWARD_TABLES, SENSITIVE_TEXT], ids=["awkward", "text without capitals"]
)
def test_awkward_tables_are_adopted_and_both_applications_write_them(prepared, statements):
    with prepared.everything() as server:
        server.execute(
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {APPLICATION}, {OWNER} "
            "REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC"
        )
    with prepared.react() as client:
        for statement in statements:
            client.execute(statement.format(name=prepared.name))
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    for client in (prepared.react(), prepared.ours()):
        with client:
            for statement in WRITES:
                assert client.execute(statement).rowcount == 1, statement
    code, out = prepared.run("adopt_database", "--apply")
    assert out.splitlines()[-1] == "Everything is adopted.", out


def test_the_time_moves_for_a_change_of_any_column_and_for_nothing_else(prepared):
    """Also beside a generated column, and for a type that has no comparison."""
    with prepared.react() as client:
        client.execute("ALTER TABLE users ADD COLUMN settings json DEFAULT '{}'")
        assert prepared.run("adopt_database", "--apply")[0] == 0
        for generated in (False, True):
            if generated:
                client.execute(
                    "ALTER TABLE users ADD COLUMN email_lower text "
                    "GENERATED ALWAYS AS (lower(email)) STORED"
                )
                code, out = prepared.run("adopt_database", "--apply")
                assert code == 0, out
            client.execute("UPDATE users SET updated_at = '2020-01-01'")
            client.execute("UPDATE users SET settings = settings, name = name")
            still = client.execute("SELECT DISTINCT updated_at::date::text FROM users").fetchall()
            assert still == [("2020-01-01",)]
            client.execute("UPDATE users SET settings = %s", [f'{{"a": "{generated}"}}'])
            moved = client.execute("SELECT min(updated_at) > '2021-01-01' FROM users").fetchone()
            assert moved == (True,)


def test_an_earlier_trigger_that_could_not_compare_every_type_is_replaced(adopted):
    before = catalogue(adopted)
    with adopted.react() as client:
        client.execute(
            "CREATE OR REPLACE TRIGGER users_updated_at BEFORE UPDATE ON users FOR EACH ROW WHEN "
            "(OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION cascade.users_set_updated_at()"
        )
    code, out = adopted.run("adopt_database", "--apply")
    assert code == 0, out
    assert catalogue(adopted) == before


def test_triggers_of_the_other_application_are_named_because_they_run_for_us_too(prepared):
    with prepared.react() as client:
        client.execute(
            "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
            "CREATE TRIGGER audit AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION audit()"
        )
    code, out = prepared.run("adopt_database", "--json")
    [note] = read_document("adopt_database", out)["notes"]
    assert note.startswith("public.users has the trigger audit, which calls public.audit.")
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert note in out


def test_the_address_of_another_database_is_refused(prepared):
    with original(f"other_{uuid.uuid4().hex[:8]}", rows=3) as other:
        before = catalogue(prepared), catalogue(other)
        code, out = prepared.run(
            "adopt_database", "--apply", CASCADE_OWNER_URL=url_of(OWNER, other.name)
        )
        assert (code, "leads to another database than DATABASE_URL" in out) == (1, True), out
        assert (catalogue(prepared), catalogue(other)) == before


def test_a_database_of_another_encoding_is_refused(prepared):
    with prepared.everything() as server:
        name = f"{prepared.name}_latin"
        server.execute(f"CREATE DATABASE {name} ENCODING LATIN1 LOCALE 'C' TEMPLATE template0")
    try:
        code, out = prepared.run(
            "adopt_database", DATABASE_URL=url_of(APPLICATION, name),
            CASCADE_OWNER_URL=url_of(OWNER, name),
        )  # fmt: skip
    finally:
        with prepared.everything() as server:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert (code, "has the encoding LATIN1, and UTF8 is needed" in out) == (2, True), out


def test_without_a_schema_the_command_says_what_to_set(prepared):
    code, out = prepared.run("adopt_database", CASCADE_SCHEMA="")
    assert code == 1
    assert "Set CASCADE_SCHEMA in the environment" in out


def test_the_role_without_rights_is_told_to_give_the_address_of_the_owner(prepared):
    code, out = prepared.run("adopt_database", CASCADE_OWNER_URL="")
    assert code == 2
    assert "Give the URL of its owner with --owner-url" in out


def test_a_fresh_installation_takes_a_row_without_id_and_role():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO users (name, email) VALUES ('A', 'a@example.com')")
        cursor.execute("INSERT INTO builder_groups (name) VALUES ('Oak Hill')")
        cursor.execute("SELECT role, id IS NOT NULL FROM users")
        assert cursor.fetchall() == [("BUILDER", True)]


def test_no_foreign_key_of_ours_refers_to_a_table_of_the_other_application():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'f' "
            "AND confrelid IN ('users'::regclass, 'builder_groups'::regclass) "
            "AND conrelid <> 'users'::regclass"
        )
        assert cursor.fetchall() == [], "Set db_constraint=False."


def test_nothing_starts_with_a_wrong_search_path(live):
    for command in ("migrate", "clerk_recover", "procrastinate healthchecks"):
        code, out = live.run(*command.split())
        assert code == 1, out
        assert "the search path must be exactly cascade, public" in out
    assert not any("django_migrations" in line for line in catalogue(live))
