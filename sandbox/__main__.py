"""`python -m sandbox`: run until Ctrl-C. CLERK_SECRET_KEY is the key that it accepts."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from sandbox import Limits, Sandbox, StateFileError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--limits", choices=["live", "test"], help="Clerk's rate limits")
    parser.add_argument("--state-file", type=Path)
    parser.add_argument(
        "--webhook-url", help="where events go, signed with CLERK_WEBHOOK_SIGNING_SECRET"
    )
    options = parser.parse_args()
    limits = Limits.of_key(f"sk_{options.limits}_") if options.limits else None
    try:
        sandbox = Sandbox(
            secret_key=os.environ.get("CLERK_SECRET_KEY") or "sk_test_sandbox",
            port=options.port,
            latency=options.latency,
            limits=limits,
            state_file=options.state_file,
        )
    except StateFileError as error:
        print(f"The sandbox cannot start: {error}.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The sandbox cannot use port {options.port}: {error.strerror}.", file=sys.stderr)
        return 1
    if options.webhook_url:
        secret = os.environ.get("CLERK_WEBHOOK_SIGNING_SECRET") or None
        try:
            sandbox.webhooks.send_to(options.webhook_url, secret)
        except ValueError as error:
            print(f"The sandbox cannot send webhooks: {error}.", file=sys.stderr)
            return 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    sandbox.start()
    print(f"Sandbox of Clerk: {sandbox.root}", flush=True)
    stop.wait()
    sandbox.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
