"""Use a page as somebody does who has no mouse."""

from __future__ import annotations

import pytest

FOCUS = "document.activeElement.textContent"


def tab_to(page, target, *, key="Tab"):
    """Reach a control; with `key="Shift+Tab"`, backwards."""
    for _ in range(200):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press(key)
    pytest.fail("Tab does not reach this control.")


def press_on(page, target, key="Enter"):
    """Reach a control, and press a key there."""
    tab_to(page, target)
    page.keyboard.press(key)


def skip_to(page, text):
    """Follow a skip link. It must be one of the first two stops of a page."""
    link = page.get_by_role("link", name=text)
    for _ in range(2):
        page.keyboard.press("Tab")
        if link.count() and link.evaluate("element => element === document.activeElement"):
            assert link.evaluate("element => element.getBoundingClientRect().top >= 0")
            page.keyboard.press("Enter")
            return
    pytest.fail(f"“{text}” is not one of the first two stops.")


def focused(page):
    """Return the text of what has the focus."""
    return " ".join(page.evaluate(FOCUS).split())
