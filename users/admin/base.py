"""What several admins share."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html

from users.errors import ChangeFailed

EXACT = 10_000


class CappedPaginator(Paginator):
    """Counts up to ten thousand rows: counting a million takes longer than showing them."""

    @cached_property
    def count(self) -> int:
        return int(self.object_list.order_by()[: EXACT + 1].count())  # type: ignore[union-attr]


class ReadOnlyAdmin(admin.ModelAdmin):
    """A record that staff look at and nobody edits."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def say(request: HttpRequest, failure: ChangeFailed, about: str = "") -> None:
    """A failure as a message, where there is no form to show it in."""
    text = " ".join([failure.message, *sum(failure.fields.values(), [])])
    trace = f" Clerk's trace id: {failure.trace_id}." if failure.trace_id else ""
    messages.error(request, format_html("{}{}{}", f"{about}: " if about else "", text, trace))
