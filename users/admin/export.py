"""Send records as CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify

from users.admin.columns import RowT
from users.sync.bulk.results import safe

CHUNK = 2000


UTF_8_MARK = "\ufeff"
"""Stands before the first line of a CSV file: without it, Excel reads Windows-1252."""


class Line:
    """A file that gives back what is written: `csv` makes one line at a time of it."""

    def write(self, text: str) -> str:
        """Return the text."""
        return text


def send_export(
    model_admin: admin.ModelAdmin,
    request: HttpRequest,
    lines: Callable[[QuerySet[RowT]], Iterator[str]],
) -> HttpResponseBase:
    """Stream the rows of the list as CSV; redirect to the plain list for filters that are wrong.

    Raises `PermissionDenied`.
    """
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    page = f"admin:{model_admin.opts.app_label}_{model_admin.opts.model_name}_changelist"
    try:
        chosen = model_admin.get_changelist_instance(request).queryset
    except IncorrectLookupParameters:
        return HttpResponseRedirect(reverse(page))
    return send_csv(model_admin, lines(chosen))


def send_csv(model_admin: admin.ModelAdmin, lines: Iterator[str]) -> HttpResponseBase:
    """Stream the lines of a CSV file that is named for its records and the day."""
    name = slugify(str(model_admin.opts.verbose_name_plural))
    file = f"{name}-{timezone.now():%Y-%m-%d}.csv"
    return StreamingHttpResponse(
        lines,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{file}"'},
    )


def lines_of(
    records: QuerySet[RowT], columns: Mapping[str, Callable[[RowT], object]]
) -> Iterator[str]:
    """Yield the lines of a CSV file of these records, in the order of their keys."""
    writer = csv.writer(Line())
    yield UTF_8_MARK + writer.writerow(columns)
    records, last = records.order_by("pk"), None
    while page := list((records if last is None else records.filter(pk__gt=last))[:CHUNK]):
        last = page[-1].pk
        for record in page:
            yield writer.writerow(safe(_text(value(record))) for value in columns.values())


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return "" if value is None else str(value)
