"""Staff by what they may do."""

from __future__ import annotations

from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from tests.support.factories import StaffFactory
from users.sync.access import groups


def staff_who_may(*names: str) -> User:
    """A staff member with single permissions, named as `users.invite`."""
    staff = StaffFactory(is_superuser=False)
    staff.user_permissions.set(groups.of_names(names))
    return staff


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
