from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest


class CascadeAdminSite(AdminSite):
    site_title = "Cascade"
    site_header = "Cascade"
    site_url = None  # there is no site beside it
    enable_nav_sidebar = False  # the list needs the width
    index_title = "Builder users and their sign-in"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """The daily work first."""
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: app["app_label"] != "users")
