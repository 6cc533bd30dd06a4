"""The version of a user that a form was opened with: an opaque token of the shown values.

It moves whenever a shown field changed, whoever wrote it. A counter or `updated_at` would not:
the application that this one replaces writes the same table and bumps neither. The token holds
the values themselves, signed, so that a conflict can say what changed since.
"""

from __future__ import annotations

from typing import Any

from django.core import signing

from users.errors import Conflict
from users.models import BuilderUser

SALT = "users.version"
SHOWN = ("name", "email", "role", "internal_role", "builder_group", "clerk_id")
"""The fields that a version covers. `builder_group` stands for its id, as text."""


def value_of(user: BuilderUser, field: str) -> Any:
    """The stored value of a shown field, as JSON can hold it."""
    if field == "builder_group":
        return str(user.builder_group_id) if user.builder_group_id else None
    return getattr(user, field)


def version_of(user: BuilderUser) -> str:
    return signing.dumps([value_of(user, field) for field in SHOWN], salt=SALT, compress=True)


def base_of(token: str) -> dict[str, Any]:
    """The shown values that `token` stands for.

    Raises `Conflict` for a token that this application did not make.
    """
    try:
        values = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        values = None
    if not isinstance(values, list) or len(values) != len(SHOWN):
        raise Conflict(
            "This form cannot be compared with what is stored, so nothing was saved. "
            "Look at your changes and save again."
        ) from None
    return dict(zip(SHOWN, values, strict=True))


def differences(user: BuilderUser, base: dict[str, Any]) -> list[str]:
    """The shown fields whose stored value is not the one in `base`."""
    return [field for field in SHOWN if field in base and value_of(user, field) != base[field]]
