"""Configure Django's admin app."""

from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class AdminConfig(DjangoAdminConfig):
    """Make `CascadeAdminSite` the default admin site."""

    default_site = "cascade.admin.CascadeAdminSite"
