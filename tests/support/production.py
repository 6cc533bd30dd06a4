"""The settings of an installation, checked in a process of its own."""

from __future__ import annotations

import os
import subprocess

from tests.support import processes
from tests.support.commands import ROOT
from tests.support.patience import PATIENCE

PRODUCTION = {
    "SECRET_KEY": "s" * 60,
    "ALLOWED_HOSTS": "cascade.example.com",
    "DATABASE_URL": "postgres://nobody@127.0.0.1:9/none",
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_b25seS1mb3ItdGVzdHM=",
}


def check(**environment):
    """`manage.py check` in an environment of its own."""
    return manage("check", **environment)


def manage(*arguments, **environment):
    """A command of `manage.py` in an environment of its own."""
    return processes.run(*arguments, environment=_alone(environment), timeout=PATIENCE)


def run_program(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an environment that holds nothing else than its path."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=_alone(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def _alone(environment: dict[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **environment}
