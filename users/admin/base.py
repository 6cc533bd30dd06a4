"""Base classes and helpers of the admins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Generic, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import DateTimeField, Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from users.admin import columns
from users.admin.columns import Column, RowT, Shown
from users.admin.export import lines_of, send_export
from users.admin.holder import holder_link
from users.errors import ChangeFailed
from users.sync.actors import name_of
from users.sync.outbound.recovery import RecoveryResult
from users.sync.services import unseen

EXACT = 10_000
FILTER_LOOKUPS = frozenset({"exact", "isnull", "isempty", "id__exact", "gte", "lt"})
"""The lookups that Django's list filters append to the name of their field."""


Deletable = tuple[list[str], dict[str, int], set[str], list[str]]
"""What Django says of a deletion: the objects, their counts, what is lacked, what protects."""


class CappedPaginator(Paginator):
    """A paginator that counts at most ten thousand rows, because counting a million is slow.

    A list may name in `counted` other rows that are as many as its own, and cheaper to count.
    """

    @cached_property
    def count(self) -> int:
        """Return the number of rows, but at most one more than `EXACT`."""
        rows = counted(cast("QuerySet[Model]", self.object_list))
        return int(rows.order_by()[: EXACT + 1].count())


def counted(rows: QuerySet[Model]) -> QuerySet[Model]:
    """Return the rows to count for a list."""
    return getattr(rows, "counted", rows)


class CountedChangeList(ChangeList):
    """A list that says how many rows it has, and by what it is filtered."""

    @property
    def count_text(self) -> str:
        """Return the number of rows: exact up to `EXACT`, then about."""
        count = self.result_count
        if count <= EXACT:
            names = self.opts.verbose_name, self.opts.verbose_name_plural
            return f"{count:,} {names[0] if count == 1 else names[1]}"
        about = max(_rounded(_estimate(counted(self.queryset))), EXACT)
        return _("about {count:,} {things}. These pages show the first {shown:,}.").format(
            count=about, things=self.opts.verbose_name_plural, shown=EXACT
        )

    @property
    def export_url(self) -> str:
        """Return the address of the export; empty if there is none."""
        try:
            return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_export")
        except NoReverseMatch:
            return ""

    @property
    def chips(self) -> list[tuple[str, str]]:
        """Return each filter that is set, the search among them, with the address without it."""
        chips: list[tuple[str, str]] = []
        if self.query:
            chips.append(
                (
                    _("Search: {query}").format(query=self.query),
                    self.get_query_string(remove=[SEARCH_VAR]),
                )
            )
        for spec in self.filter_specs:
            everything, *others = spec.choices(self)
            chips += [
                (
                    f"{str(spec.title).capitalize()}: {one['display']}",
                    str(everything["query_string"]),
                )
                for one in others
                if one["selected"]
            ]
        return chips


def _estimate(rows: QuerySet[Model]) -> int:
    """Return how many rows the planner of PostgreSQL expects."""
    [plan] = json.loads(rows.order_by().explain(format="json"))
    return int(plan["Plan"]["Plan Rows"])


def _rounded(count: int) -> int:
    """Round to two digits: an estimate has no more."""
    unit = 10 ** max(len(str(count)) - 2, 0)
    return round(count / unit) * unit


class SafeAdmin(admin.ModelAdmin):
    """An admin that answers any address without a status of 500.

    PostgreSQL text cannot hold NUL, and lookups in the query string reach the database unchanged.
    `linked_lookups` are the lookups that pages link to, in addition to those of the filters.
    """

    linked_lookups: tuple[str, ...] = ()

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        """Use the list that says how many rows it has."""
        return CountedChangeList

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Model | None:
        """Treat an id with a NUL as one that does not exist."""
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Redirect to the plain list for a lookup that the database refuses.

        Raises `IncorrectLookupParameters`, which Django answers with the redirect.
        """
        try:
            return super().get_changelist_instance(request)
        except (DataError, ValueError):
            raise IncorrectLookupParameters from None

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow only the lookups that the page itself offers.

        Any other lookup could read a hidden column letter by letter:
        `payload__data__email__startswith=a`.
        """
        filters = self.get_list_filter(request)  # type: ignore[arg-type]
        return lookup in self.linked_lookups or any(_offers(each, lookup) for each in filters)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, str | list[str]]:
        """Ignore the query string: an address must not fill in a form."""
        return {}

    def response_action(
        self, request: HttpRequest, queryset: QuerySet, *location: Any, **named: Any
    ) -> HttpResponse | None:
        """Refuse an action on ids that are not valid.

        Raises `BadRequest`.
        """
        try:
            for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(chosen)
        except ValidationError:
            raise BadRequest(_("What was chosen in the list is no id.")) from None
        return super().response_action(request, queryset, *location, **named)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet, search_term: str
    ) -> tuple[QuerySet, bool]:
        """Remove NUL characters from the search term."""
        return super().get_search_results(request, queryset, search_term.replace("\0", ""))


class ReadOnlyAdmin(SafeAdmin, Generic[RowT]):
    """An admin of records that staff can see and nobody can edit."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    exported: Mapping[str, Callable[[RowT], object]] = MappingProxyType({})
    """The columns of the export, each with the value of a record. Without columns, no export."""

    def get_urls(self) -> list[URLPattern]:
        """Add the export of what the list shows."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_export"
        view = require_GET(self.admin_site.admin_view(self.export_view))
        own = [path("export/", view, name=name)] if self.exported else []
        return [*own, *super().get_urls()]

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send what the list shows, filtered in the same way, as CSV.

        Raises `PermissionDenied`.
        """
        return send_export(self, request, partial(lines_of, columns=self.exported))

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Answer 404: nobody edits a record, so it has no history.

        Raises `Http404`, and `PermissionDenied` for who may not see the record.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        raise Http404

    def render_change_form(
        self, request: HttpRequest, context: dict[str, object], add: bool = False,
        change: bool = False, form_url: str = "", obj: Model | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Leave out the link to the history."""
        context["has_history"] = False
        return super().render_change_form(request, context, add, change, form_url, obj)

    def get_list_display(self, request: HttpRequest) -> tuple[str | Shown[RowT], ...]:
        """Replace the columns that depend on the viewer, and those of times."""
        names = columns.replaced(super().get_list_display(request), self.viewed_by(request))
        return columns.with_times(self, names)

    def get_list_display_links(  # type: ignore[override]  # the stubs know names alone
        self, request: HttpRequest, list_display: list[str | Column[RowT]]
    ) -> tuple[str | Shown[RowT], ...] | None:
        """Link from a column of times, too."""
        links = super().get_list_display_links(request, list_display)  # type: ignore[arg-type]
        return None if links is None else columns.with_times(self, links)

    def viewed_by(self, request: HttpRequest) -> Mapping[str, Column[RowT]]:
        """Return the columns that depend on the viewer, by the name that they replace.

        The methods that render a cell get only the row and no request.
        """
        return {}

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Link related records only if this person may open them."""
        fields = columns.linked_where_allowed(self, request, super().get_fields(request, obj))
        return columns.with_times(self, columns.replaced(fields, self.viewed_by(request)))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse to add records by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse to change records."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse to delete records."""
        return False


def _offers(offered: object, lookup: str) -> bool:
    """Return whether a list filter produces such a lookup."""
    if isinstance(offered, type) and issubclass(offered, admin.SimpleListFilter):
        return lookup == offered.parameter_name
    field = offered[0] if isinstance(offered, tuple | list) else offered
    return lookup.removeprefix(f"{field}__") in FILTER_LOOKUPS and lookup.startswith(f"{field}__")


class DayFilter(admin.DateFieldListFilter):
    """Filter by date. Its title names the zone in which the days begin."""

    def __init__(
        self, field: DateTimeField, request: HttpRequest, params: dict[str, list[str]],
        model: type[Model], model_admin: admin.ModelAdmin, field_path: str,
    ) -> None:  # fmt: skip
        super().__init__(field, request, params, model, model_admin, field_path)
        self.title = f"{self.title} ({timezone.get_current_timezone_name()})"


admin.FieldListFilter.register(
    lambda field: isinstance(field, DateTimeField), DayFilter, take_priority=True
)


class AuthorFilter(admin.SimpleListFilter):
    """Filter changes or runs by the staff user who made them."""

    title, parameter_name = gettext_lazy("author"), "by"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        """List all staff users."""
        staff = get_user_model().objects.order_by("username")
        return [(str(one.pk), name_of(one)) for one in staff]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Model]) -> QuerySet[Model]:
        """Select what the chosen person made. Ignore an unknown value."""
        chosen = self.value() or ""
        return queryset.filter(actor=int(chosen)) if chosen.isdecimal() else queryset


def say(request: HttpRequest, failure: ChangeFailed, about: str = "") -> None:
    """Show a failure as a message, where there is no form to show it in."""
    trace = (
        _("Clerk's trace id: {trace_id}.").format(trace_id=failure.trace_id)
        if failure.trace_id
        else ""
    )
    parts = [
        f"{about}:" if about else "",
        failure.full_message,
        holder_link(request, failure),
        trace,
    ]
    messages.error(request, format_html_join(" ", "{}", ([part] for part in parts if part)))


def say_result(request: HttpRequest, result: RecoveryResult) -> None:
    """Show the result of a recovery. Its author need not see the outcome again on the home page."""
    tell = messages.success if result.resolved else messages.warning
    tell(request, result.message)
    if result.resolved:
        unseen.mark_seen(request.user, [result.attempt])
