"""The values that a change wanted, as its author typed them; never a secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

from users.models import InternalRole, OperationKind, Role, SyncAttempt
from users.sync.display import group_names

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

LABELS = {
    "name": _("Name"),
    "email": _("Email"),
    "role": _("Role"),
    "internal_role": _("Internal role"),
    "builder_group": _("Builder group"),
    "invitation": _("Invitation to"),
    "clerk_id": _("Clerk account"),
    "account": _("Clerk account with"),
}
"""The fields that people type or choose. Other changes are described by their kind alone."""

CHOICES: Mapping[str, Mapping[str, StrOrPromise]] = {
    "role": dict(Role.choices),
    "internal_role": dict(InternalRole.choices),
}
NOTHING_TYPED = (OperationKind.DELETE, OperationKind.UNLINK, OperationKind.REVOKE)
GONE_GROUP = _("a group that was deleted")


def groups_of(attempts: Iterable[SyncAttempt]) -> Mapping[str, str]:
    """Map the ids of the builder groups that attempts want to their names."""
    wanted = {attempt.changes.get("builder_group", (None, None))[1] for attempt in attempts}
    return group_names([str(group) for group in wanted if group])


def wanted_of(attempt: SyncAttempt, groups: Mapping[str, str]) -> list[tuple[str, str]]:
    """List (label, value) for the fields of an attempt. `groups` comes from `groups_of`."""
    if attempt.operation in NOTHING_TYPED:
        return []
    return [
        (str(label), _text(field, attempt.changes[field][1], groups))
        for field, label in LABELS.items()
        if field in attempt.changes
    ]


def _text(field: str, value: object, groups: Mapping[str, str]) -> str:
    if not value:
        return "—"
    if field == "builder_group":
        return groups.get(str(value)) or str(GONE_GROUP)
    return str(CHOICES.get(field, {}).get(str(value), value))
