"""The campaign at length: `python -m tests.campaign --scenarios 5000 --kills 200`."""

from __future__ import annotations

import argparse
import os
import sys

import pytest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--scenarios", type=int, default=5000)
    parser.add_argument("--histories", type=int, default=2000, help="of events, in every order")
    parser.add_argument("--kills", type=int, default=200, help="at each step of a save")
    options = parser.parse_args()
    os.environ |= {
        "CAMPAIGN_SCENARIOS": str(options.scenarios),
        "CAMPAIGN_HISTORIES": str(options.histories),
        "CAMPAIGN_KILLS": str(options.kills),
        "BULK_ROWS": "500",
        "BULK_KILLS": "20",
        "STRANGE_BODIES": "10000",
    }
    tests = [
        "tests/campaign",
        "tests/test_bulk_kills.py",
        "tests/test_webhooks.py::test_strange_bodies",
    ]
    return pytest.main(["-v", "--durations=0", "--timeout=0", *tests])  # it runs for hours


if __name__ == "__main__":
    sys.exit(main())
