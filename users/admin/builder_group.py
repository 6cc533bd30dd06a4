"""The admin of builder groups."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Protocol

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from users.admin.base import Deletable, SafeAdmin
from users.admin.columns import Column, opens_users
from users.models import BuilderGroup
from users.sync.operations import references


class _Counted(Protocol):
    """A group with the number of its members."""

    pk: uuid.UUID
    member_count: int


@admin.register(BuilderGroup)
class BuilderGroupAdmin(SafeAdmin):
    """Builder groups, with a link to the members of each."""

    list_display = ["name", "email", "enrollment_slug"]
    search_fields = ["name", "email", "enrollment_slug"]
    search_help_text = _("Name, email or enrollment slug")
    fields = ["name", "email", "enrollment_slug"]
    ordering = ["name"]
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[BuilderGroup]:
        """Count the members."""
        return super().get_queryset(request).annotate(member_count=Count("users"))

    def get_list_display(self, request: HttpRequest) -> tuple[str | Column, ...]:
        """Add the number of members, as a link to them if this person may open users."""
        opens, users = opens_users(request), reverse("admin:users_builderuser_changelist")

        @admin.display(description=gettext("builder users"), ordering="member_count")
        def members(group: _Counted) -> str:
            if not opens:
                return str(group.member_count)
            return format_html(
                '<a href="{}?builder_group__id__exact={}">{}</a>',
                users,
                group.pk,
                group.member_count,
            )

        return (*super().get_list_display(request), members)

    def get_deleted_objects(
        self, objs: Sequence[BuilderGroup] | QuerySet[BuilderGroup], request: HttpRequest
    ) -> Deletable:
        """Also name what other applications have in the group."""
        found, count, perms_needed, protected = super().get_deleted_objects(objs, request)
        referring = [*filter(None, (references.to_group(group.pk) for group in objs))]
        return found, count, perms_needed, [*protected, *referring]
