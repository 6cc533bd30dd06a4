from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "users"
    verbose_name = "Builders"

    def ready(self) -> None:
        from users import authors  # noqa: F401 — it registers itself
