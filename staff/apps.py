"""Configure the staff app."""

from django.apps import AppConfig


class StaffConfig(AppConfig):
    """Register the system checks and the signal receivers of the app."""

    name = "staff"
    verbose_name = "Sign-in of staff"

    def ready(self) -> None:
        """Import the modules that register themselves."""
        from staff import checks, sessions  # noqa: F401 — both register themselves
