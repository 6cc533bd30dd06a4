"""Commands, called in this process or as a process of their own on the same database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from django.core.management import CommandError, call_command
from django.db import connection

from sandbox import Sandbox
from tests.support.processes import Process

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> tuple[int, str]:
    """Exit code of a command, and all that it says."""
    out = StringIO()
    code, error = _call(arguments, out, out)
    return code, f"{out.getvalue()}{error}"


def run_apart(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code of a command, its stdout, and its stderr."""
    out, errors = StringIO(), StringIO()
    code, error = _call(arguments, out, errors)
    return code, out.getvalue(), f"{errors.getvalue()}{error}"


def _call(arguments: Sequence[str | Path], out: StringIO, errors: StringIO) -> tuple[int, str]:
    try:
        call_command(*map(str, arguments), stdout=out, stderr=errors)
    except SystemExit as end:
        return int(end.code or 0), ""
    except CommandError as error:
        return 1, str(error)
    return 0, ""


def trusting(arguments: Sequence[str | Path]) -> list[str | Path]:
    """Arguments of a bulk command that trusts our copy; a resumed run never looks at Clerk."""
    return [*arguments] if "--resume" in arguments else [*arguments, "--no-refresh"]


def environment(sandbox: Sandbox) -> dict[str, str]:
    """The environment of a process on the database of the test."""
    database = connection.settings_dict
    url = f"postgres://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    return {
        **os.environ,
        "DATABASE_URL": url,
        "CLERK_API_URL": sandbox.url,
        "CLERK_SECRET_KEY": sandbox.secret_key,
    }


def start(sandbox: Sandbox, *arguments: str | Path) -> Process:
    """The command as a process of its own, on the database of the test."""
    return Process(*arguments, environment=environment(sandbox))
