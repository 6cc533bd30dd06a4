"""`python -m sandbox`: run until Ctrl-C. CLERK_SECRET_KEY is the key that it accepts."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from sandbox import Limits, Sandbox, StateFileError, seed


def main() -> int:
    """Run the sandbox until a signal; return the exit code."""
    options = _options()
    try:
        sandbox = _sandbox(options)
    except (seed.SeedError, StateFileError) as error:
        return _failed(f"cannot start: {error}")
    except OSError as error:
        return _failed(f"cannot use port {options.port}: {error.strerror}")
    except ValueError as error:
        return _failed(f"cannot send webhooks: {error}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sandbox.start()
    print(f"Sandbox of Clerk: {sandbox.root}", flush=True)
    stop.wait()
    sandbox.stop()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--seed", type=Path, metavar="FILE", help="users to start with (YAML)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--limits", choices=["live", "test"], help="Clerk's rate limits")
    parser.add_argument("--state-file", type=Path, metavar="FILE", help="keeps all over a restart")
    parser.add_argument(
        "--webhook-url",
        metavar="URL",
        help="where events go, signed with CLERK_WEBHOOK_SIGNING_SECRET",
    )
    return parser.parse_args()


def _sandbox(options: argparse.Namespace) -> Sandbox:
    """Return the sandbox. If it has no users yet, add those of the seed file."""
    people = seed.read(options.seed) if options.seed else []
    sandbox = Sandbox(
        secret_key=os.environ.get("CLERK_SECRET_KEY") or "sk_test_sandbox",
        port=options.port,
        latency=options.latency,
        limits=Limits.of_key(f"sk_{options.limits}_") if options.limits else None,
        state_file=options.state_file,
    )
    if people and not sandbox.users():
        sandbox.fill(len(people), people.__getitem__)
    if options.webhook_url:
        secret = os.environ.get("CLERK_WEBHOOK_SIGNING_SECRET") or None
        sandbox.webhooks.send_to(options.webhook_url, secret)
    return sandbox


def _failed(reason: str) -> int:
    print(f"The sandbox {reason}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
