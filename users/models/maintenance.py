"""What the worker, the limits and the alerts remember between two calls."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class RememberedInstance(models.Model):
    """The Clerk instance that our key belongs to; one row.

    A 404 from another instance proves nothing about our accounts.
    """

    id = models.SmallAutoField(primary_key=True)
    instance_id = models.TextField(_("Clerk's instance id"))
    environment = models.TextField(blank=True, default="")
    remembered_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("Clerk instance")
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="rememberedinstance_one_row"),
        ]

    def __str__(self) -> str:
        return self.instance_id


class EventCheck(models.Model):
    """The result of the last check of Clerk's newest changes; one row.

    It says whether events arrive, and when the worker checks again.
    """

    id = models.SmallAutoField(primary_key=True)
    next_at = models.DateTimeField(_("looks again"), default=timezone.now)
    checked_at = models.DateTimeField(_("last looked"), null=True, blank=True)
    problem = models.TextField(_("why it could not look"), blank=True, default="")
    missed_since = models.DateTimeField(_("events missing since"), null=True, blank=True)
    missed_at = models.DateTimeField(_("last found a missed change"), null=True, blank=True)
    missed = models.PositiveIntegerField(_("accounts whose change was missed then"), default=0)
    difference = models.IntegerField(_("users that Clerk has more than our copy"), default=0)
    difference_since = models.DateTimeField(null=True, blank=True)
    scan_wanted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("check of events")
        constraints = [models.CheckConstraint(condition=Q(id=1), name="eventcheck_one_row")]

    def __str__(self) -> str:
        return gettext("looked at {checked_at}").format(checked_at=self.checked_at)


class AlertKind(models.TextChoices):
    """What the people in ALERT_EMAILS are told of."""

    ATTEMPT = "attempt", _("A change is pending for over an hour")
    EVENTS = "events", _("Events are missing")
    SCAN = "scan", _("The scan failed")
    WORKER = "worker", _("No worker is running")


class Alert(models.Model):
    """Something that needs people and was mailed. The row goes when the end was mailed, too."""

    kind = models.CharField(primary_key=True, max_length=20, choices=AlertKind.choices)
    mailed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(AlertKind(self.kind).label)


class ClerkRate(models.Model):
    """The next free slot of Clerk's rate limit, for bulk work of all processes; one row.

    A pause after a 429 moves it into the future (`users.slots`).
    """

    id = models.SmallAutoField(primary_key=True)
    next_at = models.DateTimeField()

    class Meta:
        verbose_name = _("rate of requests to Clerk")
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=Q(id=1), name="clerkrate_one_row")]

    def __str__(self) -> str:
        return gettext("next at {next_at}").format(next_at=self.next_at)


class ApiUse(models.Model):
    """The number of API requests of one person, or one address, in one window.

    The window began at `since`. `key` is a digest, so that no address is stored.
    """

    key = models.TextField(primary_key=True)
    since = models.DateTimeField()
    count = models.PositiveIntegerField()

    class Meta:
        verbose_name = _("use of the API")
        default_permissions = ()
        indexes = [models.Index(fields=["since"], name="apiuse_since")]

    def __str__(self) -> str:
        return gettext("{count} since {since}").format(count=self.count, since=self.since)
