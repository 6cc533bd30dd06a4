"""Run the demo until Ctrl-C: `python -m demo`. `make demo` calls it with its environment."""

from __future__ import annotations

import os
import sys

import django
from django.core.exceptions import ImproperlyConfigured

from demo.errors import DemoError


def main() -> int:
    """Run the demo; return the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cascade.settings")
    try:
        django.setup()
        from demo.run import run  # imports models, so it must follow `django.setup()`

        run()
    except (DemoError, ImproperlyConfigured) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
