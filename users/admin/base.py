"""What several admins share."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import BadRequest, ValidationError
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join

from users.admin.holder import holder_link
from users.errors import ChangeFailed
from users.models import BuilderUser
from users.sync import unseen
from users.sync.recovery import RecoveryResult

EXACT = 10_000


class CappedPaginator(Paginator):
    """Counts up to ten thousand rows: counting a million takes longer than showing them."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: EXACT + 1].count())


class SafeAdmin(admin.ModelAdmin):
    """Whatever stands in an address is an answer, never a 500: PostgreSQL has no NUL, and
    lookups in the query string reach it as they are."""

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            return super().get_changelist_instance(request)
        except (DataError, ValueError):
            raise IncorrectLookupParameters from None

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """No address fills in a form."""
        return {}

    def response_action(
        self, request: HttpRequest, queryset: QuerySet[Any], *location: Any, **named: Any
    ) -> Any:
        try:
            for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(chosen)
        except ValidationError:
            raise BadRequest("What was chosen in the list is no id.") from None
        return super().response_action(request, queryset, *location, **named)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return super().get_search_results(request, queryset, search_term.replace("\0", ""))


class ReadOnlyAdmin(SafeAdmin):
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


def link_to(user: BuilderUser | None, label: str) -> str:
    """The user as known then, linked while they exist."""
    if user is None:
        return label or "—"
    return format_html('<a href="{}">{}</a>', user.get_absolute_url(), label)


def say(request: HttpRequest, failure: ChangeFailed, about: str = "") -> None:
    """A failure as a message, where there is no form to show it in."""
    trace = f"Clerk's trace id: {failure.trace_id}." if failure.trace_id else ""
    parts = [
        f"{about}:" if about else "",
        failure.full_message,
        holder_link(request, failure),
        trace,
    ]
    messages.error(request, format_html_join(" ", "{}", ([part] for part in parts if part)))


def say_result(request: HttpRequest, result: RecoveryResult) -> None:
    """Say how a recovery ended. Whoever made the change need not be told again at home."""
    tell = messages.success if result.resolved else messages.warning
    tell(request, result.message)
    if result.resolved:
        unseen.mark_seen(request.user, [result.attempt])
