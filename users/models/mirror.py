"""The mirror of Clerk's accounts, and what was agreed on between a user and its account."""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from users.models.users import BuilderUser


class ClerkAccount(models.Model):
    """What is known of one Clerk account, linked or not: all facts about it, merged.

    Answers, events and scans are facts; their order of arrival does not matter
    (`users.sync.inbound.facts`). Lists, badges and reports are SQL over this table, so that no page
    needs to ask Clerk.
    """

    clerk_id = models.TextField(_("Clerk id"), primary_key=True)
    user = models.OneToOneField(
        BuilderUser,
        on_delete=models.DO_NOTHING,  # see `users.sync.mirror.agreements.forget`
        null=True,
        blank=True,
        related_name="account",
        verbose_name=_("builder user"),
        db_constraint=False,  # another application deletes rows without us
    )
    email = models.TextField(_("email"), blank=True, default="")
    email_verified = models.BooleanField(_("email verified"), default=False)
    first_name = models.TextField(_("first name"), blank=True, default="")
    last_name = models.TextField(_("last name"), blank=True, default="")
    image_url = models.TextField(_("image url"), blank=True, default="")
    banned = models.BooleanField(_("banned"), default=False)
    locked = models.BooleanField(_("locked"), default=False)
    two_factor_enabled = models.BooleanField(_("two-factor sign-in"), default=False)
    password_enabled = models.BooleanField(_("has a password"), default=False)
    providers = models.JSONField(_("sign-in providers"), default=list, blank=True)
    last_sign_in_at = models.DateTimeField(_("last sign-in"), null=True, blank=True)
    clerk_created_at = models.DateTimeField(_("created in Clerk"), null=True, blank=True)
    clerk_updated_at = models.DateTimeField(_("updated in Clerk"), null=True, blank=True)
    deleted_at = models.DateTimeField(_("deleted in Clerk"), null=True, blank=True)
    not_found_at = models.DateTimeField(
        _("not found in Clerk"),
        null=True,
        blank=True,
        help_text=_("Clerk answered 404. That is no deletion: any later answer takes it back."),
    )
    seen_at = models.DateTimeField(_("last checked"))
    claimed_id = models.UUIDField(
        _("our id in its metadata"),
        null=True,
        blank=True,
        help_text=_("Others can write it there too, so alone it links nobody."),
    )
    version = models.TextField(_("version"), blank=True, default="", db_default="", editable=False)
    """Orders the states of the account: by `updated_at`, then time of observation, then content."""
    known_name = models.TextField(_("last name that was not empty"), blank=True, db_default="")
    known_name_version = models.TextField(
        _("known name version"), blank=True, db_default="", editable=False
    )
    known_email = models.TextField(_("last email that was not empty"), blank=True, db_default="")
    known_email_version = models.TextField(
        _("known email version"), blank=True, db_default="", editable=False
    )
    reference = models.UUIDField(_("invitation that it came from"), null=True, blank=True)
    reference_version = models.TextField(
        _("reference version"), blank=True, db_default="", editable=False
    )
    names = models.JSONField(
        _("names ever shown"), default=dict, db_default={}, blank=True, editable=False
    )
    """Maps each name to the version of the last state that had it."""
    addresses = models.JSONField(
        _("addresses ever verified as primary"), default=dict, db_default={}, blank=True
    )
    """Maps each address to `[first, last]`, in microseconds since 1970."""
    answered_at = models.DateTimeField(_("last answer of Clerk"), null=True, blank=True)
    reconcile_due = models.BooleanField(
        _("still to be reconciled"), default=False, db_default=False, editable=False
    )
    released_at = models.DateTimeField(
        _("released"),
        null=True,
        blank=True,
        help_text=_(
            "Unlinked by staff or replaced by another account: never linked by itself again."
        ),
    )
    replaced_for = models.ForeignKey(
        BuilderUser,
        on_delete=models.DO_NOTHING,  # see `users.sync.mirror.agreements.forget`
        db_constraint=False,
        null=True,
        blank=True,
        related_name="replaced_accounts",
        verbose_name=_("replaced for"),
        help_text=_("The user whose new account replaced this one after an accepted invitation."),
    )
    ban_due = models.BooleanField(_("still to be banned"), default=False, db_default=False)
    note = models.TextField(
        _("why it is not linked, or does not match"), blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = _("Clerk account")
        verbose_name_plural = _("Clerk accounts")
        indexes = [
            models.Index(Lower("email"), name="clerkaccount_email_lower"),
            models.Index(fields=["seen_at"], name="clerkaccount_seen_at"),
            models.Index(
                fields=["clerk_id"], condition=Q(ban_due=True), name="clerkaccount_ban_due"
            ),
            models.Index(
                fields=["clerk_id"], condition=Q(reconcile_due=True), name="clerkaccount_due"
            ),
            models.Index(
                fields=["claimed_id"],
                condition=Q(claimed_id__isnull=False),
                name="clerkaccount_claimed",
            ),
            models.Index(
                fields=["reference"],
                condition=Q(reference__isnull=False),
                name="clerkaccount_reference",
            ),
            GinIndex(fields=["addresses"], name="clerkaccount_addresses"),
        ]

    def __str__(self) -> str:
        return self.email or self.clerk_id


class LinkedBy(models.TextChoices):
    """Who decided which account belongs to a row."""

    STAFF = "staff", _("a staff member")
    INVITATION = "invitation", _("an accepted invitation")
    INHERITED = "inherited", _("another application, or before this was recorded")
    ADDRESS = "address", _("its email")


class Agreement(models.Model):
    """What is known of a row beside its columns, because other applications also write those.

    It holds who decided the link, the values that row and account last had in common, and the
    values that the row has by itself and not from its account.
    """

    user = models.OneToOneField(
        BuilderUser,
        on_delete=models.DO_NOTHING,  # see `users.sync.mirror.agreements.forget`
        primary_key=True,
        related_name="agreement",
        verbose_name=_("builder user"),
        db_constraint=False,  # another application deletes rows without us
    )
    clerk_id = models.TextField(_("Clerk id"), null=True, blank=True)
    linked_by = models.CharField(
        _("linked by"), max_length=20, choices=LinkedBy.choices, blank=True, default=""
    )
    linked_since = models.DateTimeField("decided", null=True, blank=True)
    linked_at = models.DateTimeField(_("linked by us"), null=True, blank=True)
    name = models.TextField(_("agreed name"), null=True, blank=True)
    name_version = models.TextField(
        _("name version"), blank=True, default="", db_default="", editable=False
    )
    email = models.TextField(_("agreed email"), null=True, blank=True)
    email_version = models.TextField(
        _("email version"), blank=True, default="", db_default="", editable=False
    )
    own_name = models.TextField(_("name by itself"))
    own_email = models.TextField(_("email by itself"))
    own_email_since = models.DateTimeField(_("has it since"))
    note = models.TextField(_("why its account is in doubt"), blank=True, default="", db_default="")
    decided_link = models.JSONField(
        _("decided before, while it has the account that had its address"),
        null=True,
        blank=True,
    )

    class Meta:
        verbose_name = _("agreement")
        verbose_name_plural = _("agreements")
        indexes = [
            models.Index(fields=["own_email"], name="agreement_own_email"),
            models.Index(
                KeyTextTransform("clerk_id", "decided_link"),
                condition=Q(decided_link__isnull=False),
                name="agreement_decided_account",
            ),
            models.Index(fields=["user"], condition=~Q(note=""), name="agreement_note"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id}"
