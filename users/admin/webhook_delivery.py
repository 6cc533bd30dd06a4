"""The admin of webhook deliveries."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Protocol, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from users.admin.base import ReadOnlyAdmin
from users.admin.columns import Column, opens_users
from users.models import BuilderUser, DeliveryStatus, WebhookDelivery
from users.sync.display import NOTHING
from users.sync.inbound import deliveries
from users.sync.mirror import listing


class StateFilter(admin.SimpleListFilter):
    """Filter deliveries by status."""

    title, parameter_name = _("status"), "status"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        """List all statuses of a delivery."""
        return [(value, str(label)) for value, label in DeliveryStatus.choices]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]
    ) -> QuerySet[WebhookDelivery]:
        """Select the deliveries with the chosen status. Ignore an unknown value."""
        match self.value():
            case DeliveryStatus.WAITING:
                return queryset.filter(processed_at=None)
            case DeliveryStatus.TAKEN:
                return queryset.filter(processed_at__isnull=False, payload__isnull=True)
            case DeliveryStatus.UNUSABLE:
                return queryset & deliveries.unusable()
        return queryset


class _WithUser(Protocol):
    """A delivery with the user who has its Clerk id; both None if there is none."""

    clerk_id: str
    user_pk: uuid.UUID | None
    user_name: str | None


@admin.display(description=_("builder user"))
def _user_link(delivery: WebhookDelivery) -> str:
    found = cast("_WithUser", delivery)
    if found.user_pk is None:
        return found.clerk_id or NOTHING
    page = reverse("admin:users_builderuser_change", args=[found.user_pk])
    return format_html('<a href="{}">{}</a>', page, found.user_name)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin[WebhookDelivery]):
    """Events from Clerk, read-only. An event that was not applied is stored and can be replayed."""

    list_display = ["received_at", "type", "user", "status", "svix_id", "processed_at", "attempts",
                    "error"]  # fmt: skip
    list_filter = [StateFilter, "type", "received_at"]
    search_fields = ["=svix_id", "=clerk_id"]
    search_help_text = _("Email, Clerk id or id of the delivery (svix-id)")
    fields = ["svix_id", "type", "user", "status", "received_at", "processed_at", "attempts",
              "error"]  # fmt: skip
    actions = ["replay"]
    exported = MappingProxyType({
        "received_at": attrgetter("received_at"),
        "type": attrgetter("type"),
        "clerk_id": attrgetter("clerk_id"),
        "status": attrgetter("state.label"),
        "svix_id": attrgetter("svix_id"),
        "processed_at": attrgetter("processed_at"),
        "attempts": attrgetter("attempts"),
        "error": attrgetter("error"),
    })  # fmt: skip
    change_form_template = "admin/users/webhookdelivery/change_form.html"

    class Media:
        css = {"all": ["users/cascade.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookDelivery]:
        """Add the user who has the Clerk id now."""
        user = BuilderUser.objects.filter(clerk_id=OuterRef("clerk_id")).exclude(clerk_id="")
        return (
            super()
            .get_queryset(request)
            .annotate(
                user_pk=Subquery(user.values("pk")[:1]), user_name=Subquery(user.values("name")[:1])
            )
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[WebhookDelivery], search_term: str
    ) -> tuple[QuerySet[WebhookDelivery], bool]:
        """For an email, find the events about the people who have it, or whose account had it."""
        if "@" not in search_term or not opens_users(request):
            return super().get_search_results(request, queryset, search_term)
        address = search_term.replace("\0", "")
        return queryset.filter(listing.accounts_with_address(address)), False

    def viewed_by(self, request: HttpRequest) -> Mapping[str, Column[WebhookDelivery]]:
        """Link the user for people who may open users."""
        return {"user": _user_link} if opens_users(request) else {}

    @admin.display(description=_("builder user"))
    def user(self, delivery: WebhookDelivery) -> str:
        """Return the Clerk id of the user that the event is about."""
        return delivery.clerk_id or NOTHING

    @admin.display(description=_("Status"))
    def status(self, delivery: WebhookDelivery) -> str:
        """Return the label of the delivery's status."""
        return str(delivery.state.label)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Return whether this person may replay deliveries."""
        return request.user.has_perm("users.replay_webhook")

    @admin.action(description=_("Replay the selected deliveries"), permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]) -> None:
        """Apply the selected deliveries again, except those that were applied."""
        kept = list(queryset.filter(payload__isnull=False).values_list("pk", flat=True))
        if not kept:
            messages.info(request, gettext("All of these have taken effect already."))
        self._replay(request, kept)

    def get_urls(self) -> list[URLPattern]:
        """Add the button *Replay*, which accepts only POST."""
        replay = require_POST(self.admin_site.admin_view(self.replay_view))
        return [
            path("<path:pk>/replay/", replay, name="users_webhookdelivery_replay"),
            *super().get_urls(),
        ]

    def replay_view(self, request: HttpRequest, pk: str) -> HttpResponse:
        """Apply one delivery again.

        Raises `PermissionDenied`.
        """
        if not (self.has_view_permission(request) and self.has_replay_permission(request)):
            raise PermissionDenied
        delivery = get_object_or_404(WebhookDelivery, pk=pk.replace("\0", ""))
        self._replay(request, [delivery.pk])
        return HttpResponseRedirect(
            reverse("admin:users_webhookdelivery_change", args=[quote(delivery.pk)])
        )

    def _replay(self, request: HttpRequest, svix_ids: list[str]) -> None:
        for received in deliveries.retry(svix_ids):
            if received.done:
                messages.success(
                    request,
                    gettext("{delivery}: it has taken effect now.").format(
                        delivery=received.svix_id
                    ),
                )
            else:
                messages.warning(request, f"{received.svix_id}: {received.report}")
