"""The admin of background jobs."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from procrastinate.contrib.django.admin import ProcrastinateJobAdmin
from procrastinate.contrib.django.models import ProcrastinateJob

from users.admin.base import SafeAdmin

admin.site.unregister(ProcrastinateJob)


@admin.register(ProcrastinateJob)
class JobAdmin(SafeAdmin, ProcrastinateJobAdmin):  # type: ignore[misc]  # it has no types
    """Background jobs.

    Procrastinate's page lets everybody who can view jobs retry and cancel them too.
    """

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let only superusers view jobs."""
        return bool(request.user.is_superuser)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """List jobs nowhere: only somebody who knows their address opens them."""
        return False
