"""Staff whom a record names as its author are not deleted, so that it stays true who did it."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import PROTECT, ManyToOneRel, ProtectedError
from django.db.models.signals import pre_delete
from django.dispatch import receiver


def is_author(user: User) -> bool:
    """Tell whether any record names the user as who did it."""
    return any(
        relation.related_model._base_manager.filter(**{relation.field.name: user}).exists()
        for relation in _records()
    )


def why_kept(user: User) -> str:
    """Say why a user cannot be deleted, and what to do instead."""
    return (
        f"{user.get_username()} cannot be deleted: records name them as who made a change, sent "
        "an invitation, started a run or signed in. Deactivate them instead: open the user and "
        "take away the mark at “Active”. They can no longer sign in, and the records stay true."
    )


def _records() -> list[ManyToOneRel]:
    """List the relations to those who did something. Django would delete its log with them."""
    return [
        relation
        for relation in User._meta.get_fields(include_hidden=True)
        if isinstance(relation, ManyToOneRel)
        and (relation.on_delete is PROTECT or relation.related_model is LogEntry)
    ]


@receiver(pre_delete, sender=User)
def _refuse_deletion(instance: User, **kwargs: Any) -> None:
    """Raise `ProtectedError` for an author, however the deletion came about."""
    # Under the lock nobody becomes one meanwhile: a new record needs the row of its author.
    locked = User.objects.select_for_update().filter(pk=instance.pk).first()
    if locked and is_author(locked):
        raise ProtectedError(why_kept(locked), {locked})
