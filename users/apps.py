"""The Django application of builder users."""

from django.apps import AppConfig


class UsersConfig(AppConfig):
    """The application `users`, shown to staff as “Builders”."""

    name = "users"
    verbose_name = "Builders"

    def ready(self) -> None:
        """Import `users.authors`, so that its signal receiver is registered."""
        from users import authors  # noqa: F401 — the import registers a receiver
