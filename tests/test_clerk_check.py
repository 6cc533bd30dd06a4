"""Is everything set up and healthy, and how to fix what is not."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tests.support import processes
from tests.support.commands import run
from tests.support.factories import BuilderUserFactory, SyncAttemptFactory, linked
from tests.support.patience import PATIENCE
from users.models import BulkRow, BulkRun, ClerkAccount, SyncAttempt, WebhookDelivery
from users.sync import diagnostics
from users.sync.mirror import listing
from users.tasks import keep_mirror_current

pytestmark = pytest.mark.django_db(transaction=True)


def findings(expected: int = 0) -> dict[str, dict]:
    code, out = run("clerk_check", "--json")
    assert code == expected, out
    return {row["subject"]: row for row in json.loads(out)["findings"]}


def levels(expected: int = 0) -> dict[str, str]:
    return {subject: row["level"] for subject, row in findings(expected).items()}


def test_a_healthy_installation(sandbox, settings):
    settings.DEBUG = True
    linked(sandbox)
    run("clerk_diff", "--refresh")
    keep_mirror_current(timestamp=0)
    found = levels()
    assert found.pop("Worker") == "warning"  # none is at work in the tests
    assert set(found.values()) == {"ok"}
    assert set(found) >= {"Clerk key", "Clerk", "Clock", "Webhook secret", "Database", "Migrations",
                          "Indexes", "Duplicates", "Attempts", "Events", "Changes from Clerk",
                          "Scan", "Last checked"}  # fmt: skip


def test_it_is_a_line_a_finding_without_any_secret(sandbox, settings):
    code, out = run("clerk_check")
    assert code == 0
    [scan] = [line for line in out.splitlines() if line.startswith("warning: Scan.")]
    assert scan.endswith("Fix: manage.py clerk_diff --refresh")
    assert settings.CLERK_SECRET_KEY not in out
    assert settings.CLERK_WEBHOOK_SIGNING_SECRET not in out


@pytest.mark.parametrize(
    ("key", "said"), [("", "not configured"), ("pk_test_public", "is not a valid Clerk secret key")]
)
def test_a_key_that_is_missing_or_none(sandbox, settings, key, said):
    settings.CLERK_SECRET_KEY = key
    found = findings(1)["Clerk key"]
    assert (found["level"], found["fix"]) == ("broken", "CLERK_SECRET_KEY")
    assert said in found["meaning"]


@pytest.mark.parametrize(("debug", "level"), [(True, "ok"), (False, "warning")])
def test_a_development_key_outside_debug(sandbox, settings, debug, level):
    settings.DEBUG = debug
    assert levels()["Clerk key"] == level


def test_a_key_that_clerk_does_not_accept(sandbox, settings):
    settings.CLERK_SECRET_KEY = "sk_test_of_somebody_else"
    found = findings(1)["Clerk"]
    assert (found["level"], found["fix"]) == ("broken", "CLERK_SECRET_KEY")


def test_a_version_that_clerk_does_not_know(sandbox, settings):
    settings.CLERK_API_VERSION = "1999-01-01"
    assert "CLERK_API_VERSION" in findings(1)["Clerk"]["fix"]


def test_nobody_at_the_address(sandbox, settings):
    settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
    assert "CLERK_API_URL" in findings(1)["Clerk"]["fix"]


@pytest.mark.parametrize(("minutes", "level"), [(-2, "warning"), (2, "warning"), (6, "broken")])
def test_a_clock_that_is_wrong(sandbox, monkeypatch, minutes, level):
    later = timezone.now() + timedelta(minutes=minutes)
    monkeypatch.setattr(diagnostics.timezone, "now", lambda: later)
    found = findings(1 if level == "broken" else 0)["Clock"]
    assert (found["level"], "NTP" in found["fix"]) == (level, True)


@pytest.mark.parametrize("secret", ["", "whsec_???"])
def test_a_webhook_secret_that_is_none(sandbox, settings, secret):
    settings.CLERK_WEBHOOK_SIGNING_SECRET = secret
    assert levels(1)["Webhook secret"] == "broken"


@pytest.mark.parametrize("clerk", ["up", "down"])
def test_a_database_that_is_down_is_a_finding(sandbox, clerk):
    """As a process of its own, to which nobody answers."""
    url = sandbox.url if clerk == "up" else "http://127.0.0.1:9/v1"
    done = processes.run(
        "clerk_check", "--json", timeout=PATIENCE,
        environment={**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:9/none",
                     "CLERK_API_URL": url, "CLERK_SECRET_KEY": sandbox.secret_key},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    found = {row["subject"]: row["level"] for row in json.loads(done.stdout)["findings"]}
    assert (found["Database"], found["Clerk"]) == ("broken", "ok" if clerk == "up" else "broken")


def test_a_table_that_cannot_be_read_is_a_finding(sandbox):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE procrastinate_jobs RENAME TO hidden")
    try:
        found = findings(1)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE hidden RENAME TO procrastinate_jobs")
    assert found["Database"]["level"] == "broken"
    assert "procrastinate_jobs" in found["Database"]["meaning"]


def test_an_index_that_is_missing(sandbox):
    with connection.cursor() as cursor:
        cursor.execute("ALTER INDEX users_email_lower_unique RENAME TO hidden")
    try:
        assert "users_email_lower_unique" in findings(1)["Indexes"]["meaning"]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER INDEX hidden RENAME TO users_email_lower_unique")


def test_a_unique_column_and_an_index_that_was_never_finished(sandbox):
    with connection.cursor() as cursor:
        cursor.execute("SELECT conname FROM pg_constraint WHERE contype = 'u' "
                       "AND conrelid = 'users'::regclass")  # fmt: skip
        [(name,)] = cursor.fetchall()
        cursor.execute(f'ALTER TABLE users DROP CONSTRAINT "{name}"')
        valid = (
            "UPDATE pg_index SET indisvalid = %s WHERE indexrelid = 'users_created_at'::regclass"
        )
        cursor.execute(valid, [False])
        try:
            meaning = findings(1)["Indexes"]["meaning"]
        finally:
            cursor.execute(valid, [True])
            cursor.execute(f'ALTER TABLE users ADD CONSTRAINT "{name}" UNIQUE (clerk_id)')
    assert "unique users.clerk_id" in meaning
    assert "users_created_at" in meaning


def test_jobs_that_nobody_takes_are_counted(sandbox):
    assert "; 0 waiting jobs" in findings()["Worker"]["meaning"]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at) VALUES "
            "('default', 'none', '{}', NULL), ('default', 'none', '{}', now() + interval '1 day')"
        )
        cursor.execute(
            "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp) "
            "VALUES ('none', extract(epoch FROM now() - interval '185.5 minutes'))"
        )
    found = findings()["Worker"]
    assert found["level"] == "warning"
    assert "the last round was 3 h 5 min ago); 1 waiting job." in found["meaning"]


def test_what_is_unfinished_is_told_with_its_fix(sandbox):
    user, twin = linked(sandbox), linked(sandbox)
    ClerkAccount.objects.update(email="a@example.com")
    SyncAttemptFactory(user=user)
    SyncAttempt.objects.update(started_at=timezone.now() - timedelta(minutes=10))
    WebhookDelivery.objects.create(pk="msg_1", type="user.updated", payload={})
    cut = BulkRun.objects.create(command="clerk_push", state="interrupted")
    BulkRow.objects.create(run=cut, position=0, operation="push_name", user=twin)
    BulkRun.objects.create(
        command="scan", state="finished", finished_at=timezone.now() - timedelta(days=8)
    )
    found = findings()
    fixes = {subject: row["fix"] for subject, row in found.items() if row["level"] == "warning"}
    assert fixes["Duplicates"] == "manage.py clerk_diff --kind twins"
    assert fixes["Attempts"] == "manage.py clerk_recover"
    assert fixes["Events"] == "manage.py clerk_replay"
    assert fixes["Bulk run"] == f"manage.py clerk_push --resume {cut.pk} --apply"
    assert fixes["Scan"] == "manage.py clerk_diff --refresh"
    one = [found["Attempts"]["meaning"], found["Events"]["meaning"]]
    assert one[0] == "1 change has been pending for over five minutes."
    assert one[1] == "1 event of Clerk could not take effect yet."


def test_users_without_accounts_are_no_finding(sandbox):
    BuilderUserFactory()
    assert levels()["Duplicates"] == "ok"


@pytest.mark.parametrize(
    ("table", "trigger"), [("users", "users_list_update"), ("builder_groups", "users_list_update")]
)
def test_a_trigger_of_the_list_that_another_tool_removed_is_found(sandbox, table, trigger):
    found = findings()
    assert found["List of users"]["level"] == "ok"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
    try:
        finding = findings(1)["List of users"]
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")
    assert finding["level"] == "broken"
    assert f"Missing: {trigger} on {table}." in finding["meaning"]
    assert "sqlmigrate users 0018" in finding["fix"]


def test_the_triggers_that_are_looked_for_are_those_of_the_migrations():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, tgname::text, proname::text FROM pg_trigger "
            "JOIN pg_proc ON pg_proc.oid = tgfoid WHERE proname ~ '^users_list_(user|group)$'"
        )
        made = set(cursor.fetchall())
    assert {(one.table, one.name, one.function) for one in listing.TRIGGERS} == made


def test_a_missing_index_of_the_search_is_found_and_the_fix_makes_it(sandbox):
    assert findings()["Search"]["level"] == "ok"
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION pg_trgm CASCADE")
        finding = findings()["Search"]
        for statement in finding["fix"].split("; "):
            cursor.execute(statement)
    assert finding["level"] == "warning"
    assert finding["meaning"].startswith("It finds only the beginnings of words")
    assert findings()["Search"]["level"] == "ok"
