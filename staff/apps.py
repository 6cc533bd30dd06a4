from django.apps import AppConfig


class StaffConfig(AppConfig):
    name = "staff"
    verbose_name = "Sign-in of staff"

    def ready(self) -> None:
        from staff import checks, sessions  # noqa: F401 — both register themselves
