"""Why the demo cannot run."""


class DemoError(Exception):
    """The text is one line that says what to do."""
