"""The journal of sign-ins, and the bound accounts of the company's provider. No rules live here."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class Step(models.TextChoices):
    PASSWORD = "password", "Password"
    CODE = "code", "Code"
    PROVIDER = "provider", "Company account"
    RESET = "reset", "Password reset by mail"
    CHANGE = "change", "Password change"
    TWO_STEP = "two_step", "Two-step sign-in"
    UNLOCK = "unlock", "Unlock"


class Outcome(models.TextChoices):
    PENDING = "pending", "Not finished"
    CONTINUED = "continued", "Correct, code asked"
    SIGNED_IN = "signed_in", "Signed in"
    DONE = "done", "Done"
    REFUSED = "refused", "Refused"
    LIMITED = "limited", "Limit reached"


class SignInEvent(models.Model):
    """One attempt to sign in, or one change of how somebody signs in.

    The row is written before a password or code is looked at, so that attempts that run at the
    same time count each other. The limits are derived from these rows and nothing else.
    """

    at = models.DateTimeField(default=timezone.now, db_index=True)
    step = models.CharField(max_length=20, choices=Step)
    outcome = models.CharField(max_length=20, choices=Outcome, default=Outcome.PENDING)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    account = models.CharField(
        max_length=170,
        blank=True,
        help_text="The username. A username that does not exist is stored as a hash, because "
        "people type passwords into that field.",
    )
    address = models.GenericIPAddressField(null=True, blank=True)
    network = models.CharField(
        max_length=50, blank=True, help_text="What the limits count: the address, or its IPv6 /64."
    )
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-at", "-pk"]
        indexes = [
            models.Index(fields=["account", "-at"], name="sign_in_account"),
            models.Index(fields=["network", "-at"], name="sign_in_network"),
        ]
        verbose_name = "sign-in"
        verbose_name_plural = "sign-ins"

    def __str__(self) -> str:
        return f"{self.get_step_display()}: {self.get_outcome_display()}"


class ProviderAccount(models.Model):
    """The account of the company's provider by which a staff user signs in.

    The issuer and its `sub` identify the account. Its email is no identity: it can change, and can
    be given to somebody else.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    issuer = models.CharField(max_length=300)
    subject = models.CharField(max_length=255)
    email = models.EmailField(help_text="The email by which the account was bound.")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["issuer", "subject"], name="provider_account_of_one_user"
            ),
            models.UniqueConstraint(fields=["issuer", "user"], name="user_of_one_provider_account"),
        ]
        verbose_name = "company account"

    def __str__(self) -> str:
        return f"{self.user} ({self.email})"
