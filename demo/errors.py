"""Errors of the demo."""


class DemoError(Exception):
    """The demo cannot run. The text is one line that says what to do."""
