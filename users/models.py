"""The tables: what is stored, and what the database itself refuses. No business rules are here.

`builder_groups` and `users` have the column names of the application that this one replaces, so
that this one can use those tables later.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any, Self

from django.conf import settings
from django.contrib.postgres.functions import RandomUUID
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Lower, Now
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.urls import reverse
from django.utils import timezone

from users import guard
from users.changes import StoredChanges
from users.ids import USER_ID


class BuilderGroup(models.Model):
    """A home builder's company or region. Builder users belong to one."""

    id = models.UUIDField(
        primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False
    )
    name = models.TextField()
    email = models.EmailField(null=True, blank=True)
    enrollment_slug = models.SlugField(max_length=200, null=True, blank=True, unique=True)
    created_at = models.DateTimeField(auto_now_add=True, db_default=Now())

    class Meta:
        db_table = "builder_groups"
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    """The role of a builder user in the front end."""

    ADMIN = "ADMIN", "Admin"
    HOMEOWNER = "HOMEOWNER", "Homeowner"
    BUILDER = "BUILDER", "Builder"


class InternalRole(models.TextChoices):
    """The additional role of a user whose role is Admin."""

    ADMINISTRATOR = "Administrator", "Administrator"
    EMPLOYEE = "Employee", "Employee"


LINKED = Q(clerk_id__regex=USER_ID.pattern)
"""The condition of `BuilderUser.linked` in SQL."""


class BuilderUserQuerySet(models.QuerySet["BuilderUser"]):
    """A query set that refuses writes to guarded columns of linked users (see `users.guard`)."""

    def linked(self) -> Self:
        """Select the users whose `clerk_id` is a valid Clerk id."""
        return self.filter(LINKED)

    def not_linked(self) -> Self:
        """Select the users without a Clerk account. An invalid id counts as none."""
        return self.filter(~LINKED)

    def update(self, **values: object) -> int:
        """Refuse a change of guarded columns of linked users, then update.

        Raises `BypassesClerk`.
        """
        self._refuse_bypass(values)
        return super().update(**values)

    def _update(self, values: Sequence[tuple[models.Field, object, object]]) -> int:
        """Refuse the same for `Model.save` and for fixtures, which call this method."""
        self._refuse_bypass({field.attname: value for field, _, value in values})
        return super()._update(values)  # type: ignore[misc]

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Any]:
        """Allow inserts, and refuse upserts of guarded columns.

        It is not known before an upsert which rows it changes. Raises `BypassesClerk`.
        """
        columns = guard.GUARDED.keys() & set(update_fields or ())
        if columns and not guard.lifted():
            raise guard.change_refused(columns)
        return super().bulk_create(
            objs, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields
        )

    def _refuse_bypass(self, values: Mapping[str, object]) -> None:
        """Raise `BypassesClerk` if a linked row would get another name, email or Clerk id.

        An expression counts as another value.
        """
        columns = guard.GUARDED.keys() & values.keys()
        if not columns or guard.lifted():
            return
        linked = self.filter(LINKED)
        differing = {column: _differs(column, values[column]) for column in columns}
        if linked.filter(reduce(or_, differing.values())).exists():
            raise guard.change_refused(
                column for column, differs in differing.items() if linked.filter(differs).exists()
            )


def _differs(column: str, value: object) -> Q:
    if hasattr(value, "resolve_expression"):
        return Q(pk__isnull=False)
    return ~Q(**{column: value})


class BuilderUser(models.Model):
    """A person who signs in through Clerk.

    The user is *linked* if `clerk_id` is a valid Clerk id. Other applications have stored
    placeholders and empty texts there.
    """

    id = models.UUIDField(
        primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False
    )
    clerk_id = models.TextField("Clerk id", null=True, blank=True, unique=True, editable=False)
    name = models.CharField(max_length=200)
    email = models.EmailField()
    role = models.CharField(
        max_length=20, choices=Role.choices, default=Role.BUILDER, db_default=Role.BUILDER
    )
    internal_role = models.CharField(
        max_length=50,
        choices=InternalRole.choices,
        null=True,
        blank=True,
        help_text="Only for the role Admin.",
    )
    builder_group = models.ForeignKey(
        BuilderGroup, on_delete=models.PROTECT, null=True, blank=True, related_name="users"
    )
    created_at = models.DateTimeField(editable=False, db_default=Now())
    updated_at = models.DateTimeField(auto_now=True, db_default=Now())

    objects = BuilderUserQuerySet.as_manager()

    class Meta:
        db_table = "users"
        base_manager_name = "objects"  # `save` writes through it, so it must be guarded too
        ordering = ["-created_at", "id"]
        permissions = [
            ("replace_email", "Can replace the email of a linked user at once"),
            ("invite", "Can invite people and change emails by invitation"),
            ("ban", "Can ban and unban in Clerk"),
            ("unlock", "Can unlock in Clerk"),
            ("reset_mfa", "Can reset two-factor sign-in"),
            ("sign_out", "Can sign people out everywhere"),
            ("link", "Can link to and unlink from a Clerk account"),
            ("set_password", "Can set passwords"),
            ("create_account", "Can create Clerk accounts without an invitation"),
            ("change_role", "Can change roles"),
            ("manage_admins", "Can manage the sign-in and role of users with the role Admin"),
        ]
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name="users_email_lower_unique",  # the other application has users_email_unique
                violation_error_message="Another builder user has this email.",
            ),
            models.CheckConstraint(condition=~Q(clerk_id=""), name="users_clerk_id_not_empty"),
        ]
        indexes = [
            models.Index(fields=["-created_at", "id"], name="users_created_at"),
            models.Index(Lower("name"), name="users_name_lower"),
        ]

    def __str__(self) -> str:
        return self.name or self.email

    def get_absolute_url(self) -> str:
        """Return the address of the user's form in the admin."""
        return reverse("admin:users_builderuser_change", args=[self.pk])

    @property
    def account_id(self) -> str:
        """Return the id of the user's Clerk account, or "" without one."""
        return self.clerk_id if self.clerk_id and USER_ID.match(self.clerk_id) else ""

    @property
    def linked(self) -> bool:
        """Return whether the user has a Clerk account."""
        return bool(self.account_id)

    @property
    def has_invalid_id(self) -> bool:
        """Return whether `clerk_id` holds a text that is not a valid Clerk id."""
        return self.clerk_id is not None and not self.linked


@receiver(pre_delete, sender=BuilderUser)
def _refuse_deletion(instance: BuilderUser, **kwargs: object) -> None:
    """Refuse the deletion of a linked user, from whichever code it comes.

    Raises `BypassesClerk`.
    """
    if not guard.lifted() and BuilderUser.objects.linked().filter(pk=instance.pk).exists():
        raise guard.deletion_refused()


class ClerkAccount(models.Model):
    """What is known of one Clerk account, linked or not: all facts about it, merged.

    Answers, events and scans are facts; their order of arrival does not matter
    (`users.sync.inbound.facts`). Lists, badges and reports are SQL over this table, so that no page
    needs to ask Clerk.
    """

    clerk_id = models.TextField("Clerk id", primary_key=True)
    user = models.OneToOneField(
        BuilderUser,
        on_delete=models.DO_NOTHING,  # see `users.sync.mirror.agreements.forget`
        null=True,
        blank=True,
        related_name="account",
        verbose_name="builder user",
        db_constraint=False,  # another application deletes rows without us
    )
    email = models.TextField(blank=True, default="")
    email_verified = models.BooleanField(default=False)
    first_name = models.TextField(blank=True, default="")
    last_name = models.TextField(blank=True, default="")
    image_url = models.TextField(blank=True, default="")
    banned = models.BooleanField(default=False)
    locked = models.BooleanField(default=False)
    two_factor_enabled = models.BooleanField("two-factor sign-in", default=False)
    password_enabled = models.BooleanField("has a password", default=False)
    providers = models.JSONField("sign-in providers", default=list, blank=True)
    last_sign_in_at = models.DateTimeField("last sign-in", null=True, blank=True)
    clerk_created_at = models.DateTimeField("created in Clerk", null=True, blank=True)
    clerk_updated_at = models.DateTimeField("updated in Clerk", null=True, blank=True)
    deleted_at = models.DateTimeField("deleted in Clerk", null=True, blank=True)
    not_found_at = models.DateTimeField(
        "not found in Clerk",
        null=True,
        blank=True,
        help_text="Clerk answered 404. That is no deletion: any later answer takes it back.",
    )
    seen_at = models.DateTimeField("last checked")
    claimed_id = models.UUIDField(
        "our id in its metadata",
        null=True,
        blank=True,
        help_text="Others can write it there too, so alone it links nobody.",
    )
    version = models.TextField(blank=True, default="", db_default="", editable=False)
    """Orders the states of the account: by `updated_at`, then time of observation, then content."""
    known_name = models.TextField("last name that was not empty", blank=True, db_default="")
    known_name_version = models.TextField(blank=True, db_default="", editable=False)
    known_email = models.TextField("last email that was not empty", blank=True, db_default="")
    known_email_version = models.TextField(blank=True, db_default="", editable=False)
    reference = models.UUIDField("invitation that it came from", null=True, blank=True)
    reference_version = models.TextField(blank=True, db_default="", editable=False)
    names = models.JSONField(
        "names ever shown", default=dict, db_default={}, blank=True, editable=False
    )
    """Maps each name to the version of the last state that had it."""
    addresses = models.JSONField(
        "addresses ever verified as primary", default=dict, db_default={}, blank=True
    )
    """Maps each address to `[first, last]`, in microseconds since 1970."""
    answered_at = models.DateTimeField("last answer of Clerk", null=True, blank=True)
    reconcile_due = models.BooleanField(
        "still to be reconciled", default=False, db_default=False, editable=False
    )
    released_at = models.DateTimeField(
        "let go",
        null=True,
        blank=True,
        help_text="Unlinked by staff or replaced by another account: never linked by itself again.",
    )
    replaced_for = models.ForeignKey(
        BuilderUser,
        on_delete=models.DO_NOTHING,  # see `users.sync.mirror.agreements.forget`
        db_constraint=False,
        null=True,
        blank=True,
        related_name="replaced_accounts",
        verbose_name="replaced for",
        help_text="The user whose new account replaced this one after an accepted invitation.",
    )
    ban_due = models.BooleanField("still to be banned", default=False, db_default=False)
    note = models.TextField(
        "why it is not linked, or does not match", blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = "Clerk account"
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

    STAFF = "staff", "a staff member"
    INVITATION = "invitation", "an accepted invitation"
    INHERITED = "inherited", "another application, or before this was recorded"
    ADDRESS = "address", "its email"


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
        verbose_name="builder user",
        db_constraint=False,  # another application deletes rows without us
    )
    clerk_id = models.TextField("Clerk id", null=True, blank=True)
    linked_by = models.CharField(max_length=20, choices=LinkedBy.choices, blank=True, default="")
    linked_since = models.DateTimeField("decided", null=True, blank=True)
    linked_at = models.DateTimeField("linked by us", null=True, blank=True)
    name = models.TextField("agreed name", null=True, blank=True)
    name_version = models.TextField(blank=True, default="", db_default="", editable=False)
    email = models.TextField("agreed email", null=True, blank=True)
    email_version = models.TextField(blank=True, default="", db_default="", editable=False)
    own_name = models.TextField("name by itself")
    own_email = models.TextField("email by itself")
    own_email_since = models.DateTimeField("has it since")
    note = models.TextField("why its account is in doubt", blank=True, default="", db_default="")
    decided_link = models.JSONField(
        "decided before, while it has the account that had its address",
        null=True,
        blank=True,
    )

    class Meta:
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


class OperationKind(models.TextChoices):
    """The kinds of change that an attempt can record."""

    CREATE = "create", "Create"
    UPDATE = "update", "Edit"
    DELETE = "delete", "Delete"
    PUSH_NAME = "push_name", "Copy the name to Clerk"
    PUSH_EMAIL = "push_email", "Copy the email to Clerk"
    REPLACE_EMAIL = "replace_email", "Replace email"
    SET_PASSWORD = "set_password", "Set password"
    BAN = "ban", "Ban"
    UNBAN = "unban", "Unban"
    UNLOCK = "unlock", "Unlock"
    RESET_MFA = "reset_mfa", "Reset two-factor sign-in"
    SIGN_OUT = "sign_out", "Sign out everywhere"
    END_SESSION = "end_session", "Sign out one device"
    CREATE_ACCOUNT = "create_account", "Create the Clerk account"
    LINK = "link", "Link"
    UNLINK = "unlink", "Unlink"
    INVITE = "invite", "Invite"
    CREATE_INVITED = "create_invited", "Create and invite"
    REVOKE = "revoke_invitation", "Revoke invitation"
    FOLLOW = "follow", "Copy from Clerk"
    MERGE_METADATA = "merge_metadata", "Change metadata"


class Source(models.TextChoices):
    """Where a change came from."""

    ADMIN = "admin", "Admin"
    COMMAND = "command", "Command"
    WEBHOOK = "webhook", "Clerk event"
    TASK = "task", "Scheduled task"
    API = "api", "Front end"


class Status(models.TextChoices):
    """How far an attempt is. Only `STARTED` is pending."""

    STARTED = "started", "Waiting for Clerk"
    APPLIED = "applied", "Saved"
    REFUSED = "refused", "Refused"
    DROPPED = "dropped", "Not saved"
    UNPROVEN = "unproven", "Not certain"


class SyncAttemptQuerySet(models.QuerySet["SyncAttempt"]):
    """Selections of attempts."""

    def pending(self) -> Self:
        """Select the attempts that are not resolved yet."""
        return self.filter(status=Status.STARTED)

    def in_flight(self) -> Self:
        """Select the pending attempts, and those whose request Clerk may still accept."""
        return self.filter(Q(status=Status.STARTED) | Q(late_until__gt=Now()))


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
        verbose_name="builder user",
        db_constraint=False,  # an attempt is committed before the user that it creates
    )
    label = models.TextField("user's name then", blank=True, default="")
    clerk_id = models.TextField("Clerk id", blank=True, default="")
    operation = models.CharField(max_length=30, choices=OperationKind.choices)
    source = models.CharField(max_length=20, choices=Source.choices)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    actor_name = models.TextField("person at the front end", blank=True, default="", db_default="")
    actor_clerk_id = models.TextField("their Clerk id", blank=True, default="", db_default="")
    changes: models.JSONField[StoredChanges, StoredChanges] = models.JSONField(default=dict)
    details = models.JSONField(default=dict, blank=True)
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.STARTED)
    error_code = models.TextField(blank=True, default="")
    message = models.TextField(blank=True, default="")
    trace_id = models.TextField("Clerk's trace id", blank=True, default="")
    late_until = DatabaseTimeField("Clerk may take it until", null=True, blank=True)
    token = models.UUIDField(
        "one-time token of the form", null=True, blank=True, unique=True, editable=False
    )
    unseen = models.BooleanField(
        "its author has not seen the end", default=False, db_default=False, editable=False
    )
    run = models.ForeignKey(
        "BulkRun",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="attempts",
        verbose_name="bulk run",
    )
    started_at = models.DateTimeField(editable=False, db_default=Now())
    settled_at = models.DateTimeField(null=True, blank=True)

    objects = SyncAttemptQuerySet.as_manager()

    class Meta:
        verbose_name = "change"
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
    def pending(self) -> bool:
        """Return whether the attempt is not resolved yet."""
        return self.status == Status.STARTED


class ListEntry(models.Model):
    """What the list of users searches, sorts and filters by, in one row a user.

    It has a table of its own, because the other application's tools would drop our columns and
    indexes on `users`. The function `users_refresh_list` in the database is its only writer.
    Triggers call it for each change of a row, an account, an attempt, an invitation or the name of
    a group, whoever makes the change.
    """

    user = models.OneToOneField(
        BuilderUser,
        on_delete=models.DO_NOTHING,
        primary_key=True,
        related_name="entry",
        db_constraint=False,  # another application deletes rows without us
    )
    clerk_id = models.TextField(null=True)
    name_key = models.TextField(db_collation="C")
    email_key = models.TextField(db_collation="C")
    group_key = models.TextField(db_collation="C")
    search = models.TextField()
    role = models.TextField(null=True)
    builder_group = models.ForeignKey(
        BuilderGroup,
        on_delete=models.DO_NOTHING,
        null=True,
        related_name="+",
        db_constraint=False,
    )
    state = models.TextField()
    invitation = models.TextField()
    last_sign_in_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "list entries"
        default_permissions = ()
        indexes = [
            models.Index(fields=["name_key", "user"], name="listentry_name"),
            models.Index(fields=["email_key", "user"], name="listentry_email"),
            models.Index(fields=["group_key", "user"], name="listentry_group"),
            models.Index(fields=["role", "user"], name="listentry_role"),
            models.Index(fields=["state", "user"], name="listentry_state"),
            models.Index(
                F("last_sign_in_at").desc(nulls_last=True),
                F("user").desc(),
                name="listentry_last_sign_in",
            ),
            models.Index(fields=["created_at", "user"], name="listentry_created"),
            models.Index(
                fields=["invitation"], condition=~Q(invitation=""), name="listentry_invitation"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id}"


class ListDue(models.Model):
    """A user whose entry was locked by another transaction when it had to be refreshed."""

    user_id = models.UUIDField(db_index=True)

    class Meta:
        verbose_name_plural = "list entries that are due"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user_id}"


class RememberedInstance(models.Model):
    """The Clerk instance that our key belongs to; one row.

    A 404 from another instance proves nothing about our accounts.
    """

    id = models.SmallAutoField(primary_key=True)
    instance_id = models.TextField("Clerk's instance id")
    environment = models.TextField(blank=True, default="")
    remembered_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = "Clerk instance"
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
    next_at = models.DateTimeField("looks again", default=timezone.now)
    checked_at = models.DateTimeField("last looked", null=True, blank=True)
    problem = models.TextField("why it could not look", blank=True, default="")
    missed_since = models.DateTimeField("events missing since", null=True, blank=True)
    missed_at = models.DateTimeField("last found a missed change", null=True, blank=True)
    missed = models.PositiveIntegerField("accounts whose change was missed then", default=0)
    difference = models.IntegerField("users that Clerk has more than our copy", default=0)
    difference_since = models.DateTimeField(null=True, blank=True)
    scan_wanted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "check of events"
        constraints = [models.CheckConstraint(condition=Q(id=1), name="eventcheck_one_row")]

    def __str__(self) -> str:
        return f"looked at {self.checked_at}"


class InvitationStatus(models.TextChoices):
    """How far an invitation is. `WAITING` and `PENDING` are open."""

    WAITING = "waiting", "Waiting to be sent"
    PENDING = "pending", "Pending"
    ACCEPTED = "accepted", "Accepted"
    REVOKED = "revoked", "Revoked"
    EXPIRED = "expired", "Expired"
    REFUSED = "refused", "Refused by Clerk"


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Selections of invitations."""

    def acceptable(self) -> Self:
        """Select those that can still be accepted in Clerk, also if they are closed here."""
        sent = self.filter(clerk_invitation_id__isnull=False)
        return sent.filter(Q(status=InvitationStatus.PENDING) | Q(revoke_due=True))


class Invitation(models.Model):
    """A Clerk invitation that we sent: for a new account, or for a new email of an old one."""

    class Purpose(models.TextChoices):
        """What acceptance of the invitation does: create an account, or change an email."""

        NEW_ACCOUNT = "new_account", "New account"
        EMAIL_CHANGE = "email_change", "Change of email"

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        BuilderUser,
        on_delete=models.CASCADE,
        related_name="invitations",
        verbose_name="builder user",
        db_constraint=False,  # another application deletes rows without us
    )
    purpose = models.CharField(max_length=20, choices=Purpose.choices)
    email = models.EmailField()
    reference = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    """Is stored in the metadata of Clerk's invitation, to recognize ours."""
    clerk_invitation_id = models.TextField(
        "Clerk's invitation id", null=True, blank=True, unique=True
    )
    status = models.CharField(
        max_length=20, choices=InvitationStatus.choices, default=InvitationStatus.PENDING
    )
    send_after = models.DateTimeField("waits until", null=True, blank=True)
    sent_at = models.DateTimeField("sent", null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    revoke_due = models.BooleanField(
        "still to be revoked in Clerk",
        default=False,
        db_default=False,
        help_text="A newer decision has closed it here.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField("last checked", auto_now=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
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
                violation_error_message="This user has an open invitation already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_purpose_display()}: {self.email}"

    @property
    def open(self) -> bool:
        """Return whether the invitation can still be accepted, or waits to be sent."""
        return self.status in (InvitationStatus.WAITING, InvitationStatus.PENDING)


class DeliveryStatus(models.TextChoices):
    """How far a delivery is, for people."""

    TAKEN = "taken", "Taken"
    WAITING = "waiting", "Waiting"
    UNUSABLE = "unusable", "Cannot be applied"


class WebhookDelivery(models.Model):
    """One event from Clerk, by its `svix-id`. The payload is stored until the event was applied.

    `processed_at` is set when the event is not tried again. If there is still a payload then, the
    event can never be applied, and `error` says why.
    """

    svix_id = models.TextField(primary_key=True)
    type = models.TextField()
    received_at = models.DateTimeField(auto_now_add=True)
    processed_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True, default="")
    attempts = models.PositiveIntegerField(default=0)
    payload = models.JSONField(null=True, blank=True)

    class Meta:
        verbose_name = "webhook delivery"
        verbose_name_plural = "webhook deliveries"
        permissions = [("replay_webhook", "Can replay webhook deliveries")]
        ordering = ["-received_at"]
        indexes = [
            models.Index(
                fields=["received_at"], condition=Q(processed_at=None), name="webhookdelivery_open"
            ),
            models.Index(fields=["-received_at"], name="webhookdelivery_newest"),
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

    signed = models.BooleanField(primary_key=True)
    reason = models.TextField()
    refused_at = models.DateTimeField()

    class Meta:
        verbose_name = "refused webhook"

    def __str__(self) -> str:
        return self.reason


class RunStatus(models.TextChoices):
    """How far a bulk run is."""

    PLANNED = "planned", "Planned, not started"
    QUEUED = "queued", "Waiting for the worker"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    FINISHED = "finished", "Finished"
    STOPPED = "stopped", "Stopped by a brake"
    INTERRUPTED = "interrupted", "Interrupted"
    CANCELLED = "cancelled", "Cancelled"


class RunRequest(models.TextChoices):
    """What a person asks of a run that is at work."""

    PAUSE = "pause", "Pause"
    CANCEL = "cancel", "Cancel"


class BulkRun(models.Model):
    """One run of a bulk command, or of a plan that was made on the pages.

    Its rows are both its plan and its result, so that a killed run can continue. `source` is
    `ADMIN` for a plan of the pages: each of its rows needs the permissions of its author. The
    process that carries out the run reads `requested` before each row. `notes` say what the plan
    leaves out, and `summary` how much it does.
    """

    id = models.BigAutoField(primary_key=True)
    command = models.TextField()
    options = models.JSONField(default=dict, blank=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    plan_hash = models.TextField(blank=True, default="")
    undo_of = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="undone_by"
    )
    source = models.CharField(
        max_length=20,
        choices=Source.choices,
        default=Source.COMMAND,
        db_default=Source.COMMAND,
        editable=False,
    )
    notes = models.JSONField(
        default=list, db_default=models.Value([], models.JSONField()), blank=True
    )
    summary = models.TextField(blank=True, default="", db_default="")
    state = models.CharField(max_length=20, choices=RunStatus.choices, default=RunStatus.RUNNING)
    requested = models.CharField(
        max_length=20, choices=RunRequest.choices, blank=True, default="", db_default=""
    )
    message = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "bulk run"
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.command} {self.pk}"


class RowStatus(models.TextChoices):
    """How far a row of a bulk run is."""

    WAITING = "waiting", "Waiting"
    DONE = "done", "Done"
    SKIPPED = "skipped", "Skipped"
    FAILED = "failed", "Failed"


class BulkRow(models.Model):
    """One planned change of a run.

    `changes` maps a field to `[before, after]`. The value before must still be stored when the row
    is applied.
    """

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(BulkRun, on_delete=models.CASCADE, related_name="rows")
    position = models.PositiveIntegerField()
    line = models.PositiveIntegerField(null=True, blank=True)
    user = models.ForeignKey(
        BuilderUser,
        on_delete=models.DO_NOTHING,  # the row of a deletion must still say whose it was
        null=True,
        blank=True,
        related_name="+",
        db_constraint=False,  # a plan in a file may name a user who was deleted since
    )
    label = models.TextField(blank=True, default="")
    clerk_id = models.TextField(blank=True, default="")
    operation = models.CharField(max_length=30, choices=OperationKind.choices)
    changes: models.JSONField[StoredChanges, StoredChanges] = models.JSONField(default=dict)
    state = models.CharField(max_length=20, choices=RowStatus.choices, default=RowStatus.WAITING)
    reason = models.TextField(blank=True, default="")
    attempt = models.ForeignKey(
        SyncAttempt, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )

    class Meta:
        verbose_name = "row of a bulk run"
        verbose_name_plural = "rows of bulk runs"
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


class AlertKind(models.TextChoices):
    """What the people in ALERT_EMAILS are told of."""

    ATTEMPT = "attempt", "A change is pending for over an hour"
    EVENTS = "events", "Events are missing"
    SCAN = "scan", "The scan failed"
    WORKER = "worker", "No worker is running"


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
        verbose_name = "rate of requests to Clerk"
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=Q(id=1), name="clerkrate_one_row")]

    def __str__(self) -> str:
        return f"next at {self.next_at}"


class ApiUse(models.Model):
    """The number of API requests of one person, or one address, in one window.

    The window began at `since`. `key` is a digest, so that no address is stored.
    """

    key = models.TextField(primary_key=True)
    since = models.DateTimeField()
    count = models.PositiveIntegerField()

    class Meta:
        verbose_name = "use of the API"
        default_permissions = ()
        indexes = [models.Index(fields=["since"], name="apiuse_since")]

    def __str__(self) -> str:
        return f"{self.count} since {self.since}"
