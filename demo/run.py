"""Start the demo and stop it again."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
from pathlib import Path
from types import FrameType

import requests
from django.conf import settings
from django.core.management import call_command

from cascade import embedded_postgres
from demo import data, environment
from demo.environment import CHECKOUT, FOLDER
from demo.errors import DemoError
from demo.processes import STOPPING, Processes

FRONT_END = "http://localhost:3000"
"""The origin that the sandbox's page offers for session tokens."""


def run() -> None:
    """Start the demo, share its environment with other terminals, and wait for its end.

    The demo stops all its processes, whatever ends it. It also ends if the `make` above it ends.

    Raises:
        DemoError: The demo cannot start, or one of its processes has ended.
    """
    port, sandbox_port = _prepared()
    own = _own_environment(sandbox_port)
    processes = Processes()
    try:
        ready = _start(processes, own, port=port, sandbox_port=sandbox_port)
        with environment.shared(own):
            print(ready, flush=True)
            processes.watch()
    except KeyboardInterrupt:
        print("\nStopping.")
    finally:
        processes.stop()


def _prepared() -> tuple[int, int]:
    """Create the folder and set the signal handlers; return the ports of admin and sandbox.

    Raises:
        DemoError: DEBUG is off, or the demo already runs in this checkout.
    """
    if not settings.DEBUG:
        raise DemoError("The demo runs only with DEBUG=1: use make demo.")
    FOLDER.mkdir(exist_ok=True)
    if environment.running():
        raise DemoError("The demo runs in this checkout already. Stop it first.")
    ports = _port("PORT", 8000), _port("SANDBOX_PORT", 8001)
    for number in STOPPING:  # a shell starts background jobs with SIGINT ignored
        signal.signal(number, _interrupt)
    return ports


def _start(processes: Processes, own: dict[str, str], *, port: int, sandbox_port: int) -> str:
    """Migrate, start the sandbox, load the data, start the product; return what to print."""
    call_command("migrate", verbosity=0)
    variables = {**os.environ, **own}
    sandbox = f"http://127.0.0.1:{sandbox_port}"
    processes.start(
        "The sandbox",
        *("-m", "sandbox", "--port", str(sandbox_port)),
        *("--state-file", str(FOLDER / "sandbox.json")),
        *("--webhook-url", f"http://127.0.0.1:{port}/webhooks/clerk/"),
        environment=variables,
    )
    processes.wait_for(f"{sandbox}/_sandbox/faults")
    data.load(sandbox)
    password = _kept(FOLDER / "password", secrets.token_urlsafe(9))
    data.create_login(password)
    _start_product(processes, variables | _front_end(sandbox), port=port)
    return _ready(port, sandbox, password=password)


def _start_product(processes: Processes, variables: dict[str, str], *, port: int) -> None:
    """Start the admin and the worker; wait until both are ready."""
    processes.start(
        "The admin",
        *("-m", "gunicorn", "cascade.wsgi", "--bind", f"127.0.0.1:{port}"),
        *("--workers", "1", "--log-level", "warning"),
        environment=variables,
    )
    processes.start("The worker", "manage.py", "procrastinate", "worker", environment=variables)
    processes.wait_for(f"http://127.0.0.1:{port}/readyz/")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _port(name: str, default: int) -> int:
    """Return the port from the environment, or `default`.

    Raises:
        DemoError: The text is not a port number, or another process uses the port.
    """
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise DemoError(f"{name} must be a port number, not {text}.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(text)))
        except OSError:
            raise DemoError(
                f"Port {text} is taken. Choose another one: make demo {name}={int(text) + 10}"
            ) from None
    return int(text)


def _own_environment(sandbox_port: int) -> dict[str, str]:
    """Return the variables of the demo's own installation."""
    return {
        "DEBUG": "1",
        "DATABASE_URL": os.environ.get("DATABASE_URL")
        or embedded_postgres.url(CHECKOUT / ".postgres"),
        "CLERK_SECRET_KEY": _kept(FOLDER / "clerk-key", f"sk_test_{secrets.token_hex(16)}"),
        "CLERK_API_URL": f"http://127.0.0.1:{sandbox_port}/v1",
        "CLERK_WEBHOOK_SIGNING_SECRET": _kept(
            FOLDER / "webhook-secret",
            "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode(),
        ),
    }


def _front_end(sandbox: str) -> dict[str, str]:
    """Return the variables that the API needs for pages whose people sign in at the sandbox."""
    key = requests.get(f"{sandbox}/_sandbox/jwt-key", timeout=60).json()["pem"]
    return {"CLERK_JWT_KEY": key, "CORS_ALLOWED_ORIGINS": FRONT_END}


def _kept(file: Path, value: str) -> str:
    """Return the content of `file`. If the file does not exist, create it with `value`."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(value)
    return file.read_text()


def _ready(port: int, sandbox: str, *, password: str) -> str:
    return (
        "\nCascade is ready.\n\n"
        f"  Admin     http://127.0.0.1:{port}/admin/"
        f"   sign in as {data.LOGIN}, password {password}\n"
        f"  Sandbox   {sandbox}/   Clerk's side: users, faults, inbox\n"
        "  Commands  in a second terminal, in this folder: source .venv/bin/activate,\n"
        "            then for example python manage.py clerk_check\n\n"
        "Ctrl-C stops the demo."
    )
