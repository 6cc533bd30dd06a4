"""`ClerkAccount`: our copy of Clerk's side, kept by every answer, event and scan."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.db import connection
from django.utils import timezone
from psycopg.types.json import Jsonb

from users.clerk import ClerkUser
from users.models import ClerkAccount

OUR_ID = "cascade_user_id"
"""The key in Clerk's public metadata that holds the id of our row."""

_COPIED = (
    "email",
    "email_verified",
    "first_name",
    "last_name",
    "image_url",
    "banned",
    "locked",
    "two_factor_enabled",
    "password_enabled",
    "providers",
    "last_sign_in_at",
    "clerk_created_at",
    "clerk_updated_at",
    "claimed_id",
    "seen_at",
)

# An answer, an event and a scan may overtake one another. The state with the later
# `updated_at` stays, and `deleted_at` with it: ids are never used again. What comes late from
# before the deletion still counts, so that the order in which events come does not matter.
# `user_id` always follows users.clerk_id, in the same statement, so that it cannot go astray.
_KEEP = """
INSERT INTO users_clerkaccount AS known (clerk_id, user_id, {columns})
VALUES (%s, (SELECT id FROM users WHERE clerk_id = %s), {values})
ON CONFLICT (clerk_id) DO UPDATE SET
    user_id = excluded.user_id,
    note = CASE WHEN known.user_id IS NOT DISTINCT FROM excluded.user_id THEN known.note
                ELSE '' END,
    {updates}
WHERE known.clerk_updated_at IS NULL
   OR excluded.clerk_updated_at >= known.clerk_updated_at
""".format(
    columns=", ".join(_COPIED),
    values=", ".join(["%s"] * len(_COPIED)),
    updates=", ".join(
        f"{column} = greatest(known.{column}, excluded.{column})"
        if column == "last_sign_in_at"
        else f"{column} = excluded.{column}"
        for column in _COPIED
    ),
)


def claimed_id(account: ClerkUser) -> uuid.UUID | None:
    """The id of our row that the account's public metadata names: only our own calls can write
    there."""
    try:
        return uuid.UUID(str(account.public_metadata.get(OUR_ID)))
    except ValueError:
        return None


def columns_of(account: ClerkUser, *, seen_at: datetime) -> dict[str, Any]:
    """The columns of our copy, without its keys."""
    return {
        "email": account.email,
        "email_verified": account.email_verified,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "image_url": account.image_url,
        "banned": account.banned,
        "locked": account.locked,
        "two_factor_enabled": account.two_factor_enabled,
        "password_enabled": account.password_enabled,
        "providers": list(account.providers),
        "last_sign_in_at": account.last_sign_in_at,
        "clerk_created_at": account.created_at,
        "clerk_updated_at": account.updated_at,
        "claimed_id": claimed_id(account),
        "seen_at": seen_at,
    }


def keep(account: ClerkUser) -> bool:
    """Take over the account as Clerk has just shown it; False if ours is newer."""
    columns = columns_of(account, seen_at=timezone.now())
    columns["providers"] = Jsonb(columns["providers"])
    values = [account.id, account.id, *(columns[column] for column in _COPIED)]
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, values)
        return cursor.rowcount == 1


def is_newer(known: ClerkAccount, account: ClerkUser) -> bool:
    """Whether our copy is of a later state. A state without a time is older than any."""
    if known.clerk_updated_at is None:
        return False
    return account.updated_at is None or known.clerk_updated_at > account.updated_at


def user_of(known: ClerkAccount) -> ClerkUser:
    """Our copy as the gateway gives users: what a row follows."""
    return ClerkUser(
        id=known.clerk_id,
        email=known.email,
        email_verified=known.email_verified,
        first_name=known.first_name,
        last_name=known.last_name,
        banned=known.banned,
        updated_at=known.clerk_updated_at,
        public_metadata={OUR_ID: str(known.claimed_id)} if known.claimed_id else {},
    )


def keep_deleted(clerk_id: str) -> None:
    """Clerk does not have this account any more."""
    now = timezone.now()
    ClerkAccount.objects.update_or_create(
        clerk_id=clerk_id,
        defaults={"deleted_at": now, "seen_at": now},
    )
