"""The edit token: the values that a form was opened with, as a signed text.

The token changes whenever a shown field changed, whoever wrote the field. A counter or
`updated_at` would not change: the application that this one replaces writes the same table and
updates neither. The token holds the values themselves, so that a conflict can list what changed.
"""

from __future__ import annotations

from collections.abc import Callable

from django.core import signing

from users.clerk import emails, names
from users.models import BuilderUser

SALT = "users.version"
SHOWN = ("name", "email", "role", "internal_role", "builder_group", "clerk_id")
"""The fields that a token covers. `builder_group` stands for its id, as text."""


class UnreadableToken(ValueError):
    """This application did not make the token, or made it for another user."""


def value_of(user: BuilderUser, field: str) -> object:
    """Return the stored value of a shown field, in a form that JSON can hold."""
    if field == "builder_group":
        return str(user.builder_group_id) if user.builder_group_id else None
    return getattr(user, field)


def values_of(user: BuilderUser) -> dict[str, object]:
    """Return the stored values of all shown fields."""
    return {field: value_of(user, field) for field in SHOWN}


def version_of(user: BuilderUser) -> str:
    """Return the token for the values that are stored now."""
    return token_of(user, values_of(user))


def token_of(user: BuilderUser, base: dict[str, object]) -> str:
    """Return the token for the values in `base`. It is valid for this user only."""
    values = [str(user.pk), *(base[field] for field in SHOWN)]
    return signing.dumps(values, salt=SALT, compress=True)


def base_of(token: str, user: BuilderUser) -> dict[str, object]:
    """Return the values that a form of `user` was opened with.

    Raises `UnreadableToken`.
    """
    try:
        owner, *values = signing.loads(token, salt=SALT)
        base = dict(zip(SHOWN, values, strict=True))
    except (signing.BadSignature, TypeError, ValueError):
        raise UnreadableToken from None
    if owner != str(user.pk):
        raise UnreadableToken
    return base


def differences(user: BuilderUser, base: dict[str, object]) -> list[str]:
    """List the shown fields whose stored value differs from `base`."""
    return [field for field in SHOWN if field in base and value_of(user, field) != base[field]]


def same(field: str, one: object, other: object) -> bool:
    """Return whether two values of a field are equal, ignoring how legacy rows spell them.

    Legacy rows hold double spaces, capitals and empty texts that no form would store. These
    differences do not count as changes: otherwise editing the group would rename the person in
    Clerk.
    """
    if normalized := _NORMALIZED.get(field):
        return normalized(str(one or "")) == normalized(str(other or ""))
    return (one or None) == (other or None)


_NORMALIZED: dict[str, Callable[[str], str]] = {
    "name": names.normalized,
    "email": emails.normalized,
}
"""Must agree with `users.sync.mirror.comparison`, which compares the row with Clerk."""
