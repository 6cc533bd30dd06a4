"""The values that a change wanted, as its author typed them; never a secret."""

from __future__ import annotations

from typing import Any

from users.models import BuilderUser, OperationKind, SyncAttempt

LABELS = {
    "name": "Name",
    "email": "Email",
    "role": "Role",
    "internal_role": "Internal role",
    "builder_group": "Builder group",
    "invitation": "Invitation to",
    "clerk_id": "Clerk account",
}
"""The fields that people type or choose. Other changes are described by their kind alone."""

NOTHING_TYPED = (OperationKind.DELETE, OperationKind.UNLINK, OperationKind.REVOKE)
GONE_GROUP = "a group that was deleted"


def wanted_of(attempt: SyncAttempt) -> list[tuple[str, str]]:
    """List (label, value) for the fields of an attempt, which comes from `unseen.with_group`."""
    if attempt.operation in NOTHING_TYPED:
        return []
    return [
        (label, _text(attempt, field, attempt.changes[field][1]))
        for field, label in LABELS.items()
        if field in attempt.changes
    ]


def _text(attempt: SyncAttempt, field: str, value: Any) -> str:
    if value in (None, ""):
        return "—"
    if field == "builder_group":
        return getattr(attempt, "wanted_group", None) or GONE_GROUP
    if field in ("role", "internal_role"):
        column: Any = BuilderUser._meta.get_field(field)
        return str(dict(column.choices).get(value, value))
    return str(value)
