"""Django's views of the change form and of the deletion, without the transaction around them.

Django runs both in one transaction. Here the attempt must be committed before Clerk is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from django.contrib import admin
from django.http import HttpRequest, HttpResponse


class _Views(Protocol):
    def _changeform_view(
        self, request: HttpRequest, object_id: str | None, form_url: str,
        extra_context: Mapping[str, object] | None,
    ) -> HttpResponse: ...  # fmt: skip

    def _delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Mapping[str, object] | None
    ) -> HttpResponse: ...


def change_form(
    model_admin: admin.ModelAdmin, request: HttpRequest, object_id: str | None, *,
    form_url: str = "", extra_context: Mapping[str, object] | None = None,
) -> HttpResponse:  # fmt: skip
    """Run Django's view of the form."""
    views = cast("_Views", model_admin)
    return views._changeform_view(request, object_id, form_url, extra_context)


def deletion(
    model_admin: admin.ModelAdmin, request: HttpRequest, object_id: str, *,
    extra_context: Mapping[str, object] | None = None,
) -> HttpResponse:  # fmt: skip
    """Run Django's view of the deletion."""
    return cast("_Views", model_admin)._delete_view(request, object_id, extra_context)
