"""The journal: one attempt for each intended change of a user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from users.changes import StoredChanges
from users.models.users import BuilderUser


class OperationKind(models.TextChoices):
    """The kinds of change that an attempt can record, and `REFRESH`.

    A refresh changes nothing by itself: it is a row of a bulk run, and no attempt.
    """

    CREATE = "create", _("Create")
    UPDATE = "update", _("Edit")
    DELETE = "delete", _("Delete")
    PUSH_NAME = "push_name", _("Copy the name to Clerk")
    PUSH_EMAIL = "push_email", _("Copy the email to Clerk")
    REPLACE_EMAIL = "replace_email", _("Replace email")
    SET_PASSWORD = "set_password", _("Set password")
    BAN = "ban", _("Ban")
    UNBAN = "unban", _("Unban")
    UNLOCK = "unlock", _("Unlock")
    RESET_MFA = "reset_mfa", _("Reset two-factor sign-in")
    SIGN_OUT = "sign_out", _("Sign out everywhere")
    END_SESSION = "end_session", _("Sign out one device")
    CREATE_ACCOUNT = "create_account", _("Create the Clerk account")
    LINK = "link", _("Link")
    UNLINK = "unlink", _("Unlink")
    INVITE = "invite", _("Invite")
    CREATE_INVITED = "create_invited", _("Create and invite")
    REVOKE = "revoke_invitation", _("Revoke invitation")
    FOLLOW = "follow", _("Copy from Clerk")
    MERGE_METADATA = "merge_metadata", _("Change metadata")
    REFRESH = "refresh", _("Refresh")


CREATES = frozenset({OperationKind.CREATE, OperationKind.CREATE_INVITED})
"""The kinds of change that create a user."""


class SignIn(models.TextChoices):
    """How a new user gets a sign-in."""

    INVITE = (
        "invite",
        _("Invite: Clerk mails an invitation, and the account is made when it is accepted"),
    )
    CREATE = "create", _("Create the Clerk account now: you vouch for the address, no mail is sent")
    NONE = "none", _("No sign-in yet: only the record here")

    @property
    def kind(self) -> OperationKind:
        """Return the kind of change that creates a user with this sign-in."""
        return OperationKind.CREATE_INVITED if self == SignIn.INVITE else OperationKind.CREATE


class Source(models.TextChoices):
    """Where a change came from."""

    ADMIN = "admin", _("This site")
    COMMAND = "command", _("Command")
    WEBHOOK = "webhook", _("Clerk event")
    TASK = "task", _("Scheduled task")
    API = "api", _("Front end")


class Status(models.TextChoices):
    """How far an attempt is. Only `STARTED` is pending."""

    STARTED = "started", _("Waiting for Clerk")
    APPLIED = "applied", _("Saved")
    REFUSED = "refused", _("Refused")
    DROPPED = "dropped", _("Not saved")
    UNPROVEN = "unproven", _("Not certain")


_DERIVED = Q(actor=None, actor_name="", details__has_key="reason")


class SyncAttemptQuerySet(models.QuerySet["SyncAttempt"]):
    """Selections of attempts."""

    def pending(self) -> Self:
        """Select the attempts that are not resolved yet."""
        return self.filter(status=Status.STARTED)

    def in_flight(self) -> Self:
        """Select the pending attempts, and those whose request Clerk may still accept."""
        return self.filter(Q(status=Status.STARTED) | Q(late_until__gt=Now()))

    def derived(self) -> Self:
        """Select the changes that this site made by itself, whoever's request showed the reason."""
        return self.filter(_DERIVED)

    def asked_for(self) -> Self:
        """Select the changes that somebody asked for, from here or by a command."""
        return self.exclude(_DERIVED)


class DatabaseTimeField(models.DateTimeField):
    """A time by the database's clock. The INSERT returns the value of an expression."""

    db_returning = True

    def deconstruct(self) -> tuple[str, str, Sequence[object], dict[str, object]]:
        """Describe itself to migrations as a plain `DateTimeField`, because the column is one."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs


class SyncAttempt(models.Model):
    """One intended change: who wanted what, and its outcome.

    It is committed as `started` before the first remote call, so that a change is not forgotten
    when its process dies. `changes` maps a field to `[before, after]`, with secrets as "(set)".
    `details` holds what recovery needs to decide (ids, times), never a secret.

    `late_until` is set while Clerk may still accept the request, by the database's clock. Only a
    read from Clerk after that time proves that Clerk does not have the change.
    """

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        BuilderUser,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="attempts",
        verbose_name=_("builder user"),
        db_constraint=False,  # an attempt is committed before the user that it creates
    )
    label = models.TextField(_("user's name then"), blank=True, default="")
    clerk_id = models.TextField(_("Clerk id"), blank=True, default="")
    operation = models.CharField(_("operation"), max_length=30, choices=OperationKind.choices)
    source = models.CharField(_("source"), max_length=20, choices=Source.choices)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("actor"),
    )
    actor_name = models.TextField(
        _("person at the front end"), blank=True, default="", db_default=""
    )
    actor_clerk_id = models.TextField(_("their Clerk id"), blank=True, default="", db_default="")
    changes: models.JSONField[StoredChanges, StoredChanges] = models.JSONField(
        _("changes"), default=dict
    )
    details = models.JSONField(_("details"), default=dict, blank=True)
    status = models.CharField(
        _("status"), max_length=20, choices=Status.choices, default=Status.STARTED
    )
    error_code = models.TextField(_("error code"), blank=True, default="")
    message = models.TextField(_("message"), blank=True, default="")
    trace_id = models.TextField(_("Clerk's trace id"), blank=True, default="")
    late_until = DatabaseTimeField(_("Clerk may take it until"), null=True, blank=True)
    token = models.UUIDField(
        _("one-time token of the form"), null=True, blank=True, unique=True, editable=False
    )
    unseen = models.BooleanField(
        _("its author has not seen the end"), default=False, db_default=False, editable=False
    )
    run = models.ForeignKey(
        "BulkRun",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="attempts",
        verbose_name=_("bulk run"),
    )
    started_at = models.DateTimeField(_("started at"), editable=False, db_default=Now())
    settled_at = models.DateTimeField(_("settled at"), null=True, blank=True)

    objects = SyncAttemptQuerySet.as_manager()

    class Meta:
        verbose_name = _("change")
        verbose_name_plural = _("changes")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["user", "-id"], name="syncattempt_user"),
            models.Index(fields=["id"], condition=Q(status="started"), name="syncattempt_open"),
            models.Index(fields=["actor"], condition=Q(unseen=True), name="syncattempt_unseen"),
            models.Index(
                fields=["late_until"],
                condition=Q(late_until__isnull=False),
                name="syncattempt_late_until",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status="started", settled_at=None)
                | (~Q(status="started") & Q(settled_at__isnull=False)),
                name="syncattempt_settled_has_time",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_operation_display()}: {self.label}"

    @property
    def derived(self) -> bool:
        """Return whether this site made the change by itself, with a reason in `details`."""
        return self.actor_id is None and not self.actor_name and "reason" in self.details

    @property
    def pending(self) -> bool:
        """Return whether the attempt is not resolved yet."""
        return self.status == Status.STARTED
