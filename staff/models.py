"""Store the journal of sign-ins and the bound accounts of the company's provider.

The rules are in other modules.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Step(models.TextChoices):
    """The step of a sign-in, or the kind of change, that an event records."""

    PASSWORD = "password", _("Password")
    CODE = "code", _("Code")
    PROVIDER = "provider", _("Company account")
    RESET = "reset", _("Password reset by mail")
    CHANGE = "change", _("Password change")
    TWO_STEP = "two_step", _("Two-step sign-in")
    UNLOCK = "unlock", _("Unlock")


class Outcome(models.TextChoices):
    """The outcome of an attempt.

    `PENDING` is the outcome until the attempt is finished. `CONTINUED` means that the password was
    correct and a code is the next step.
    """

    PENDING = "pending", _("Not finished")
    CONTINUED = "continued", _("Correct, code asked")
    SIGNED_IN = "signed_in", _("Signed in")
    DONE = "done", _("Done")
    REFUSED = "refused", _("Refused")
    LIMITED = "limited", _("Limit reached")


class SignInEvent(models.Model):
    """One attempt to sign in, or one change of how a user signs in.

    The row is written before a password or code is checked, so that parallel attempts count each
    other. The limits are derived from these rows alone.
    """

    at = models.DateTimeField(_("at"), default=timezone.now, db_index=True)
    step = models.CharField(_("step"), max_length=20, choices=Step)
    outcome = models.CharField(
        _("outcome"), max_length=20, choices=Outcome, default=Outcome.PENDING
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("user"),
    )
    account = models.CharField(
        _("account"),
        max_length=170,
        blank=True,
        help_text=_(
            "The username. A username that does not exist is stored as a hash, because "
            "people type passwords into that field."
        ),
    )
    address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    network = models.CharField(
        _("network"),
        max_length=50,
        blank=True,
        help_text=_("What the limits count: the address, or its IPv6 /64."),
    )
    reason = models.CharField(_("reason"), max_length=200, blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [
            models.Index(fields=["account", "-at"], name="sign_in_account"),
            models.Index(fields=["network", "-at"], name="sign_in_network"),
        ]
        verbose_name = _("sign-in")
        verbose_name_plural = _("sign-ins")

    def __str__(self) -> str:
        return f"{self.get_step_display()}: {self.get_outcome_display()}"


class ProviderAccount(models.Model):
    """The account of the company's provider that a staff user signs in with.

    The issuer and its `sub` identify the account. The email does not: it can change, and it can be
    given to another person.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", verbose_name=_("user")
    )
    issuer = models.CharField(_("issuer"), max_length=300)
    subject = models.CharField(_("subject"), max_length=255)
    email = models.EmailField(_("email"), help_text=_("The email by which the account was bound."))
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    class Meta:
        verbose_name_plural = _("company accounts")
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["issuer", "subject"], name="provider_account_of_one_user"
            ),
            models.UniqueConstraint(fields=["issuer", "user"], name="user_of_one_provider_account"),
        ]
        verbose_name = _("company account")

    def __str__(self) -> str:
        return f"{self.user} ({self.email})"
