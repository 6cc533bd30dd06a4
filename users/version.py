"""The edit token: what a form was opened with, as an opaque signed text.

The token changes whenever a shown field changed, whoever wrote it. A counter or `updated_at` would
not: the application that this one replaces writes the same table and moves neither. The token holds
the values themselves, so that a conflict can say what changed since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core import signing

from users.clerk import emails, names
from users.models import BuilderUser

SALT = "users.version"
SHOWN = ("name", "email", "role", "internal_role", "builder_group", "clerk_id")
"""The fields that a token covers. `builder_group` stands for its id, as text."""


class UnreadableToken(ValueError):
    """This application did not make the token, or made it for another user."""


def value_of(user: BuilderUser, field: str) -> Any:
    """The stored value of a shown field, as JSON can hold it."""
    if field == "builder_group":
        return str(user.builder_group_id) if user.builder_group_id else None
    return getattr(user, field)


def values_of(user: BuilderUser) -> dict[str, Any]:
    return {field: value_of(user, field) for field in SHOWN}


def version_of(user: BuilderUser) -> str:
    """Return the token of the values that are stored now."""
    return token_of(user, values_of(user))


def token_of(user: BuilderUser, base: dict[str, Any]) -> str:
    values = [str(user.pk), *(base[field] for field in SHOWN)]
    return signing.dumps(values, salt=SALT, compress=True)


def base_of(token: str, user: BuilderUser) -> dict[str, Any]:
    """Return the values that a form of `user` was opened with. Raises `UnreadableToken`."""
    try:
        owner, *values = signing.loads(token, salt=SALT)
        base = dict(zip(SHOWN, values, strict=True))
    except (signing.BadSignature, TypeError, ValueError):
        raise UnreadableToken from None
    if owner != str(user.pk):
        raise UnreadableToken
    return base


def differences(user: BuilderUser, base: dict[str, Any]) -> list[str]:
    """The shown fields whose stored value is not the one in `base`."""
    return [field for field in SHOWN if field in base and value_of(user, field) != base[field]]


def same(field: str, one: Any, other: Any) -> bool:
    """Compare two values of a field, ignoring how legacy rows spell them.

    Legacy rows hold double spaces, capitals and empty texts that no form would store. These are
    no change: otherwise editing the group would rename the person in Clerk.
    """
    if normalized := _NORMALIZED.get(field):
        return normalized(one or "") == normalized(other or "")
    return (one or None) == (other or None)


_NORMALIZED: dict[str, Callable[[str], str]] = {
    "name": names.normalized,
    "email": emails.normalized,
}
"""As `users.sync.mirror.comparison` compares the row with Clerk."""
