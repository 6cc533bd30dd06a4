"""Configure the staff app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StaffConfig(AppConfig):
    """Register the system checks and the signal receivers of the app."""

    name = "staff"
    verbose_name = _("Sign-in of staff")

    def ready(self) -> None:
        """Import the modules that register themselves."""
        from staff import checks, sessions  # noqa: F401 — both register themselves
