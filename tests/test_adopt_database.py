"""The application moves onto the live tables of another one, which goes on writing them."""

from __future__ import annotations

import os
import random
import threading
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from django.db import connection

from tests.support.adopted import APPLICATION, SCHEMA, Original, original
from tests.support.documents import read_document
from tests.support.patience import wait_until

pytestmark = pytest.mark.django_db

KILLS = int(os.environ.get("ADOPTION_KILLS", "3"))

HASHES = """
SELECT id::text, md5((to_jsonb(users) - 'updated_at' - 'clerk_id')::text), nullif(clerk_id, '')
FROM public.users ORDER BY id
"""
OTHERS = """
SELECT md5(to_jsonb(one)::text) FROM {} AS one ORDER BY 1
"""
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
    "WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION cascade.users_set_updated_at()",
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
    with original(f"adoption_{uuid.uuid4().hex[:8]}", rows=300) as database:
        yield database


@pytest.fixture
def prepared(live: Original) -> Original:
    live.prepare_role()
    return live


def catalogue(database: Original) -> set[str]:
    with database.react() as client:
        return {line for (line,) in client.execute(CATALOGUE)}


def content(database: Original) -> list[list[tuple]]:
    tables = ("public.builder_groups", "public.homeowners", "public.appointments")
    with database.react() as client:
        return [client.execute(query).fetchall() for query in (HASHES, *map(OTHERS.format, tables))]


class React(threading.Thread):
    """The other application at work: it inserts, updates and deletes until it is told to stop.

    Each statement must succeed within a second: an adoption must not stop it.
    """

    def __init__(self, database: Original) -> None:
        super().__init__(daemon=True)
        self.database = database
        self.stopped = threading.Event()
        self.failures: list[str] = []
        self.rounds = 0

    def run(self) -> None:
        chosen = random.Random(1)
        with self.database.react() as client:
            while not self.stopped.wait(0.02):
                number = self.rounds
                try:
                    client.execute(
                        "INSERT INTO users (name, email) VALUES ('React', %s)",
                        [f"react{number}@example.com"],
                    )
                    client.execute(
                        "UPDATE users SET notify_tasks = NOT notify_tasks WHERE email = %s",
                        [f"react{chosen.randint(0, number)}@example.com"],
                    )
                    if number % 3 == 0:
                        client.execute(
                            "DELETE FROM users WHERE email = %s", [f"react{number}@example.com"]
                        )
                except psycopg.Error as error:
                    self.failures.append(str(error))
                self.rounds += 1

    def stop(self) -> None:
        self.stopped.set()
        self.join(60)
        with self.database.react() as client:
            client.execute("DELETE FROM users WHERE name = 'React'")


def test_the_report_writes_nothing_and_the_plan_says_what_the_owner_runs(live):
    before = catalogue(live), content(live)
    code, out = live.run("adopt_database", "--json")
    assert code == 2, out
    document = read_document("adopt_database", out)
    kinds = {finding["kind"]: finding["rows"] for finding in document["rows"]}
    assert kinds["no_role"] == 75
    assert kinds["empty_clerk_id"] == 1
    assert kinds["plain_password"] == 100
    assert {"invalid_clerk_id", "other_internal_role", "name_not_valid", "email_not_valid"} <= {
        *kinds
    }
    assert document["by_hand"] == [
        f'ALTER ROLE "{APPLICATION}" IN DATABASE "{live.name}" SET search_path = "cascade", public'
    ]
    assert (catalogue(live), content(live)) == before
    code, out = live.run("adopt_database", "--apply")
    assert code == 1
    assert "Nothing was changed." in out
    assert "ALTER ROLE" in out
    assert (catalogue(live), content(live)) == before


def test_an_adoption_changes_what_the_plan_says_while_another_client_writes(prepared):
    before, listing = content(prepared), catalogue(prepared)
    react = React(prepared)
    react.start()
    wait_until(lambda: react.rounds > 5 or react.failures, "the other application does not write")
    code, out = prepared.run("adopt_database", "--apply")
    react.stop()
    assert code == 0, out
    assert react.failures == []
    assert content(prepared) == before
    assert catalogue(prepared) - listing == ADDED
    assert listing - catalogue(prepared) == set()
    with prepared.ours() as ours:
        made = ours.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = %s",
            [SCHEMA, "users_agreement"],
        ).fetchone()
    assert made == (1,)

    adopted, again = (
        (catalogue(prepared), content(prepared)),
        prepared.run("adopt_database", "--apply"),
    )
    assert again[0] == 0
    assert "Everything is adopted." in again[1]
    assert (catalogue(prepared), content(prepared)) == adopted


def test_a_killed_adoption_goes_on_when_it_is_run_again(prepared):
    before = content(prepared)
    chosen = random.Random(KILLS)
    for _ in range(KILLS):
        process = prepared.start("adopt_database", "--apply")
        assert process.stdout is not None
        for _ in range(chosen.randint(1, 11)):  # it writes a line before each of its steps
            process.stdout.readline()
        process.kill()
        process.wait()
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 0, out
    assert content(prepared) == before
    assert catalogue(prepared) >= ADDED


def test_the_time_of_a_change_is_kept_in_utc_whoever_writes(prepared):
    assert prepared.run("adopt_database", "--apply")[0] == 0
    with prepared.react() as client:
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


def test_passwords_are_emptied_only_when_asked(prepared):
    assert prepared.run("adopt_database", "--apply")[0] == 0
    with prepared.react() as client:
        assert client.execute("SELECT count(*) FROM users WHERE password <> ''").fetchone() == (
            100,
        )
        code, out = prepared.run("adopt_database", "--apply", "--clear-passwords")
        assert code == 0, out
        assert client.execute("SELECT count(*) FROM users WHERE password <> ''").fetchone() == (0,)


OBSTACLES = {
    "a column is missing": (
        "ALTER TABLE users DROP COLUMN internal_role",
        "public.users has no column internal_role.",
    ),
    "a column that we do not know must be given": (
        "ALTER TABLE users ADD COLUMN region text NOT NULL DEFAULT 'x'; "
        "ALTER TABLE users ALTER region DROP DEFAULT",
        "public.users.region refuses NULL and has no default",
    ),
    "tables of an earlier migrate": (
        "CREATE TABLE django_migrations (id int)",
        "The schema public has tables that are named as ours",
    ),
    "a table that would hide the real one": (
        "CREATE SCHEMA cascade; CREATE TABLE cascade.users (id uuid)",
        "cascade.users would hide public.users.",
    ),
}


@pytest.mark.parametrize(("statements", "said"), OBSTACLES.values(), ids=OBSTACLES)
def test_an_adoption_that_cannot_work_is_refused_with_a_list(prepared, statements, said):
    with prepared.react() as client:
        client.execute(statements)
    before = catalogue(prepared)
    code, out = prepared.run("adopt_database", "--apply")
    assert code == 1
    assert said in out
    assert catalogue(prepared) == before


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
