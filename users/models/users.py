"""Builder groups and builder users: the columns of the application that this one replaces."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any, Self

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower, Now
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from users import guard
from users.ids import USER_ID


class BuilderGroup(models.Model):
    """A home builder's company or region. Builder users belong to one."""

    id = models.UUIDField(
        primary_key=True, default=uuid.uuid4, db_default=RandomUUID(), editable=False
    )
    name = models.TextField(_("name"))
    email = models.EmailField(_("email"), null=True, blank=True)
    enrollment_slug = models.SlugField(
        _("enrollment slug"), max_length=200, null=True, blank=True, unique=True
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True, db_default=Now())

    class Meta:
        verbose_name = _("builder group")
        verbose_name_plural = _("builder groups")
        db_table = "builder_groups"
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    """The role of a builder user in the front end."""

    ADMIN = "ADMIN", _("Admin")
    HOMEOWNER = "HOMEOWNER", _("Homeowner")
    BUILDER = "BUILDER", _("Builder")


class InternalRole(models.TextChoices):
    """The additional role of a user whose role is Admin."""

    ADMINISTRATOR = "Administrator", _("Administrator")
    EMPLOYEE = "Employee", _("Employee")


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
    clerk_id = models.TextField(_("Clerk id"), null=True, blank=True, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=200)
    email = models.EmailField(_("email"))
    role = models.CharField(
        _("role"),
        max_length=20,
        choices=Role.choices,
        default=Role.BUILDER,
        db_default=Role.BUILDER,
    )
    internal_role = models.CharField(
        _("internal role"),
        max_length=50,
        choices=InternalRole.choices,
        null=True,
        blank=True,
        help_text=_("Only for the role Admin."),
    )
    builder_group = models.ForeignKey(
        BuilderGroup,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="users",
        verbose_name=_("builder group"),
    )
    created_at = models.DateTimeField(_("created at"), editable=False, db_default=Now())
    updated_at = models.DateTimeField(_("updated at"), auto_now=True, db_default=Now())

    objects = BuilderUserQuerySet.as_manager()

    class Meta:
        verbose_name = _("builder user")
        verbose_name_plural = _("builder users")
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
                violation_error_message=_("Another builder user has this email."),
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
