"""Bulk runs and their rows: the plan and the result in one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from users.changes import StoredChanges
from users.models.journal import OperationKind, Source, SyncAttempt
from users.models.users import BuilderUser


class RunStatus(models.TextChoices):
    """How far a bulk run is."""

    PLANNED = "planned", _("Planned, not started")
    QUEUED = "queued", _("Waiting for the worker")
    RUNNING = "running", _("Running")
    PAUSED = "paused", _("Paused")
    FINISHED = "finished", _("Finished")
    STOPPED = "stopped", _("Stopped")
    INTERRUPTED = "interrupted", _("Interrupted")
    CANCELLED = "cancelled", _("Cancelled")


class RunRequest(models.TextChoices):
    """What a person asks of a run that is at work."""

    PAUSE = "pause", _("Pause")
    CANCEL = "cancel", _("Cancel")


ENDS: Mapping[str, RunStatus] = {
    RunRequest.PAUSE: RunStatus.PAUSED,
    RunRequest.CANCEL: RunStatus.CANCELLED,
}
"""How a run ends that a person asks to end, if rows are left."""

RESUMABLE = frozenset({RunStatus.PAUSED, RunStatus.STOPPED, RunStatus.INTERRUPTED})


class BulkRunQuerySet(models.QuerySet["BulkRun"]):
    """Queries over runs."""

    def finish_complete(self) -> None:
        """Mark the runs as finished that ended and have no waiting row left; scans have no rows."""
        waiting = BulkRow.objects.filter(state=RowStatus.WAITING).values("run")
        ended = self.filter(state__in={*RESUMABLE, RunStatus.CANCELLED}, rows__isnull=False)
        ended.exclude(pk__in=waiting).update(state=RunStatus.FINISHED, message="")


class BulkRun(models.Model):
    """One run of a bulk command, or of a plan that was made on the pages.

    Its rows are both its plan and its result, so that a killed run can continue. `source` is
    `ADMIN` for a plan of the pages: each of its rows needs the permissions of its author. The
    process that carries out the run reads `requested` before each row. `notes` say what the plan
    leaves out, and `summary` how much it does.

    Only its transitions change `state`, `requested`, `started_at` and `finished_at`. Each names the
    states that it leaves, and returns whether the run was in one of them.
    """

    id = models.BigAutoField(primary_key=True)
    command = models.TextField(_("command"))
    options = models.JSONField(_("options"), default=dict, blank=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("actor"),
    )
    plan_hash = models.TextField(_("plan hash"), blank=True, default="")
    undo_of = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="undone_by",
        verbose_name=_("undo of"),
    )
    source = models.CharField(
        _("source"),
        max_length=20,
        choices=Source.choices,
        default=Source.COMMAND,
        db_default=Source.COMMAND,
        editable=False,
    )
    notes = models.JSONField(
        _("notes"), default=list, db_default=models.Value([], models.JSONField()), blank=True
    )
    summary = models.TextField(_("summary"), blank=True, default="", db_default="")
    state = models.CharField(
        _("state"), max_length=20, choices=RunStatus.choices, default=RunStatus.RUNNING
    )
    requested = models.CharField(
        _("requested"),
        max_length=20,
        choices=RunRequest.choices,
        blank=True,
        default="",
        db_default="",
    )
    message = models.TextField(_("message"), blank=True, default="")
    started_at = models.DateTimeField(_("started at"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    objects = BulkRunQuerySet.as_manager()

    class Meta:
        verbose_name = _("bulk run")
        verbose_name_plural = _("bulk runs")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.command} {self.pk}"

    @property
    def is_going(self) -> bool:
        """Return whether the run goes on by itself."""
        return self.state in (RunStatus.QUEUED, RunStatus.RUNNING)

    @property
    def is_resumable(self) -> bool:
        """Return whether the run ended before its last row, and was not cancelled."""
        return self.state in RESUMABLE

    def has_cancelled(self, state: str) -> bool:
        """Return whether rows with this status wait for nothing, as the run was cancelled."""
        return self.state == RunStatus.CANCELLED and state == RowStatus.WAITING

    def label_of(self, state: RowStatus) -> str:
        """Return the name of the status of some of the run's rows."""
        return str(RunStatus.CANCELLED.label if self.has_cancelled(state) else state.label)

    def begin(self) -> bool:
        """Give a plan to the worker."""
        return self._leave({RunStatus.PLANNED}, state=RunStatus.QUEUED, started_at=timezone.now())

    def take(self) -> bool:
        """Put a run to work that waits for the worker."""
        return self._start({RunStatus.QUEUED})

    def resume(self) -> bool:
        """Put a run to work that ended before its last row, or with rows that failed."""
        return self._start({*RESUMABLE, RunStatus.FINISHED})

    def ask(self, request: RunRequest) -> bool:
        """Ask a run at work to pause or to end."""
        return self._leave({RunStatus.RUNNING}, requested=request)

    def withdraw(self) -> bool:
        """Withdraw what a run at work was asked for."""
        return self._leave({RunStatus.RUNNING}, requested="")

    def pause(self) -> bool:
        """Pause a run that waits for the worker."""
        return self._leave({RunStatus.QUEUED}, state=RunStatus.PAUSED, finished_at=timezone.now())

    def discard(self) -> bool:
        """Cancel a plan. Its notes name people, and a discarded plan tells nobody anything."""
        return self._leave(
            {RunStatus.PLANNED}, state=RunStatus.CANCELLED, finished_at=timezone.now(), notes=[]
        )

    def cancel(self) -> bool:
        """Cancel a run that waits for the worker, or that ended before its last row."""
        return self._leave(
            {RunStatus.QUEUED, *RESUMABLE}, state=RunStatus.CANCELLED, finished_at=timezone.now()
        )

    def go_on(self) -> bool:
        """Give a run back to the worker that ended before its last row."""
        return self._leave(RESUMABLE, state=RunStatus.QUEUED, message="", finished_at=None)

    def requeue(self, message: str) -> bool:
        """Give a run back to the worker whose process was killed."""
        return self._leave({RunStatus.RUNNING}, state=RunStatus.QUEUED, message=message)

    def interrupt(self, message: str) -> bool:
        """End a run at work before its last row: as a person asked, else interrupted."""
        return self.end(ENDS.get(self.requested, RunStatus.INTERRUPTED), message)

    def end(self, state: RunStatus, message: str = "") -> bool:
        """End a run at work."""
        return self._leave(
            {RunStatus.RUNNING},
            state=state, message=message, requested="", finished_at=timezone.now(),
        )  # fmt: skip

    def _start(self, leaving: Collection[RunStatus]) -> bool:
        return self._leave(
            leaving, state=RunStatus.RUNNING, message="", requested="", finished_at=None
        )

    def _leave(self, leaving: Collection[RunStatus], **values: object) -> bool:
        left = BulkRun.objects.filter(pk=self.pk, state__in=leaving).update(**values)
        self.refresh_from_db(fields=["state", *values])
        return bool(left)


class RowStatus(models.TextChoices):
    """How far a row of a bulk run is."""

    WAITING = "waiting", _("Waiting")
    DONE = "done", _("Done")
    SKIPPED = "skipped", _("Skipped")
    FAILED = "failed", _("Failed")


class BulkRow(models.Model):
    """One planned change of a run.

    `changes` maps a field to `[before, after]`. The value before must still be stored when the row
    is applied.
    """

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        BulkRun, on_delete=models.CASCADE, related_name="rows", verbose_name=_("run")
    )
    position = models.PositiveIntegerField(_("position"))
    line = models.PositiveIntegerField(_("line"), null=True, blank=True)
    user = models.ForeignKey(
        BuilderUser,
        on_delete=models.DO_NOTHING,  # the row of a deletion must still say whose it was
        null=True,
        blank=True,
        related_name="+",
        db_constraint=False,  # a plan in a file may name a user who was deleted since
        verbose_name=_("user"),
    )
    label = models.TextField(_("label"), blank=True, default="")
    clerk_id = models.TextField(_("clerk id"), blank=True, default="")
    operation = models.CharField(_("operation"), max_length=30, choices=OperationKind.choices)
    changes: models.JSONField[StoredChanges, StoredChanges] = models.JSONField(
        _("changes"), default=dict
    )
    state = models.CharField(
        _("state"), max_length=20, choices=RowStatus.choices, default=RowStatus.WAITING
    )
    reason = models.TextField(_("reason"), blank=True, default="")
    attempt = models.ForeignKey(
        SyncAttempt,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("attempt"),
    )

    class Meta:
        verbose_name = _("row of a bulk run")
        verbose_name_plural = _("rows of bulk runs")
        ordering = ["run", "position"]
        constraints = [
            models.UniqueConstraint(fields=["run", "position"], name="bulkrow_position"),
        ]
        indexes = [
            models.Index(
                fields=["run", "position"], condition=Q(state="waiting"), name="bulkrow_waiting"
            )
        ]

    def __str__(self) -> str:
        return f"{self.run_id}/{self.position} {self.label}"

    @property
    def shown_state(self) -> str:
        """Return the name of the row's status."""
        return self.run.label_of(RowStatus(self.state))
