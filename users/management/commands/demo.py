"""`make demo`: everything on one machine, no account, no key."""

from __future__ import annotations

import base64
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import requests
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.utils import timezone

from cascade import demo_environment, embedded_postgres
from users.clerk import ClerkUser
from users.management.demo_people import ONLY_IN_CLERK, Person, groups, people
from users.models import BuilderGroup, BuilderUser
from users.sync.mirror import store

LOGIN = "demo"
FRONT_END = "http://localhost:3000"
"""The origin that the sandbox's page offers for session tokens."""
READY_SECONDS = 60
STOPPING = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1


class Command(BaseCommand):
    help = "Run the demo: PostgreSQL, a sandbox of Clerk and the admin, until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        """1. migrate; 2. start the sandbox; 3. load people where there are none; 4. start the
        admin and the worker; 5. share the environment with other terminals; 6. say when it is
        ready and wait. Whatever ends it, it stops what it started; so does the death of the
        `make` that it runs under."""
        if not settings.DEBUG:
            raise CommandError("The demo runs with DEBUG=1 alone: it uses a known login.")
        folder: Path = settings.DEMO_DIR
        folder.mkdir(exist_ok=True)
        if demo_environment.running(folder):
            raise CommandError("The demo runs in this checkout already. Stop it first.")
        port, sandbox_port = _port("PORT", 8000), _port("SANDBOX_PORT", 8001)
        for number in STOPPING:  # a shell's background job ignores INT
            signal.signal(number, _interrupt)
        self.children: list[tuple[str, subprocess.Popen[bytes]]] = []
        own = _own_environment(folder, sandbox_port)
        environment = {**os.environ, **own}
        try:
            call_command("migrate", verbosity=0)
            self._start(
                "The sandbox",
                ["-m", "sandbox", "--port", str(sandbox_port),
                 "--state-file", str(folder / "sandbox.json"),
                 "--webhook-url", f"http://127.0.0.1:{port}/webhooks/clerk/"],
                environment,
            )  # fmt: skip
            sandbox = f"http://127.0.0.1:{sandbox_port}"
            self._wait_for(f"{sandbox}/_sandbox/faults")
            _load(sandbox)
            environment |= _front_end(sandbox)
            password = _login(folder)
            self._start(
                "The admin",
                ["-m", "gunicorn", "cascade.wsgi", "--bind", f"127.0.0.1:{port}",
                 "--worker-class", "gthread", "--threads", "8", "--log-level", "warning"],
                environment,
            )  # fmt: skip
            self._start("The worker", ["manage.py", "procrastinate", "worker"], environment)
            self._wait_for(f"http://127.0.0.1:{port}/readyz/")
            with demo_environment.shared(folder, own):
                self.stdout.write(_ready(port, sandbox, password))
                self.stdout.flush()
                self._wait_for_the_end()
        except KeyboardInterrupt:
            self.stdout.write("\nStopping.")
        finally:
            self._stop()

    def _wait_for_the_end(self) -> None:
        started_by = os.getppid()
        while not (os.environ.get("MAKELEVEL") and os.getppid() != started_by):
            self._check_children()
            time.sleep(0.5)

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command],
            cwd=settings.BASE_DIR,
            env=environment,
            # A group of its own: Ctrl-C is ours to hand on, in order.
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        self.children.append((name, child))

    def _check_children(self) -> None:
        for name, child in self.children:
            if child.poll() is not None:
                raise CommandError(f"{name} ended by itself (exit code {child.returncode}).")

    def _wait_for(self, url: str) -> None:
        for _ in range(READY_SECONDS * 10):
            self._check_children()
            try:
                if requests.get(url, timeout=5).ok:
                    return
            except (requests.ConnectionError, requests.Timeout):
                pass
            time.sleep(0.1)
        raise CommandError(f"{url} did not answer within {READY_SECONDS} seconds.")

    def _stop(self) -> None:
        for number in STOPPING:  # an impatient second Ctrl-C must leave nothing behind
            signal.signal(number, signal.SIG_IGN)
        for _, child in reversed(self.children):
            child.terminate()
        for _, child in reversed(self.children):
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A demo that is killed leaves no children on the ports of the next one."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _port(name: str, default: int) -> int:
    """A free port from the environment, or one line that says what to change."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CommandError(f"{name} must be a port number, not {text}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(text)))
        except OSError:
            raise CommandError(
                f"Port {text} is taken. Choose another one: make demo {name}={int(text) + 10}"
            ) from None
    return int(text)


def _own_environment(folder: Path, sandbox_port: int) -> dict[str, str]:
    """Return the variables of the demo's own installation."""
    return {
        "DEBUG": "1",
        "DATABASE_URL": os.environ.get("DATABASE_URL")
        or embedded_postgres.url(settings.BASE_DIR / ".postgres"),
        "CLERK_SECRET_KEY": _kept(folder / "clerk-key", f"sk_test_{secrets.token_hex(16)}"),
        "CLERK_API_URL": f"http://127.0.0.1:{sandbox_port}/v1",
        "CLERK_WEBHOOK_SIGNING_SECRET": _kept(
            folder / "webhook-secret",
            "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
        ),
    }


def _ready(port: int, sandbox: str, password: str) -> str:
    return (
        "\nCascade is ready.\n\n"
        f"  Admin     http://127.0.0.1:{port}/admin/"
        f"   sign in as {LOGIN}, password {password}\n"
        f"  Sandbox   {sandbox}/   Clerk's side: users, faults, inbox\n"
        "  Commands  in a second terminal, in this folder: source .venv/bin/activate,\n"
        "            then for example python manage.py clerk_check\n\n"
        "Ctrl-C stops the demo."
    )


def _front_end(sandbox: str) -> dict[str, str]:
    """What the API needs to know of the pages whose people sign in at the sandbox."""
    key = requests.get(f"{sandbox}/_sandbox/jwt-key", timeout=60).json()["pem"]
    return {"CLERK_JWT_KEY": key, "CORS_ALLOWED_ORIGINS": FRONT_END}


def _kept(file: Path, value: str) -> str:
    """A value that is made once for this checkout."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(value)
    return file.read_text()


def _login(folder: Path) -> str:
    password = _kept(folder / "password", secrets.token_urlsafe(9))
    users = get_user_model().objects
    if not users.filter(username=LOGIN).exists():
        users.create_superuser(LOGIN, "demo@example.com", password, first_name="Demo")
    return password


def _days_ago(days: int | None) -> int | None:
    """In milliseconds, as Clerk tells times."""
    return None if days is None else int((time.time() - days * 86_400) * 1000)


def _load(sandbox: str) -> None:
    """Load about 200 people in 20 groups, unless there are users already.

    Nearly all of them match Clerk. The others give the bulk commands something to do.
    """
    if BuilderUser.objects.exists():
        return
    everybody = people()
    known = _make_accounts(sandbox, everybody)
    accounts = iter(known)
    with transaction.atomic():
        rows = [BuilderGroup.objects.create(name=name) for name in groups()]
        for person in everybody:
            account = next(accounts) if person.clerk_name else None
            BuilderUser.objects.create(
                name=person.name,
                email=person.email,
                role=person.role,
                internal_role=person.internal_role,
                builder_group=rows[person.group] if person.group is not None else None,
                clerk_id=account.id if account else None,
            )
    store.keep_all(known)
    connection.close()


def _make_accounts(sandbox: str, everybody: list[Person]) -> list[ClerkUser]:
    """Make the Clerk accounts: those of `everybody` in their order, then those without a user."""
    wanted = [
        _account(person.email, *person.clerk_name, signed_in=person.signed_in)
        for person in everybody
        if person.clerk_name
    ]
    wanted += [_account(email, first, last) for first, last, email in ONLY_IN_CLERK]
    answer = requests.post(f"{sandbox}/_sandbox/users", json=wanted, timeout=60)
    asked_at = timezone.now()
    return [ClerkUser.parse(entry, asked_at=asked_at) for entry in answer.json()]


def _account(
    email: str, first_name: str, last_name: str, *, signed_in: int | None = None
) -> dict[str, Any]:
    return {
        "email": email,
        "first_name": first_name,
        "last_name": last_name,
        "password_enabled": True,
        "last_sign_in_at": _days_ago(signed_in),
    }
