"""Text that would harm a terminal, and commands whose output a test reads."""

from __future__ import annotations

import subprocess
import sys

from tests.support.commands import ROOT, environment
from tests.support.processes import Process

ESCAPE = "\x1b]0;owned\x07Eve\x1b[2K\u202e"
"""Sets the title of a terminal, clears the line, and turns what follows round."""


def harmless(text: str) -> bool:
    return not any(character in text for character in "\x1b\x07\u202e")


def piped(sandbox, *arguments: str, **variables: str) -> Process:
    """Start a command whose stdout and stderr are bytes, each in a pipe of its own."""
    return Process(
        *arguments, environment=environment(sandbox) | variables, text=False, separate_errors=True
    )


def python_piped(sandbox, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    """Do the same in a new Python, which reads its own variables as it starts."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "manage.py", *arguments], cwd=ROOT,
        env=environment(sandbox) | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
