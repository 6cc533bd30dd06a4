#!/usr/bin/env python
"""Run Django's commands, and report a missing installation in one line without a traceback."""

import os
import sys
from importlib.util import find_spec


def main() -> None:
    """Join a running demo, and run the command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed in this Python. Run first: source .venv/bin/activate")
    _join_demo()
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(str(error))


def _join_demo() -> None:
    """Use the variables of a demo that runs in this checkout. A server may lack `demo/`."""
    if find_spec("demo"):
        from demo import environment

        environment.join()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
