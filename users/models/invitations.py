"""Invitations that we sent through Clerk."""

from __future__ import annotations

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from users.models.journal import Source
from users.models.users import BuilderUser


class InvitationStatus(models.TextChoices):
    """How far an invitation is. `WAITING` and `PENDING` are open."""

    WAITING = "waiting", _("Waiting to be sent")
    PENDING = "pending", _("Pending")
    ACCEPTED = "accepted", _("Accepted")
    REVOKED = "revoked", _("Revoked")
    EXPIRED = "expired", _("Expired")
    REFUSED = "refused", _("Refused")


OPEN = (InvitationStatus.WAITING, InvitationStatus.PENDING)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Selections of invitations."""

    def open(self) -> Self:
        """Select those that wait here, or that would link an account."""
        return self.filter(status__in=OPEN)

    def acceptable(self) -> Self:
        """Select those that can still be accepted in Clerk, also if they are closed here."""
        sent = self.filter(clerk_invitation_id__isnull=False)
        return sent.filter(Q(status=InvitationStatus.PENDING) | Q(revoke_due=True))


class Invitation(models.Model):
    """A Clerk invitation that we sent: for a new account, or for a new email of an old one."""

    class Purpose(models.TextChoices):
        """What acceptance of the invitation does: create an account, or change an email."""

        NEW_ACCOUNT = "new_account", _("New account")
        EMAIL_CHANGE = "email_change", _("Change of email")

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        BuilderUser,
        on_delete=models.CASCADE,
        related_name="invitations",
        verbose_name=_("builder user"),
        db_constraint=False,  # another application deletes rows without us
    )
    purpose = models.CharField(_("purpose"), max_length=20, choices=Purpose.choices)
    email = models.EmailField(_("email"))
    reference = models.UUIDField(_("reference"), default=uuid.uuid4, unique=True, editable=False)
    """Is stored in the metadata of Clerk's invitation, to recognize ours."""
    clerk_invitation_id = models.TextField(
        _("Clerk's invitation id"), null=True, blank=True, unique=True
    )
    status = models.CharField(
        _("status"),
        max_length=20,
        choices=InvitationStatus.choices,
        default=InvitationStatus.PENDING,
    )
    send_after = models.DateTimeField(_("waits until"), null=True, blank=True)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    expires_at = models.DateTimeField(_("expires at"), null=True, blank=True)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("invited by"),
    )
    source = models.CharField(
        _("source"),
        max_length=20,
        choices=Source.choices,
        default=Source.ADMIN,
        db_default=Source.ADMIN,
        editable=False,
    )
    """Where it was asked for. One of a page is sent only while its author may still invite."""
    for_admins = models.BooleanField(
        _("for admins"), default=False, db_default=False, editable=False
    )
    """Whether it may give the row of an administrator to whoever accepts it.

    True if its author may manage administrators, or if somebody who may has made the user one.
    """
    revoke_due = models.BooleanField(
        _("still to be revoked in Clerk"),
        default=False,
        db_default=False,
        help_text=_("A newer decision has closed it here."),
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("last checked"), auto_now=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["status", "send_after"], name="invitation_status"),
            models.Index(fields=["sent_at"], name="invitation_sent_at"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["user"],
                condition=Q(status__in=["waiting", "pending"]),
                name="invitation_one_open_a_user",
                violation_error_message=_("This user has an open invitation already."),
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_purpose_display()}: {self.email}"

    @property
    def open(self) -> bool:
        """Return whether the invitation can still be accepted, or waits to be sent."""
        return self.status in OPEN
