"""Refuse to delete staff users whom a record names as its author.

The records must keep saying who made a change.
"""

from __future__ import annotations

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import PROTECT, ManyToOneRel, ProtectedError
from django.db.models.signals import pre_delete
from django.dispatch import receiver


def is_author(user: User) -> bool:
    """Return whether any record names the user as its author."""
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
    """List the relations from records to their author.

    The log entries of Django's admin are included: deleting a user would delete them too.
    """
    return [
        relation
        for relation in User._meta.get_fields(include_hidden=True)
        if isinstance(relation, ManyToOneRel)
        and (relation.on_delete is PROTECT or relation.related_model is LogEntry)
    ]


@receiver(pre_delete, sender=User)
def _refuse_deletion(instance: User, **kwargs: object) -> None:
    """Refuse the deletion of an author, from whichever code it comes.

    Raises `ProtectedError`.
    """
    # The lock keeps new records from naming this user: their foreign key needs the locked row.
    locked = User.objects.select_for_update().filter(pk=instance.pk).first()
    if locked and is_author(locked):
        raise ProtectedError(why_kept(locked), {locked})
