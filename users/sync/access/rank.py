"""Decide which staff users and groups a person may edit, and which permissions they may give.

Nobody edits a person who may do more than they may, and nobody gives a permission that they do not
hold. The permissions of inactive users count too: otherwise a person who may edit staff could take
over a powerful inactive account and activate it.
"""

from __future__ import annotations

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q, QuerySet

from users.sync.actors import SERVICE_USERNAME, Actor


def may_edit_user(actor: Actor, other: User) -> bool:
    """Tell whether a person may edit a staff user, set their password, or delete them."""
    if _is_superuser(actor):
        return True
    if other.is_superuser or other.get_username() == SERVICE_USERNAME:
        return False
    return not _of_user(other).exclude(pk__in=_held_by(actor)).exists()


def may_edit_group(actor: Actor, group: Group) -> bool:
    """Tell whether a person may edit a group.

    Superusers may edit every group. Others may not edit their own groups, nor a group that gives
    more than they have.
    """
    if _is_superuser(actor):
        return True
    if not isinstance(actor, User) or group.user_set.filter(pk=actor.pk).exists():
        return False
    return groups_within(actor).filter(pk=group.pk).exists()


def may_give(actor: Actor, permissions: QuerySet[Permission]) -> QuerySet[Permission]:
    """Limit permissions to those that a person may give to others."""
    return permissions if _is_superuser(actor) else permissions.filter(pk__in=_held_by(actor))


def groups_within(actor: Actor) -> QuerySet[Group]:
    """Select the groups that give only permissions that a person has."""
    if _is_superuser(actor):
        return Group.objects.all()
    beyond = Permission.objects.exclude(pk__in=_held_by(actor))
    return Group.objects.exclude(permissions__in=beyond)


def _is_superuser(actor: Actor) -> bool:
    return isinstance(actor, User) and actor.is_active and actor.is_superuser


def _held_by(actor: Actor) -> QuerySet[Permission]:
    return _of_user(actor) if isinstance(actor, User) else Permission.objects.none()


def _of_user(user: User) -> QuerySet[Permission]:
    return Permission.objects.filter(Q(user=user) | Q(group__user=user)).distinct()
