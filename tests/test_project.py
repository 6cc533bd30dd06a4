"""The settings and the health pages: what is missing or wrong is one line that says what to do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from sandbox.tokens import key_of
from tests.support.commands import ROOT
from tests.support.factories import BuilderUserFactory
from tests.support.production import PRODUCTION, check


@pytest.mark.parametrize("name", PRODUCTION)
def test_a_missing_secret_stops_the_start(name):
    ended = check(**{key: value for key, value in PRODUCTION.items() if key != name})
    assert ended.returncode != 0
    assert f"Set {name} in the environment" in ended.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DEBUG", "perhaps", "DEBUG must be true or false"),
        ("CLERK_EDIT_DEADLINE", "soon", "CLERK_EDIT_DEADLINE must be a number"),
        ("CLERK_EDIT_DEADLINE", "-1", "CLERK_EDIT_DEADLINE must be a number of seconds above 0"),
        ("DATABASE_WAIT_SECONDS", "long", "DATABASE_WAIT_SECONDS must be a number"),
        ("DATABASE_WAIT_SECONDS", "8", "must be a number of seconds above CLERK_EDIT_DEADLINE"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_???", "must be a secret such as whsec_"),
        ("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_b25lLQ==,", "or several of them, comma-separated"),
        ("CLERK_RATE_LIMIT", "many", "CLERK_RATE_LIMIT must be a number"),
        ("CLERK_SCAN_AT", "night", "CLERK_SCAN_AT must be a time of day in UTC such as 03:30"),
        ("CLERK_SCAN_AT", "24:10", "CLERK_SCAN_AT must be a time of day in UTC such as 03:30"),
        ("CLERK_JWT_KEY", "pk_test_x", "CLERK_JWT_KEY must be an RSA public key in PEM"),
        ("CORS_ALLOWED_ORIGINS", "*", "CORS_ALLOWED_ORIGINS must be origins such as https://"),
        ("CORS_ALLOWED_ORIGINS", "https://a.example.com/", "must be origins such as https://"),
        ("CLERK_STALE_DAYS", "some", "CLERK_STALE_DAYS must be a whole number of days"),
        ("CLERK_STALE_DAYS", "0", "CLERK_STALE_DAYS must be a whole number of days, 1 or more"),
        ("CLERK_API_URL", "clerk", "CLERK_API_URL must be an address"),
        ("DATABASE_URL", "sqlite:///x.db", "DATABASE_URL must be of PostgreSQL"),
    ],
)
def test_a_wrong_value_is_named(name, value, words):
    ended = check(**{**PRODUCTION, name: value})
    assert ended.returncode != 0
    assert words in ended.stderr


def test_the_key_of_clerk_may_be_missing():
    assert check(**PRODUCTION).returncode == 0


def test_the_key_of_the_front_end_may_stand_on_one_line():
    pem = key_of("sk_test_one").public_pem.replace("\n", "\\n")
    origins = "https://app.example.com,http://localhost:3000"
    assert check(**PRODUCTION, CLERK_JWT_KEY=pem, CORS_ALLOWED_ORIGINS=origins).returncode == 0


def test_the_nightly_scan_can_be_switched_off():
    assert check(**PRODUCTION, CLERK_SCAN_AT="").returncode == 0


@pytest.mark.django_db
def test_models_and_migrations_agree():
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.django_db
def test_health(client):
    assert Client().get("/healthz/").content == b"ok\n"
    ready = Client().get("/readyz/")
    assert ready.status_code == 200
    assert b"database: ok\nmigrations: ok\nopen attempts: 0" in ready.content


@pytest.mark.django_db(transaction=True)
def test_the_strict_policy_and_no_secret_on_any_page(client, sandbox):
    user = BuilderUserFactory()
    response = client.get(user.get_absolute_url())
    policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert sandbox.secret_key.encode() not in response.content


@pytest.mark.django_db(transaction=True)
def test_old_tools_write_the_tables_by_their_column_names():
    """The application before inserts with SQL of its own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users (id, name, email, role, clerk_id, builder_group_id, internal_role)"
            " VALUES (gen_random_uuid(), 'Old', 'Old@example.com', 'BUILDER', NULL, NULL, NULL)"
            " RETURNING created_at, updated_at"
        )
        assert all(cursor.fetchone())


def imported_by(file: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    modules = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return modules | {
        name.name for node in nodes if isinstance(node, ast.Import) for name in node.names
    }


@pytest.mark.parametrize("folder", ["tests", "bench"])
def test_helpers_of_tests_stand_in_their_support(folder):
    """No module imports from a test module, and no test from the benches, which use the helpers."""
    for file in (ROOT / folder).rglob("*.py"):
        for module in imported_by(file):
            rooms = module.split(".")
            assert not any(room.startswith("test_") for room in rooms), (file, module)
            assert folder == "bench" or rooms[0] != "bench", (file, module)
