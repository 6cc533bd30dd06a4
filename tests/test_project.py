"""The settings and the health pages: what is missing or wrong is one line that says what to do."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import tokenize
from pathlib import Path
from unittest import mock

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client

from sandbox.tokens import key_of
from tests.support.commands import ROOT
from tests.support.factories import BuilderUserFactory
from tests.support.patience import PATIENCE
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
        ("ALERT_EMAILS", "ops@example.com", "Set EMAIL_URL in the environment, since ALERT_EMAILS"),
        ("HSTS_PRELOAD", "true", "HSTS_PRELOAD needs HSTS_INCLUDE_SUBDOMAINS=true"),
        ("HSTS_SECONDS", "-1", "HSTS_SECONDS must be a whole number of seconds, 0 or more"),
        ("KEEP_MONTHS", "0", "KEEP_MONTHS must be a whole number of months, 1 or more"),
        ("SSL_REDIRECT", "perhaps", "SSL_REDIRECT must be true or false"),
        ("SECRET_KEY_FILE", "/nowhere", "Set SECRET_KEY or SECRET_KEY_FILE, not both"),
        ("METRICS_TOKEN_FILE", "/nowhere", "METRICS_TOKEN_FILE must name a file that can be read"),
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


def shown(*names: str, **environment: str) -> list[str]:
    """Return settings as the application has them in an environment of its own."""
    code = "from django.conf import settings as s; import sys\n" + "".join(
        f"print(repr(s.{name}))\n" for name in names
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "cascade.settings",
            **PRODUCTION,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return ended.stdout.splitlines()


def test_each_secret_may_stand_in_a_file(tmp_path):
    """The files of containers and of systemd end with a line break."""
    values = {
        "SECRET_KEY": "k" * 60,
        "SECRET_KEY_FALLBACKS": "a" * 60 + "," + "b" * 60,
        "CLERK_SECRET_KEY": "sk_test_file",
        "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_b25seS1mb3ItdGVzdHM=",
        "OIDC_CLIENT_SECRET": "of the provider",
        "METRICS_TOKEN": "of prometheus",
    }
    environment = {"SECRET_KEY": "", "CLERK_WEBHOOK_SIGNING_SECRET": ""}
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
        environment[f"{name}_FILE"] = str(tmp_path / name)
    (tmp_path / "url").write_text("postgres://somebody@127.0.0.1:9/none\n")
    (tmp_path / "mail").write_text("smtp://mail.example.com:25\n")
    environment |= {"DATABASE_URL": "", "DATABASE_URL_FILE": str(tmp_path / "url")}
    environment |= {"EMAIL_URL_FILE": str(tmp_path / "mail")}
    [fallbacks, user, host, *found] = shown(
        "SECRET_KEY_FALLBACKS",
        "DATABASES['default']['USER']",
        "EMAIL_HOST",
        *(name for name in values if name != "SECRET_KEY_FALLBACKS"),
        **environment,
    )
    assert fallbacks == repr(["a" * 60, "b" * 60])
    assert (user, host) == ("'somebody'", "'mail.example.com'")
    assert found == [repr(values[name]) for name in values if name != "SECRET_KEY_FALLBACKS"]


def test_the_scheme_that_a_client_claims_is_believed_of_a_proxy_alone():
    name = "SECURE_PROXY_SSL_HEADER"
    assert shown(name) == ["None"]
    assert shown(name, TRUSTED_PROXY_COUNT="1") == [repr(("HTTP_X_FORWARDED_PROTO", "https"))]


def test_https_is_demanded_of_this_host_alone_unless_told_otherwise():
    names = (
        "SECURE_SSL_REDIRECT",
        "SECURE_HSTS_SECONDS",
        "SECURE_HSTS_INCLUDE_SUBDOMAINS",
        "SECURE_HSTS_PRELOAD",
    )
    assert shown(*names) == ["True", "31536000", "False", "False"]
    assert shown(*names, DEBUG="1") == ["False", "0", "False", "False"]
    wanted = {"HSTS_INCLUDE_SUBDOMAINS": "true", "HSTS_PRELOAD": "true", "SSL_REDIRECT": "false"}
    assert shown(*names, **wanted) == ["False", "31536000", "True", "True"]


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


@pytest.mark.django_db
def test_health_is_answered_by_address_over_plain_http(settings):
    """A load balancer knows neither the host nor the certificate."""
    settings.ALLOWED_HOSTS, settings.SECURE_SSL_REDIRECT = ["cascade.example.com"], True
    for path in ("/healthz/", "/readyz/"):
        assert Client().get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200
        assert Client().post(path, headers={"Host": "10.0.0.7:8000"}).status_code == 405
    assert Client().get("/admin/", headers={"Host": "10.0.0.7:8000"}).status_code == 400


@pytest.mark.django_db
def test_readiness_reads_no_file_and_asks_few_questions(django_assert_max_num_queries):
    Client().get("/readyz/")
    with django_assert_max_num_queries(12), mock.patch("builtins.open", side_effect=AssertionError):
        assert Client().get("/readyz/").status_code == 200


@pytest.mark.django_db
def test_an_unapplied_migration_is_not_ready():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'users' AND name LIKE '0015%'")
    ready = Client().get("/readyz/")
    assert (ready.status_code, ready.content) == (
        503,
        b"migrations: not applied, run manage.py migrate\n",
    )


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
        if file.name == "test_on_adopted_tables.py":  # tells stories of others again
            continue
        for module in imported_by(file):
            rooms = module.split(".")
            assert not any(room.startswith("test_") for room in rooms), (file, module)
            assert folder == "bench" or rooms[0] != "bench", (file, module)


MENTIONS_OF_ANY = 56
"""The mentions in `users/`, imports included. Lower it with each one that a real type replaces."""


def test_any_does_not_spread_in_the_product():
    found = [
        f"{path.relative_to(ROOT)}:{token.start[0]}"
        for path in sorted(Path(ROOT, "users").rglob("*.py"))
        if "migrations" not in path.parts
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.NAME and token.string == "Any"
    ]
    assert len(found) <= MENTIONS_OF_ANY, "Give these a real type:\n" + "\n".join(found)


def test_a_run_changes_its_state_by_its_transitions_alone():
    """`users/models/bulk.py` has them; each names the states that it may leave."""
    columns = {"state", "requested", "finished_at"}
    found = []
    for path in sorted(Path(ROOT, "users").rglob("*.py")):
        if "migrations" in path.parts or path == Path(ROOT, "users/models/bulk.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Attribute(attr=attr, ctx=ast.Store()):
                    writes = attr in columns
                case ast.Call(func=ast.Attribute(attr="update"), keywords=keywords):
                    values = {one.arg: ast.unparse(one.value) for one in keywords}
                    of_run = "RunStatus" in values.get("state", "")  # rows have a state, too
                    writes = of_run or bool(values.keys() & {"requested", "finished_at"})
                case _:
                    writes = False
            if writes:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found, "Write it by a transition of BulkRun:\n" + "\n".join(found)
