"""Define the staff groups and their permissions, and update the tables to match.

Migration 0012 created the groups; `manage.py staff_groups` updates them. Other groups are not
changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import QuerySet, Value
from django.db.models.functions import Concat

VIEWER = (
    "users.view_builderuser",
    "users.view_buildergroup",
    "users.view_invitation",
    "users.view_syncattempt",
)
EDITOR = (
    *VIEWER,
    "users.add_builderuser",
    "users.change_builderuser",
    "users.add_buildergroup",
    "users.change_buildergroup",
)
SUPPORT = (*EDITOR, "users.invite", "users.unlock", "users.sign_out", "users.reset_mfa")
MANAGER = (
    *SUPPORT,
    "users.set_password",
    "users.replace_email",
    "users.create_account",
    "users.change_role",
    "users.ban",
    "users.link",
    "users.delete_builderuser",
    "users.delete_buildergroup",
    "users.view_clerkaccount",
)
ENGINEER = (
    *VIEWER,
    "users.view_clerkaccount",
    "users.view_bulkrun",
    "users.view_bulkrow",
    "users.view_webhookdelivery",
    "users.replay_webhook",
)
GROUPS = {
    "Viewer": VIEWER,
    "Editor": EDITOR,
    "Support": SUPPORT,
    "Manager": MANAGER,
    "Engineer": ENGINEER,
}
"""No group has `users.manage_admins`: it is given separately, to few people."""

STAFF = (
    *(f"auth.{action}_user" for action in ("view", "add", "change")),
    *(f"auth.{action}_group" for action in ("view", "add", "change", "delete")),
)
"""Permissions over staff users and groups. Only superusers may delete staff users."""
OFFERED = tuple(sorted({*MANAGER, *ENGINEER, "users.manage_admins", *STAFF}))
"""The permissions that this application uses. Django creates four for each table, used or not."""


@dataclass(frozen=True)
class Difference:
    """Difference between a group in the database and its definition in `GROUPS`."""

    group: str
    exists: bool
    lacks: tuple[str, ...]
    has_too_many: tuple[str, ...]

    def __str__(self) -> str:
        parts = [] if self.exists else ["is to be made"]
        if self.lacks:
            parts.append(f"lacks {', '.join(self.lacks)}")
        if self.has_too_many:
            parts.append(f"has too many: {', '.join(self.has_too_many)}")
        return f"{self.group}: {'; '.join(parts)}."


def differences() -> list[Difference]:
    """List the groups that differ from their definition in `GROUPS`."""
    found = [_difference(name, set(wanted)) for name, wanted in GROUPS.items()]
    return [one for one in found if not one.exists or one.lacks or one.has_too_many]


def _difference(name: str, wanted: set[str]) -> Difference:
    group = Group.objects.filter(name=name).first()
    held = named(Permission.objects.filter(group=group)) if group else set()
    lacks, too_many = sorted(wanted - held), sorted(held - wanted)
    return Difference(name, group is not None, tuple(lacks), tuple(too_many))


def apply() -> None:
    """Create the groups of `GROUPS` and give them exactly their permissions."""
    with transaction.atomic():
        for name, wanted in GROUPS.items():
            group, _ = Group.objects.get_or_create(name=name)
            group.permissions.set(of_names(wanted))


def of_names(names: Iterable[str]) -> QuerySet[Permission]:
    """Select permissions by app label and codename, such as `users.invite`."""
    name = Concat("content_type__app_label", Value("."), "codename")
    return Permission.objects.alias(name_of_permission=name).filter(name_of_permission__in=names)


def named(permissions: QuerySet[Permission]) -> set[str]:
    """Return the app label and codename of permissions, such as `users.invite`."""
    pairs = permissions.order_by().values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in pairs}
