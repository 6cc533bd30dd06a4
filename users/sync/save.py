"""Saving the form of a builder user."""

from __future__ import annotations

import uuid
from typing import Any

from users.clerk import names
from users.errors import Refused
from users.models import BuilderUser, Source
from users.sync import pending
from users.sync.actors import Actor
from users.sync.dual_write import Saved, dual_write, refuse
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
    token: uuid.UUID | None = None,
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
    if not recorded:
        return Saved(user)
    operation = Edit.on(user, recorded)
    if "email" in recorded and user.linked:
        guarded = Refused(
            "Nothing was saved, here or in Clerk.",
            code="email_guarded",
            fields={
                "email": [
                    "This email is how they sign in. Changing it requires an invitation: use "
                    "Change email."
                ]
            },
        )
        raise refuse(operation, guarded, actor=actor, source=source)
    return dual_write(operation, user, actor=actor, source=source, version=version, token=token)


def create_user(
    user: BuilderUser,
    *,
    actor: Actor,
    account: str = "create",
    source: Source = Source.ADMIN,
    token: uuid.UUID | None = None,
) -> Saved:
    """Store a new user; with `account` "create" its Clerk account is made first.

    The same again, while an earlier create is pending, keeps the id of its row: so the account
    is known whichever request arrives. Raises the `ChangeFailed` family of `dual_write`.
    """
    if earlier := pending.create_of(user.email):
        user.pk = earlier.user_id
    operation = Create.of(user, account=account)
    return dual_write(operation, user, actor=actor, source=source, token=token)


def _stored(value: Any) -> Any:
    """A wanted value as JSON and the column hold it: a group by its id, no text as NULL."""
    if value is None or isinstance(value, str):
        return value
    return str(value.pk)


def same(field: str, before: Any, after: Any) -> bool:
    """Old rows hold double spaces and capitals that no form would store. They are no change:
    else editing the group would rename the person in Clerk."""
    if field == "name" and before and after:
        return names.squash(before) == names.squash(after)
    if field == "email" and before and after:
        return bool(before.strip().lower() == after.strip().lower())
    return bool(before == after)
