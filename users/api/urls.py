"""The addresses of the API."""

from django.urls import path

from users.api import views

urlpatterns = [
    path("update-clerk-user", views.update_clerk_user, name="update_clerk_user"),
    path("users/<str:user_id>", views.update_user, name="update_user"),
    path("sync-user", views.sync_user, name="sync_user"),
    path("", views.no_such_endpoint),
    path("<path:rest>", views.no_such_endpoint),
]
