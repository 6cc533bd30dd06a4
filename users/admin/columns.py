"""The columns of lists and records that Django does not render as we need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import TypeVar

from django.contrib import admin
from django.db.models import DateTimeField, ForeignKey, Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from users.admin.holder import VIEWERS
from users.models import BulkRow, Invitation, SyncAttempt
from users.sync.display import time_text

RowT = TypeVar("RowT", bound=Model)
OfUserT = TypeVar("OfUserT", SyncAttempt, Invitation, BulkRow)
"""Rows that belong to a builder user."""
Named = TypeVar("Named")
Column = Callable[[RowT], str]
"""Renders a cell from a row."""
Shown = Callable[[RowT], str | bool]
"""What Django allows in a column."""


def opens_users(request: HttpRequest) -> bool:
    """Return whether this person may open the form of a user."""
    return any(map(request.user.has_perm, VIEWERS))


def replaced(
    names: Iterable[Named], columns: Mapping[str, Column[RowT]]
) -> tuple[Named | Column[RowT], ...]:
    """Replace the names of columns by these columns."""
    return tuple(columns.get(name, name) if isinstance(name, str) else name for name in names)


def time_of(moment: datetime | None) -> str:
    """Render a time in UTC, which the script of all pages shows in the viewer's zone."""
    if moment is None:
        return "—"
    text = time_text(moment, seconds=True)
    return format_html('<time datetime="{}" data-seconds>{}</time>', moment.isoformat(), text)


@cache
def _time_column(field: DateTimeField) -> Column[Model]:
    @admin.display(description=field.verbose_name, ordering=field.name)
    def moment(row: Model) -> str:
        return time_of(field.value_from_object(row))

    moment.__name__ = field.name
    return moment


def with_times(
    model_admin: admin.ModelAdmin, names: Iterable[Named]
) -> tuple[Named | Column[Model], ...]:
    """Replace the names of fields of times by columns that name the zone: Django's do not."""
    fields = model_admin.opts.get_fields()
    times = {one.name: _time_column(one) for one in fields if isinstance(one, DateTimeField)}
    return replaced(names, times)


def user_column(request: HttpRequest, label: Column[OfUserT]) -> Column[OfUserT]:
    """Return a column with the name that the user had then.

    It is a link if this person may open users and the user is not deleted.
    """
    opens = opens_users(request)

    @admin.display(description=_("builder user"))
    def user_link(row: OfUserT) -> str:
        if row.user is None or not opens:
            return label(row) or "—"
        return format_html('<a href="{}">{}</a>', row.user.get_absolute_url(), label(row))

    return user_link


def linked_where_allowed(
    model_admin: admin.ModelAdmin, request: HttpRequest, names: Iterable[object]
) -> tuple[object, ...]:
    """Replace read-only relations by columns that link only pages that this person may open.

    Django links them for everybody.
    """
    relations = {
        field.name: _related(model_admin.admin_site, request, field)
        for field in model_admin.opts.get_fields()
        if isinstance(field, ForeignKey)
    }
    return replaced(names, relations)


def _related(site: admin.AdminSite, request: HttpRequest, field: ForeignKey) -> Column[Model]:
    target = field.related_model._meta
    page = site._registry.get(field.related_model)
    allowed = page is not None and page.has_view_permission(request)

    @admin.display(description=field.verbose_name)
    def related(row: Model) -> str:
        other = getattr(row, field.name)
        if other is None or not allowed:
            return str(other or "—")
        url = reverse(f"admin:{target.app_label}_{target.model_name}_change", args=[other.pk])
        return format_html('<a href="{}">{}</a>', url, other)

    return related
