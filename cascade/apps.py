"""Configure Django's admin app."""

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig
from django.core import checks


class AdminConfig(DjangoAdminConfig):
    """Make `CascadeAdminSite` the default admin site, and register the checks of the project."""

    default_site = "cascade.admin.CascadeAdminSite"

    def ready(self) -> None:
        """Import `cascade.checks` when the settings are complete."""
        super().ready()
        from cascade.checks import check_schemas

        checks.register(check_schemas)
