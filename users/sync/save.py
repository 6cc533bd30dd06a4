"""Saving the form of a builder user."""

from __future__ import annotations

from typing import Any

from users.errors import Refused
from users.models import BuilderUser, Source
from users.sync.actors import Actor
from users.sync.dual_write import Saved, dual_write
from users.sync.mirror import comparison
from users.sync.operations import Create, Edit
from users.sync.operations.base import Changes
from users.version import base_of, value_of

EDITABLE = ("name", "email", "role", "internal_role", "builder_group")


def save_user(
    user: BuilderUser,
    *,
    actor: Actor,
    changes: dict[str, Any],
    version: str | None = None,
    source: Source = Source.ADMIN,
) -> Saved:
    """Store the wanted values of fields on both sides.

    `changes` maps fields of `EDITABLE` to their wanted values (a `BuilderGroup` or None for the
    group); those that hold it already are left out. `version` is the token that the form was
    opened with; without it the values of `user` as it was loaded are what must still be stored.

    Raises `Refused` (code "email_guarded") for a new email of a linked user, and the
    `ChangeFailed` family of `dual_write`.
    """
    base = base_of(version) if version is not None else {}
    recorded: Changes = {}
    for field in EDITABLE:
        if field not in changes:
            continue
        before = base.get(field, value_of(user, field))
        after = _stored(changes[field])
        if not same(field, before, after):
            recorded[field] = [before, after]
    if "email" in recorded and user.linked:
        raise Refused(
            "Nothing was saved, here or in Clerk.",
            code="email_guarded",
            fields={"email": ["Changing the email of a linked user requires an invitation."]},
        )
    if not recorded:
        return Saved(user)
    return dual_write(Edit.on(user, recorded), user, actor=actor, source=source, version=version)


def create_user(
    user: BuilderUser, *, actor: Actor, account: str = "create", source: Source = Source.ADMIN
) -> Saved:
    """Store a new user; with `account` "create" its Clerk account is made first.

    Raises the `ChangeFailed` family of `dual_write`.
    """
    operation = Create.of(user, account=account)
    return dual_write(operation, user, actor=actor, source=source)


def _stored(value: Any) -> Any:
    """A wanted value as JSON and the column hold it: a group by its id, no text as NULL."""
    if value is None or isinstance(value, str):
        return value
    return str(value.pk)


def same(field: str, before: Any, after: Any) -> bool:
    """Old rows hold double spaces and capitals that no form would store. They are no change:
    else editing the group would rename the person in Clerk."""
    return comparison.same(field, before, after)
