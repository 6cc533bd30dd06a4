"""Route all addresses of the project but those of `cascade.health`."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from users.webhooks import clerk_webhook

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("", include("staff.urls")),  # before the admin, which matches every address below it
    path("admin/", admin.site.urls),
    path("api/", include("users.api.urls")),
    path("webhooks/clerk/", clerk_webhook, name="clerk_webhook"),
]
