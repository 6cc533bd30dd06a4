"""The entries that the list of users is searched, sorted and filtered by."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from users.models.users import BuilderGroup, BuilderUser


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
        verbose_name_plural = _("list entries")
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
        verbose_name_plural = _("list entries that are due")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.user_id}"
