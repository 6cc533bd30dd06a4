"""What every admin of this application has in common."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters, ShowFacets
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import HttpRequest

_Model = TypeVar("_Model", bound=Model)

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin
else:

    class ModelAdmin(admin.ModelAdmin):
        def __class_getitem__(cls, _model):
            """Generic for the type checker alone."""
            return cls


class EstimatingPaginator(Paginator):
    """Counts up to `EXACT` rows; above that the planner's estimate is near enough, and a list
    of a million users opens as fast as a short one."""

    EXACT = 10_000

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # the admin's
        counted = rows[: self.EXACT + 1].count()
        if counted <= self.EXACT:
            return counted
        plan = json.loads(rows.order_by().explain(format="json"))
        return max(counted, int(plan[0]["Plan"]["Plan Rows"]))

    @property
    def estimated(self) -> bool:
        return self.count > self.EXACT


class CascadeAdmin(ModelAdmin[_Model]):
    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = EstimatingPaginator

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """The admin takes any lookup from the address: what the database refuses there is the
        address's fault, not ours."""
        try:
            return super().get_changelist_instance(request)
        except (DataError, ValueError) as error:
            raise IncorrectLookupParameters from error

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[_Model], search_term: str
    ) -> tuple[QuerySet[_Model], bool]:
        """PostgreSQL has no NUL; the autocomplete view hands on what the address says."""
        return super().get_search_results(request, queryset, search_term.replace("\0", ""))

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> _Model | None:
        if "\0" in object_id:
            return None
        return super().get_object(request, object_id, from_field)


class ReadOnlyAdmin(CascadeAdmin[_Model]):
    """For rows that only the application writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: _Model | None = None) -> bool:
        return False
