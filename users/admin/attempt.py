"""The admin of attempts."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from users.admin.base import AuthorFilter, ReadOnlyAdmin, say_result
from users.admin.columns import Column, opens_users, user_column
from users.models import SyncAttempt
from users.sync.actors import BY_ITSELF, name_of
from users.sync.display import NOTHING, shown_changes, with_group_names
from users.sync.mirror import listing
from users.sync.mirror.overview import moved_links
from users.sync.outbound import recovery
from users.sync.services import unseen


def _author(attempt: SyncAttempt) -> str:
    if attempt.derived:
        return str(BY_ITSELF)
    return attempt.actor_name or name_of(attempt.actor) or NOTHING


def _before_and_after(attempt: SyncAttempt) -> str:
    return ", ".join(
        f"{field}: {before} → {after}" for field, before, after in shown_changes(attempt)
    )


class LinkFilter(admin.SimpleListFilter):
    """Filter for links that moved without a decision of staff."""

    title, parameter_name = _("link"), "link"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[SyncAttempt]
    ) -> list[tuple[str, str]]:
        """Offer the one choice."""
        return [("moved", gettext("Moved to another account in the last 7 days"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[SyncAttempt]
    ) -> QuerySet[SyncAttempt]:
        """Select these links. Ignore an unknown value."""
        return queryset & moved_links() if self.value() == "moved" else queryset


@admin.register(SyncAttempt)
class SyncAttemptAdmin(ReadOnlyAdmin[SyncAttempt]):
    """The list of attempts, read-only. A pending attempt can be checked with Clerk."""

    list_display = ["started_at", "operation", "user", "before_and_after", "status", "source",
                    "by", "message"]  # fmt: skip
    list_display_links = ["started_at"]
    list_filter = ["status", "operation", "source", AuthorFilter, LinkFilter, "started_at"]
    list_select_related = ["user", "actor"]
    linked_lookups = ("user__id__exact", "run__id__exact")
    search_fields = ["label", "=clerk_id", "=trace_id"]
    search_help_text = _("Name, email, Clerk id or Clerk's trace id")
    date_hierarchy = None
    fields = ["operation", "user", "clerk_id", "changed", "status", "message", "error_code",
              "trace_id", "source", "by", "why", "actor_clerk_id", "started_at", "late_until",
              "settled_at"]  # fmt: skip
    readonly_fields = ["changed", "by", "why"]
    change_form_template = "admin/users/syncattempt/change_form.html"

    exported = MappingProxyType({
        "started_at": attrgetter("started_at"),
        "operation": SyncAttempt.get_operation_display,
        "user_id": attrgetter("user_id"),
        "name": attrgetter("label"),
        "clerk_id": attrgetter("clerk_id"),
        "changes": _before_and_after,
        "status": SyncAttempt.get_status_display,
        "source": SyncAttempt.get_source_display,
        "by": _author,
        "message": attrgetter("message"),
        "trace_id": attrgetter("trace_id"),
        "settled_at": attrgetter("settled_at"),
    })  # fmt: skip

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[SyncAttempt], search_term: str
    ) -> tuple[QuerySet[SyncAttempt], bool]:
        """For an email, find the changes of the people who have it, or whose account had it.

        Only for people who may see users: else the search would tell emails letter by letter.
        """
        if "@" not in search_term or not opens_users(request):
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(user__in=listing.with_address(search_term.replace("\0", ""))), False

    def get_queryset(self, request: HttpRequest) -> QuerySet[SyncAttempt]:
        """Add the names of groups, which the changes show."""
        return with_group_names(super().get_queryset(request))

    def viewed_by(self, request: HttpRequest) -> Mapping[str, Column[SyncAttempt]]:
        """Link the name that the user had then."""
        return {"user": user_column(request, lambda attempt: attempt.label)}

    @admin.display(description=_("by"), ordering="actor")
    def by(self, attempt: SyncAttempt) -> str:
        """Name the author: the person at the front end, or the staff user."""
        return _author(attempt)

    @admin.display(description=_("why"))
    def why(self, attempt: SyncAttempt) -> str:
        """Return the reason of a change that this site made by itself."""
        return str(attempt.details.get("reason", "")) or NOTHING

    @admin.display(description=_("from → to"))
    def before_and_after(self, attempt: SyncAttempt) -> str:
        """Render each change as “field: before → after”."""
        return _before_and_after(attempt) or NOTHING

    @admin.display(description=_("changes"))
    def changed(self, attempt: SyncAttempt) -> str:
        """Render the changes as a table with the values before and after."""
        rows = format_html_join(
            "",
            "<tr><th scope=row>{}</th><td>{}</td><td>{}</td></tr>",
            shown_changes(attempt),
        )
        return format_html(
            "<table class=changes><thead><tr><th>{}</th><th>{}</th><th>{}</th></tr>"
            "</thead><tbody>{}</tbody></table>",
            gettext("Field"),
            gettext("Before"),
            gettext("After"),
            rows,
        )

    def get_urls(self) -> list[URLPattern]:
        """Add the two buttons, which accept only POST."""
        check = require_POST(self.admin_site.admin_view(self.check_view))
        dismiss = require_POST(self.admin_site.admin_view(self.dismiss_view))
        return [
            path("<int:pk>/check/", check, name="users_syncattempt_check"),
            path("<int:pk>/dismiss/", dismiss, name="users_syncattempt_dismiss"),
            *super().get_urls(),
        ]

    def check_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Recover one attempt, for the button *Check with Clerk now*."""
        attempt = get_object_or_404(SyncAttempt, pk=pk)
        if not (self.has_view_permission(request) and may_check(request)):
            raise PermissionDenied
        say_result(request, recovery.recover(attempt, send_again=True))
        return HttpResponseRedirect(reverse("admin:users_syncattempt_change", args=[pk]))

    def dismiss_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Mark the outcome of a change as seen by its author, for *Dismiss* on the home page."""
        attempt = get_object_or_404(SyncAttempt, pk=pk, actor_id=request.user.pk)
        unseen.mark_seen(request.user, [attempt])
        return HttpResponseRedirect(reverse("admin:index"))


def may_check(request: HttpRequest) -> bool:
    """Return whether this person may check pending attempts with Clerk."""
    return request.user.has_perm("users.change_builderuser")
