"""The Django application of builder users."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class UsersConfig(AppConfig):
    """The application `users`, shown to staff as “Builders”."""

    name = "users"
    verbose_name = _("Builders")

    def ready(self) -> None:
        """Import the modules that have receivers of signals, so that these are registered."""
        from users import authors, slots  # noqa: F401 — the imports register receivers
