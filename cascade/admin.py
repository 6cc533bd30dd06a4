"""Configure the admin site."""

from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from staff.forms import SignInForm, StaffPasswordChangeForm


class CascadeAdminSite(AdminSite):
    """Use the sign-in of `staff`, and show builder users first."""

    site_title = "Cascade"
    site_header = "Cascade"
    site_url = None  # there is no public site
    enable_nav_sidebar = False  # the list of users needs the width
    login_form = SignInForm
    index_title = _("Builder users and their sign-in")

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Put builder users, the daily work, before the other apps."""
        apps = super().get_app_list(request, app_label)
        return sorted(apps, key=lambda app: app["app_label"] != "users")

    def get_urls(self) -> list[Any]:
        """Remove Django's redirect from an object to its page on a public site.

        The redirect would reveal to every staff user which ids exist.
        """
        return [
            entry for entry in super().get_urls() if getattr(entry, "name", "") != "view_on_site"
        ]

    # Overrides Django's `login_not_required`, so that the middleware also ends old sessions here.
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Name the company's provider on the login page, if one is configured."""
        company = settings.OIDC_NAME if settings.OIDC_ISSUER else ""
        return super().login(request, {**(extra_context or {}), "company": company})

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show Django's own page with a form that limits wrong old passwords."""
        view = PasswordChangeView.as_view(
            form_class=StaffPasswordChangeForm,
            success_url=reverse("admin:password_change_done"),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        return view(request)
