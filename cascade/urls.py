"""Route all addresses of the project but those of `cascade.health`."""

from django.contrib import admin
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import include, path
from django.views.generic import RedirectView

from users.webhooks import clerk_webhook


def favicon(request: HttpRequest) -> HttpResponse:
    """Redirect to the icon: browsers ask for it here on pages that name none."""
    return HttpResponseRedirect(staticfiles_storage.url("users/favicon.svg"))


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("", include("staff.urls")),  # before the admin, which matches every address below it
    path("favicon.ico", favicon, name="favicon"),
    path("admin/", admin.site.urls),
    path("api/", include("users.api.urls")),
    path("webhooks/clerk/", clerk_webhook, name="clerk_webhook"),
]
