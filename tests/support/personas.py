"""Staff by what they may do."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from tests.support.factories import StaffFactory
from users.sync.access import groups


def staff_who_may(*names: str) -> User:
    """A staff member with single permissions, named as `users.invite`."""
    staff = StaffFactory(is_superuser=False)
    give(staff, names)
    return staff


def give(staff: User, names: Iterable[str]) -> None:
    """Give single permissions to a staff member who has none of them yet."""
    held = User.user_permissions.through
    held.objects.bulk_create(
        held(user=staff, permission=permission) for permission in groups.of_names(names)
    )


def staff_in(*names: str) -> User:
    """A staff member of groups, which a flushed database has no more."""
    groups.apply()
    staff = StaffFactory(is_superuser=False)
    staff.groups.set(Group.objects.filter(name__in=names))
    return staff


def browser_of(staff: User) -> Client:
    client = Client()
    client.force_login(staff)
    return client


def client_who_may(*codenames):
    staff = StaffFactory(is_superuser=False)
    staff.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(staff)
    return client
