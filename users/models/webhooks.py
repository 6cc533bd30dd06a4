"""Events that Clerk delivered, and the last deliveries that were refused."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class DeliveryStatus(models.TextChoices):
    """How far a delivery is, for people."""

    TAKEN = "taken", _("Taken")
    WAITING = "waiting", _("Waiting")
    UNUSABLE = "unusable", _("Cannot be applied")


class WebhookDelivery(models.Model):
    """One event from Clerk, by its `svix-id`. The payload is stored until the event was applied.

    `processed_at` is set when the event is not tried again. If there is still a payload then, the
    event can never be applied, and `error` says why. `clerk_id` is the user that the event is
    about; "" if it names none.
    """

    svix_id = models.TextField(_("svix id"), primary_key=True)
    type = models.TextField(_("type"))
    clerk_id = models.TextField(_("clerk id"), blank=True, default="", db_default="")
    received_at = models.DateTimeField(_("received at"), auto_now_add=True)
    processed_at = models.DateTimeField(_("processed at"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True, default="")
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    payload = models.JSONField(_("payload"), null=True, blank=True)

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        permissions = [("replay_webhook", "Can replay webhook deliveries")]
        ordering = ["-received_at"]
        indexes = [
            models.Index(
                fields=["received_at"], condition=Q(processed_at=None), name="webhookdelivery_open"
            ),
            models.Index(fields=["-received_at"], name="webhookdelivery_newest"),
            models.Index(fields=["clerk_id"], name="webhookdelivery_user"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.svix_id}"

    @property
    def state(self) -> DeliveryStatus:
        """Return the status that `processed_at` and `payload` imply."""
        if self.processed_at is None:
            return DeliveryStatus.WAITING
        return DeliveryStatus.TAKEN if self.payload is None else DeliveryStatus.UNUSABLE


class WebhookRefusal(models.Model):
    """The last refused delivery: one row for those that Clerk signed, and one for all others.

    With only two rows, nobody without Clerk's secret can fill the table.
    """

    signed = models.BooleanField(_("signed"), primary_key=True)
    reason = models.TextField(_("reason"))
    refused_at = models.DateTimeField(_("refused at"))

    class Meta:
        verbose_name = _("refused webhook")
        verbose_name_plural = _("refused webhooks")

    def __str__(self) -> str:
        return self.reason
