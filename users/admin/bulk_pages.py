"""The pages that change many users: choose what to do, look at the plan, follow the run."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import cast

from django import forms
from django.contrib.admin import AdminSite
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET

from users.admin.base import counted
from users.admin.export import UTF_8_MARK, Line
from users.admin.user_list import group_select
from users.admin.user_pages import UserPages
from users.errors import BulkRefused
from users.models import BuilderGroup, BuilderUser, BulkRow, BulkRun, Role, RowStatus, RunStatus
from users.sync.bulk import control, results
from users.sync.bulk.list_actions import (
    LIST_ACTIONS,
    MOST,
    ListAction,
    changes,
    offered_to,
    plan_list_action,
    title_of,
)
from users.sync.bulk.lock import is_held
from users.sync.bulk.run import bring_up_to_date
from users.sync.bulk.spreadsheet.reading import Options
from users.sync.bulk.uploads import UploadRefused, plan_upload
from users.sync.display import shown_changes, with_group_names
from users.sync.mirror import scan, worker

SHOWN = 50
NAMED = 10
LIST = "admin:users_builderuser_changelist"
STEPS: Mapping[str, Callable[[BulkRun], None]] = {
    "pause": control.pause,
    "cancel": control.cancel,
}

NOT_CHOSEN = {"builder_group": _("Choose the group."), "role": _("Choose the role.")}


class ActionForm(forms.Form):
    """What to do to many users."""

    action = forms.ChoiceField(widget=forms.RadioSelect)
    role = forms.ChoiceField(choices=[("", "---------"), *Role.choices], required=False)

    def __init__(
        self,
        data: Mapping[str, object] | None = None,
        *,
        offered: Mapping[str, ListAction],
        site: AdminSite,
    ) -> None:
        super().__init__(data)
        self.offered = offered
        action = cast("forms.ChoiceField", self.fields["action"])
        action.choices = [(name, one.label) for name, one in offered.items()]
        self.fields["builder_group"] = forms.ModelChoiceField(
            BuilderGroup.objects.all(),
            required=False,
            label=gettext("Group"),
            widget=group_select(site),
        )

    def clean(self) -> dict[str, object]:
        """Require the value that the action sets."""
        cleaned = super().clean() or self.cleaned_data
        action = self.offered.get(str(cleaned.get("action", "")))
        field = action.field if action else ""
        if field and field not in self.errors and not cleaned.get(field):
            self.add_error(field, NOT_CHOSEN[field])
        return cleaned

    @property
    def value(self) -> object:
        """Return the value for the field of the action, in the form that JSON holds."""
        field = self.offered[self.cleaned_data["action"]].field
        value = self.cleaned_data.get(field) if field else None
        return str(value.pk) if isinstance(value, BuilderGroup) else value


class UploadForm(forms.Form):
    """A spreadsheet of corrections."""

    file = forms.FileField(
        label=_("Spreadsheet"), help_text=_("CSV or Excel (.xlsx), at most 1 MB.")
    )
    new_address = forms.ChoiceField(
        label=_("New emails"),
        required=False,
        choices=[
            ("", _("Refuse lines that change the email of a sign-in")),
            ("invite", _("Invite people to their new email")),
            (
                "replace",
                _("Replace the email at once; I have confirmed that the addresses are theirs"),
            ),
        ],
    )
    ignore_unknown = forms.BooleanField(label=_("Leave out unknown columns"), required=False)


@dataclass(frozen=True)
class Chosen:
    """The users that a page is about: selected ones, or all that a filter finds.

    `ids` holds one more than `MOST` if there are more.
    """

    ids: Sequence[uuid.UUID]
    selected: bool

    @property
    def text(self) -> str:
        """Return how many they are."""
        if len(self.ids) > MOST:
            return gettext("More than {count:,} people").format(count=MOST)
        count = len(self.ids)
        return ngettext("{count:,} person", "{count:,} people", count).format(count=count)

    @property
    def sample(self) -> list[BuilderUser]:
        """Return some of the users."""
        return list(BuilderUser.objects.filter(pk__in=self.ids[:NAMED]).order_by("name", "pk"))

    @property
    def more(self) -> int:
        """Return how many users the sample leaves out."""
        return max(min(len(self.ids), MOST) - NAMED, 0)


@dataclass(frozen=True)
class BulkPages:
    """The pages about many users, in the name of the admin of builder users."""

    pages: UserPages

    def urls(self) -> list[URLPattern]:
        """List the addresses of the pages."""
        view = self.pages.admin.admin_site.admin_view
        return [
            path("bulk/", view(self.choose_view), name="users_builderuser_bulk"),
            path("bulk/upload/", view(self.upload_view), name="users_builderuser_bulk_upload"),
            path("bulk/<int:run>/", view(self.run_view), name="users_builderuser_bulk_run"),
            path(
                "bulk/<int:run>/result/",
                require_GET(view(self.result_view)),
                name="users_builderuser_bulk_result",
            ),
        ]

    def may_choose(self, request: HttpRequest) -> bool:
        """Tell whether a person may do anything to many users: what they may do to one."""
        return self.pages.admin.has_view_permission(request) and bool(offered_to(request.user))

    # --- The plan ----------------------------------------------------------------------------

    @method_decorator(csrf_protect)
    def choose_view(self, request: HttpRequest) -> HttpResponse:
        """Ask what to do to all that the filter finds, or plan it for the chosen users."""
        if not self.may_choose(request):
            raise PermissionDenied
        try:
            chosen = self._chosen(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(reverse(LIST))
        return self.choose(request, chosen)

    def choose(self, request: HttpRequest, chosen: Chosen) -> HttpResponse:
        """Show what can be done to these users; plan it if the form of this page was sent."""
        sent = request.method == "POST" and "action_of_page" in request.POST
        form = ActionForm(
            request.POST if sent else None,
            offered=offered_to(request.user),
            site=self.pages.admin.admin_site,
        )
        failure = None
        if sent and form.is_valid():
            try:
                return self._plan(request, form, chosen)
            except BulkRefused as refused:
                failure = refused
        context = {"form": form, "chosen": chosen, "media": self.pages.admin.media + form.media}
        return self._render(
            request, gettext("Change many people"), "bulk.html", context, failure=failure
        )

    def _plan(self, request: HttpRequest, form: ActionForm, chosen: Chosen) -> HttpResponse:
        name = form.cleaned_data["action"]
        plan = plan_list_action(name, chosen.ids, actor=request.user, value=form.value)
        options = {**plan.options, "list_action": name}
        run = control.store(replace(plan, options=options), actor=request.user)
        return _to(run)

    def _chosen(self, request: HttpRequest) -> Chosen:
        if request.method == "POST" and "all" not in request.POST:
            return self.selected(request.POST.getlist("user"))
        cl = self.pages.admin.get_changelist_instance(request)
        return Chosen(list(counted(cl.queryset).values_list("pk", flat=True)[: MOST + 1]), False)

    def selected(self, ids: Sequence[str]) -> Chosen:
        """Return the users with these ids, without ids that are not valid."""
        valid = [pk for one in ids if (pk := _uuid(one))]
        return Chosen(
            list(BuilderUser.objects.filter(pk__in=valid).values_list("pk", flat=True)), True
        )

    @method_decorator(csrf_protect)
    def upload_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a spreadsheet, and plan what it changes."""
        if not self.pages.admin.has_change_permission(request):
            raise PermissionDenied
        form = UploadForm(request.POST or None, request.FILES or None)
        failure = None
        if request.method == "POST" and form.is_valid():
            file = form.cleaned_data["file"]
            try:
                plan = plan_upload(
                    file.name,
                    file.chunks(),
                    options=Options(ignore_unknown=form.cleaned_data["ignore_unknown"]),
                    new_address=form.cleaned_data["new_address"],
                    actor=request.user,
                )
                return _to(control.store(plan, actor=request.user))
            except BulkRefused as refused:
                failure = refused
        faults = failure.faults if isinstance(failure, UploadRefused) else ()
        context = {"form": form, "faults": faults[:SHOWN], "more": max(len(faults) - SHOWN, 0)}
        return self._render(
            request, gettext("Upload a spreadsheet"), "upload.html", context, failure=failure
        )

    # --- The run -----------------------------------------------------------------------------

    @method_decorator(csrf_protect)
    def run_view(self, request: HttpRequest, run: int) -> HttpResponse:
        """Show the plan of a run, or how far it is; start, pause, continue or cancel it."""
        found = self._run(request, run)
        failure = None
        if request.method == "POST":
            if not self._may_change(request, found):
                raise PermissionDenied
            try:
                self._step(request, found)
            except BulkRefused as refused:
                failure = refused
            else:
                return _to(found)
        action = LIST_ACTIONS.get(found.options.get("list_action", ""))
        context = {
            **_progress(found),
            "run": found,
            "action": action,
            "counted": (action.counted if action else changes)(found.rows.count()),
            "count_to_type": control.count_to_type(found)
            if found.state == RunStatus.PLANNED
            else None,
            "is_author": found.actor_id == request.user.pk,
            "may_change": self._may_change(request, found),
            "worker_runs": worker.status().alive > 0,
            "not_continued": control.not_continued_by(found, request.user),
            "others_work": found.state == RunStatus.QUEUED and is_held(),
        }
        return self._render(request, title_of(found), "bulk_run.html", context, failure=failure)

    def _step(self, request: HttpRequest, run: BulkRun) -> None:
        wanted = request.POST.get("do", "")
        if wanted == "begin":
            if run.actor_id != request.user.pk:
                raise BulkRefused(gettext("Only the person who made this plan can start it."))
            typed = request.POST.get("count", "").strip()
            control.begin(run, typed=int(typed) if typed.isascii() and typed.isdecimal() else None)
        elif wanted == "go_on":
            control.go_on(run, actor=request.user)
        elif step := STEPS.get(wanted):
            step(run)

    def result_view(self, request: HttpRequest, run: int) -> HttpResponseBase:
        """Send the outcome of each row as CSV, as `runs export` does."""
        found = self._run(request, run)
        writer = csv.writer(Line())
        lines = (writer.writerow(cells) for cells in results.export(found))
        return StreamingHttpResponse(
            chain([UTF_8_MARK], lines),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="run-{found.pk}.csv"'},
        )

    # --- What they share ---------------------------------------------------------------------

    def _run(self, request: HttpRequest, pk: int) -> BulkRun:
        """Return a run of this person, or any run for people who may look at runs.

        Raises `PermissionDenied` and `Http404`.
        """
        if not self.pages.admin.has_view_permission(request):
            raise PermissionDenied
        runs = BulkRun.objects.exclude(command=scan.COMMAND)  # it has no rows
        run = runs.filter(pk=pk).first()
        sees_runs = request.user.has_perm("users.view_bulkrun")
        if not sees_runs and (run is None or run.actor_id != request.user.pk):
            raise PermissionDenied
        run = get_object_or_404(runs, pk=pk)
        bring_up_to_date(run)
        run.refresh_from_db()
        return run

    def _may_change(self, request: HttpRequest, run: BulkRun) -> bool:
        """Tell whether a person may start, pause, continue or cancel a run.

        The own run needs only the permission for what it does.
        """
        if self.pages.admin.has_change_permission(request):
            return True
        action = run.options.get("list_action")
        return run.actor_id == request.user.pk and action in offered_to(request.user)

    def _render(
        self, request: HttpRequest, title: str, template: str, context: Mapping[str, object], *,
        failure: BulkRefused | None,
    ) -> HttpResponse:  # fmt: skip
        return TemplateResponse(
            request,
            f"admin/users/builderuser/{template}",
            {
                **self.pages.admin.admin_site.each_context(request),
                "title": title,
                "opts": self.pages.admin.opts,
                "media": self.pages.admin.media,
                **context,
                "failure": {"full_message": str(failure)} if failure else None,
            },
        )


def _to(run: BulkRun) -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:users_builderuser_bulk_run", args=[run.pk]))


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _progress(run: BulkRun) -> dict[str, object]:
    """Return how far a run is, and some of its rows: of a plan the first, else those not done."""
    counts = dict(run.rows.order_by().values_list("state").annotate(Count("pk")))
    total = sum(counts.values())
    planned = run.state == RunStatus.PLANNED
    rows = run.rows.order_by("position") if planned else _not_done(run)
    return {
        "total": total,
        "ended": total - counts.get(RowStatus.WAITING, 0),
        "waiting": counts.get(RowStatus.WAITING, 0),
        "counts": list(results.counts_of(run).items()),
        "rows": [
            (row, shown_changes(row))
            for row in with_group_names(rows).select_related("user")[:SHOWN]
        ],
        "rows_left": max(rows.count() - SHOWN, 0),
        "going": run.is_going,
        "resumable": run.is_resumable and RowStatus.WAITING in counts,
        "cancellable": run.is_going or run.is_resumable,
    }


def _not_done(run: BulkRun) -> QuerySet[BulkRow]:
    """Select the rows that people must look at: failed, skipped, or tried and still waiting."""
    return run.rows.exclude(state=RowStatus.DONE).exclude(reason="").order_by("position")
