"""What the tests stand on: a sandbox of Clerk over loopback HTTP, real PostgreSQL, a browser."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from collections.abc import Iterator
from typing import Any
from unittest import mock

import hypothesis
import pytest
from django.core.management.commands import flush
from django.db import connection
from django.test import Client, override_settings

from sandbox import Sandbox
from staff import provider as client_side
from tests.support.adopted import make_adopted
from tests.support.databases import made_once
from tests.support.factories import StaffFactory
from tests.support.flush import empty
from tests.support.front_end import ORIGIN
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, Provider
from users.clerk import warm_up

hypothesis.settings.register_profile(
    "cascade",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a slow machine is no fault
    print_blob=True,
)
hypothesis.settings.load_profile("cascade")


@pytest.hookimpl(optionalhook=True)  # pytest may run without xdist
def pytest_xdist_auto_num_workers() -> int:
    """Run two workers more than there are cores: tests also wait for deadlines and processes."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture(scope="session", autouse=True)
def _loopback_only() -> Iterator[None]:
    """No test talks to anybody but this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple):
            host = address[0]
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                raise AssertionError(f"a test tried to reach {host}")
        return connect(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.fixture(scope="session", autouse=True)
def _quick_flush() -> Iterator[None]:
    with mock.patch.object(flush.Command, "handle", lambda _, **options: empty(**options)):
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Let no commit in the test database wait for the disk, whichever process commits.

    At the end no session may be left, or the database cannot be dropped: the pool may be opening
    another connection while it is closed.
    """
    with django_db_blocker.unblock():
        name = connection.settings_dict["NAME"]
        with connection.cursor() as cursor:
            database = connection.ops.quote_name(name)
            cursor.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
        connection.close()
        connection.close_pool()  # open connections keep the setting that they began with
    yield
    with django_db_blocker.unblock():
        connection.close()
        connection.close_pool()
        with connection._nodb_cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = %s",
                [name],
            )


@pytest.fixture(scope="session")
def adopted_template(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """A database that was adopted once in the test run, to be copied."""
    with django_db_blocker.unblock(), made_once("adopted", make_adopted) as name:
        yield name


@pytest.fixture(scope="session", autouse=True)
def _static_files_on_demand() -> Iterator[None]:
    """Find a static file when it is requested.

    Otherwise WhiteNoise lists all files for each new client, which takes as long as a save.
    """
    with override_settings(WHITENOISE_AUTOREFRESH=True):
        yield


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[Sandbox]:
    warm_up()  # as a server process does: imports count against no deadline
    sandbox = Sandbox(secret_key="sk_test_sandbox").start()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def sandbox(running_sandbox: Sandbox, settings) -> Iterator[Sandbox]:
    """An empty Clerk. The deadline is generous: a slow machine must not fail a story."""
    settings.CLERK_API_URL = running_sandbox.url
    settings.CLERK_SECRET_KEY = running_sandbox.secret_key
    settings.CLERK_WEBHOOK_SIGNING_SECRET = running_sandbox.webhooks.secret
    settings.CLERK_EDIT_DEADLINE = 30.0
    running_sandbox.reset()
    yield running_sandbox
    running_sandbox.reset()


@pytest.fixture
def staff(db):
    return StaffFactory(username="staff", first_name="Sam", last_name="Staff")


@pytest.fixture
def client(staff) -> Client:
    """A browser without JavaScript, signed in as a staff member who may do everything."""
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.fail("No Chromium: run `make browser`, or set CHROMIUM to its path.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, live_server, staff) -> Iterator[Any]:
    """A page of a real browser, signed in, with the real server behind it."""
    client = Client()
    client.force_login(staff)
    context = chromium.new_context(
        base_url=live_server.url, viewport={"width": 1280, "height": 900}
    )
    context.set_default_timeout(120_000)
    cookie = client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def running_provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def company(running_provider: Provider, settings) -> Provider:
    """The company's OpenID provider, named in the settings."""
    running_provider.reset()
    client_side._app_of.cache_clear()
    settings.OIDC_ISSUER = running_provider.issuer
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT_ID, CLIENT_SECRET
    settings.OIDC_NAME = "Example & Sons"
    settings.OIDC_EMAIL_DOMAINS = ["example.com"]
    return running_provider


@pytest.fixture
def front_end(sandbox: Sandbox, settings) -> None:
    """A front end at one origin, whose people sign in at the sandbox."""
    settings.CLERK_JWT_KEY = sandbox.session_key.public_pem
    settings.CORS_ALLOWED_ORIGINS = [ORIGIN]
