"""What axe finds on a page."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe


def violations(page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{page.url}: {violation['id']}: {node['html'][:160]}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def assert_none(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join(found), pytrace=False)
