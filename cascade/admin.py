from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest
from django.urls import reverse

from staff.forms import SignInForm, StaffPasswordChangeForm


class CascadeAdminSite(AdminSite):
    site_title = "Cascade"
    site_header = "Cascade"
    site_url = None  # there is no site beside it
    enable_nav_sidebar = False  # the list needs the width
    login_form = SignInForm
    index_title = "Builder users and their sign-in"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """The daily work first."""
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: app["app_label"] != "users")

    def get_urls(self) -> list[Any]:
        """Django's pages without the one that looks for an object's page on a site beside this
        one: it tells anybody among staff which ids exist."""
        return [
            entry for entry in super().get_urls() if getattr(entry, "name", "") != "view_on_site"
        ]

    # Without Django's `login_not_required`: a session that has ended is closed here, too.
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        company = settings.OIDC_NAME if settings.OIDC_ISSUER else ""
        return super().login(request, {**(extra_context or {}), "company": company})

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Django's own page, with a form that limits wrong old passwords."""
        view = PasswordChangeView.as_view(
            form_class=StaffPasswordChangeForm,
            success_url=reverse("admin:password_change_done"),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)
