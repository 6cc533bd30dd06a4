"""What axe finds on a page, in light and in dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}
"""The rules that look at colours. The others find the same in light and in dark."""

_RUN = "axe.run(document, %s).then(found => found.violations)"


def found_in(page: Any, scheme: str) -> list[dict[str, Any]]:
    """List what axe finds on a page in one of its colour schemes: in dark, wrong colours alone."""
    # Half a page has an input whose label is not there yet.
    page.wait_for_load_state()
    # No colour may still be on its way from one scheme to the other.
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    rules = COLOURS if scheme == "dark" else {}
    found: list[dict[str, Any]] = page.evaluate(
        _RUN % json.dumps({**rules, "resultTypes": ["violations"]})
    )
    return found


def violations(page: Any) -> list[str]:
    """List what is serious or critical on a page, in light and in dark."""
    return list(_serious(page))


def _serious(page: Any) -> Iterator[str]:
    for scheme in ("light", "dark"):
        for found in found_in(page, scheme):
            if found["impact"] in ("serious", "critical"):
                for node in found["nodes"]:
                    yield f"{page.url}: {scheme}: {found['id']}: {node['html'][:160]}"


def assert_none(found: list[str]) -> None:
    if found:
        pytest.fail("\n".join(found), pytrace=False)
