"""The values that a change wanted, as its author typed them; never a secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from users.models import InternalRole, OperationKind, Role, SyncAttempt
from users.sync.display import group_names

LABELS = {
    "name": "Name",
    "email": "Email",
    "role": "Role",
    "internal_role": "Internal role",
    "builder_group": "Builder group",
    "invitation": "Invitation to",
    "clerk_id": "Clerk account",
    "account": "Clerk account with",
}
"""The fields that people type or choose. Other changes are described by their kind alone."""

CHOICES: Mapping[str, Mapping[str, str]] = {
    "role": dict(Role.choices),
    "internal_role": dict(InternalRole.choices),
}
NOTHING_TYPED = (OperationKind.DELETE, OperationKind.UNLINK, OperationKind.REVOKE)
GONE_GROUP = "a group that was deleted"


def groups_of(attempts: Iterable[SyncAttempt]) -> Mapping[str, str]:
    """Map the ids of the builder groups that attempts want to their names."""
    wanted = {attempt.changes.get("builder_group", (None, None))[1] for attempt in attempts}
    return group_names([str(group) for group in wanted if group])


def wanted_of(attempt: SyncAttempt, groups: Mapping[str, str]) -> list[tuple[str, str]]:
    """List (label, value) for the fields of an attempt. `groups` comes from `groups_of`."""
    if attempt.operation in NOTHING_TYPED:
        return []
    return [
        (label, _text(field, attempt.changes[field][1], groups))
        for field, label in LABELS.items()
        if field in attempt.changes
    ]


def _text(field: str, value: object, groups: Mapping[str, str]) -> str:
    if not value:
        return "—"
    if field == "builder_group":
        return groups.get(str(value), GONE_GROUP)
    return CHOICES.get(field, {}).get(str(value), str(value))
