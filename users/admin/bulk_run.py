"""The admin of bulk runs and of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Protocol, cast

from django.contrib import admin
from django.db.models import Count, Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from users.admin.base import AuthorFilter, ReadOnlyAdmin
from users.admin.columns import Column, user_column
from users.models import BulkRow, BulkRun, RowStatus, RunStatus, Source
from users.sync.bulk import undo
from users.sync.bulk.run import CONTINUES_THERE, NOT_RESUMED, bring_up_to_date, resume_command
from users.sync.display import shown_changes, with_group_names
from users.sync.mirror import scan

PARTS = {"bulkrow": _("its rows"), "syncattempt": _("its attempts")}
"""The models that a run links to, with the words for the links."""


class _Counts(Protocol):
    """What the list counts of a run."""

    rows_done: int
    rows_skipped: int
    rows_failed: int
    rows_waiting: int


@admin.register(BulkRun)
class BulkRunAdmin(ReadOnlyAdmin[BulkRun]):
    """Runs of the bulk commands, read-only. The commands resume and undo them."""

    list_display = ["started_at", "command", "state", "done", "not_done", "waiting", "actor"]
    list_display_links = ["started_at"]
    list_filter = ["state", "command", AuthorFilter, "started_at"]
    list_select_related = ["actor"]
    fields = ["command", "state", "message", "counted", "links", "next_step", "actor", "undo_of",
              "started_at", "finished_at", "kept", "plan_hash"]  # fmt: skip
    readonly_fields = ["counted", "next_step", "kept"]
    exported = MappingProxyType({
        "run": attrgetter("pk"),
        "command": attrgetter("command"),
        "state": BulkRun.get_state_display,
        "done": attrgetter("rows_done"),
        "skipped": attrgetter("rows_skipped"),
        "failed": attrgetter("rows_failed"),
        "waiting": attrgetter("rows_waiting"),
        "by": attrgetter("actor"),
        "started_at": attrgetter("started_at"),
        "finished_at": attrgetter("finished_at"),
        "message": attrgetter("message"),
    })  # fmt: skip

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Update all runs first: killed ones, and rows whose attempts were resolved meanwhile."""
        bring_up_to_date()
        return super().changelist_view(request, extra_context)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Model | None:
        """Update the run first: whether it was killed, and rows whose attempts were resolved."""
        run = super().get_object(request, object_id, from_field)
        if not isinstance(run, BulkRun):
            return None
        bring_up_to_date(run)
        return super().get_object(request, object_id, from_field)

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkRun]:
        """Count the rows of each run by status."""
        states = {
            f"rows_{state.value}": Count("rows", filter=Q(rows__state=state)) for state in RowStatus
        }
        return super().get_queryset(request).annotate(**states)

    def viewed_by(self, request: HttpRequest) -> Mapping[str, Column[BulkRun]]:
        """Link the rows and attempts of the run, if this person may see them."""
        follows = request.user.has_perm("users.view_builderuser")
        models = [name for name in PARTS if request.user.has_perm(f"users.view_{name}")]

        @admin.display(description=gettext("look at"))
        def links(run: BulkRun) -> str:
            query = urlencode({"run__id__exact": run.pk})
            pages = (
                (reverse(f"admin:users_{model}_changelist"), query, PARTS[model])
                for model in models
            )
            own = [
                (
                    reverse("admin:users_builderuser_bulk_run", args=[run.pk]),
                    "",
                    gettext("its progress"),
                )
            ]
            listed = [*(own if follows and run.command != scan.COMMAND else ()), *pages]
            return format_html_join(" · ", '<a href="{}?{}">{}</a>', listed) or "—"

        return {"links": links}

    @admin.display(description=_("done"))
    def done(self, run: _Counts) -> int:
        """Return the number of rows that are done."""
        return int(run.rows_done)

    @admin.display(description=_("skipped or failed"))
    def not_done(self, run: _Counts) -> int:
        """Return the number of rows that were skipped or failed."""
        return int(run.rows_skipped + run.rows_failed)

    @admin.display(description=_("waiting"))
    def waiting(self, run: _Counts) -> int:
        """Return the number of rows that wait."""
        return int(run.rows_waiting)

    @admin.display(description=_("rows"))
    def counted(self, run: BulkRun) -> str:
        """Return the number of rows of each status."""
        counts = [(state.label, getattr(run, f"rows_{state.value}")) for state in RowStatus]
        return ", ".join(f"{count} {label.lower()}" for label, count in counts if count) or "—"

    @admin.display(description=_("for engineers"))
    def next_step(self, run: BulkRun) -> str:
        """Return the command that resumes the run, or else undoes it."""
        if run.command == scan.COMMAND:
            return "—"
        resumable = run.state not in (RunStatus.RUNNING, *NOT_RESUMED)
        if cast("_Counts", run).rows_waiting and resumable:
            if run.source == Source.ADMIN:
                page = reverse("admin:users_builderuser_bulk_run", args=[run.pk])
                return format_html('<a href="{}">{}</a>', page, CONTINUES_THERE)
            return format_html("<code>{}</code>", resume_command(run))
        if undo.is_possible(run):
            return format_html("<code>manage.py {} --undo {}</code>", run.command, run.pk)
        return "—"

    @admin.display(description=_("options"))
    def kept(self, run: BulkRun) -> str:
        """Return the options of the run."""
        return ", ".join(f"{name}: {value}" for name, value in run.options.items()) or "—"


@admin.register(BulkRow)
class BulkRowAdmin(ReadOnlyAdmin[BulkRow]):
    """The rows of a run. Staff get here from the run."""

    list_display = ["position", "line", "user", "operation", "changed", "state", "reason"]
    list_display_links = None
    list_filter = ["state", "operation", ("run", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["user"]
    search_fields = ["label", "=clerk_id"]
    search_help_text = _("Name or Clerk id")
    ordering = ["run", "position"]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Hide the rows from the home page: they mean nothing without their run."""
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Update all runs first: killed ones, and rows whose attempts were resolved meanwhile."""
        bring_up_to_date()
        return super().changelist_view(request, extra_context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkRow]:
        """Add the names of groups, which the changes show."""
        return with_group_names(super().get_queryset(request))

    def viewed_by(self, request: HttpRequest) -> Mapping[str, Column[BulkRow]]:
        """Link the name that the user had then."""
        return {"user": user_column(request, lambda row: row.label)}

    @admin.display(description=_("changes"))
    def changed(self, row: BulkRow) -> str:
        """Render each change as “field: before → after”."""
        return format_html_join(", ", "{}: {} → {}", shown_changes(row))
