"""The environment of a test run, loaded before Django reads its settings (pytest -p)."""

import os
import signal

# A shell lets a job in the background ignore SIGINT, and so would each process of a test.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["DEBUG"] = "1"
os.environ["CLERK_SECRET_KEY"] = "sk_test_sandbox"
os.environ["CLERK_API_URL"] = "http://127.0.0.1:9/v1"  # nobody; the fixture sandbox is somebody
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright keeps an event loop in the main thread
os.environ["DATABASE_WAIT_SECONDS"] = "600"  # a slow machine is no database that hangs
os.environ.setdefault("LOG_LEVEL", "WARNING")
