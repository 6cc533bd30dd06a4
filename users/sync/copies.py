"""`ClerkAccount`: our copy of Clerk's side, kept by every answer, event and scan."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
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

_TOLD = ("banned", "locked", "image_url", "two_factor_enabled")
"""What the journal tells about an account itself."""

# An answer, an event and a scan may overtake one another. The state with the later
# `updated_at` stays. What comes late from before a deletion still counts, so that the order in
# which events come does not matter.
# No insert sets `user_id`: of two that insert the same account at once, one would fail at that
# column's unique key, which ON CONFLICT (clerk_id) does not cover. `_FOLLOW_ROWS` sets it after.
_NEWER_STAYS = """
ON CONFLICT (clerk_id) DO UPDATE SET {updates}
WHERE known.clerk_updated_at IS NULL
   OR excluded.clerk_updated_at >= known.clerk_updated_at
""".format(
    updates=", ".join(
        f"{column} = greatest(known.{column}, excluded.{column})"
        if column in ("last_sign_in_at", "seen_at")
        else f"{column} = excluded.{column}"
        for column in _COPIED
    )
)

# Another application changes users.clerk_id without us. First release each copy whose row has
# another id, so that the second statement finds the unique key free.
_FOLLOW_ROWS = """
UPDATE users_clerkaccount AS known SET user_id = NULL, note = ''
FROM users
WHERE users.id = known.user_id AND users.clerk_id IS DISTINCT FROM known.clerk_id {claims};
UPDATE users_clerkaccount AS known SET user_id = users.id, note = ''
FROM users
WHERE users.clerk_id = known.clerk_id AND known.user_id IS DISTINCT FROM users.id {accounts}
"""

_FOLLOW_ALL_ROWS = _FOLLOW_ROWS.format(claims="", accounts="")

_FOLLOW_SOME_ROWS = _FOLLOW_ROWS.format(
    claims="""
    AND known.user_id IN (
        SELECT id FROM users WHERE clerk_id = ANY(%s)
        UNION ALL SELECT user_id FROM users_clerkaccount WHERE clerk_id = ANY(%s)
    )""",
    # Said of both, so that the planner reads neither table as a whole.
    accounts="AND known.clerk_id = ANY(%s) AND users.clerk_id = ANY(%s)",
)

# An answer shows that the account was there when Clerk was asked: that takes back what said
# otherwise before, and nothing later. An event says nothing of it: it may be a late one.
_LIVES = """
UPDATE users_clerkaccount AS known SET
    deleted_at = CASE WHEN deleted_at > page.asked_at THEN deleted_at END,
    not_found_at = CASE WHEN not_found_at > page.asked_at THEN not_found_at END
FROM unnest(%s::text[], %s::timestamptz[]) AS page (clerk_id, asked_at)
WHERE known.clerk_id = page.clerk_id
    AND (known.deleted_at IS NOT NULL OR known.not_found_at IS NOT NULL)
"""

_KEEP = """
WITH before AS (SELECT {told} FROM users_clerkaccount WHERE clerk_id = %s)
INSERT INTO users_clerkaccount AS known (clerk_id, {columns})
VALUES (%s, {values})
{newer_stays}
RETURNING known.note, known.released_at IS NOT NULL,
    (SELECT row_to_json(before) FROM before)
""".format(
    told=", ".join(_TOLD),
    columns=", ".join(_COPIED),
    values=", ".join(["%s"] * len(_COPIED)),
    newer_stays=_NEWER_STAYS,
)

# In the order of the ids: two that write the same accounts wait for one another, and do not
# meet head-on.
_KEEP_ALL = """
INSERT INTO users_clerkaccount AS known (clerk_id, {columns})
SELECT page.clerk_id, {values}
FROM jsonb_populate_recordset(NULL::users_clerkaccount, %s::jsonb) AS page
ORDER BY page.clerk_id
{newer_stays}
""".format(
    columns=", ".join(_COPIED),
    values=", ".join(f"page.{column}" for column in _COPIED),
    newer_stays=_NEWER_STAYS,
)


def claimed_id(account: ClerkUser) -> uuid.UUID | None:
    """The id of our row that the account's public metadata names: only our own calls can write
    there."""
    named = account.public_metadata.get(OUR_ID)
    try:
        return uuid.UUID(str(named)) if named else None
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


@dataclass(frozen=True)
class Kept:
    """A copy that was taken over. `note` stands on it, and whether it was `released`; `before`
    holds what ours said until then of a ban and the like, None for an account that was not
    known."""

    note: str
    released: bool
    before: Mapping[str, Any] | None

    def changes(self, account: ClerkUser) -> dict[str, list[Any]]:
        """What changed about the account itself, `{field: [before, after]}`."""
        return {
            field: [value, getattr(account, field)]
            for field, value in (self.before or {}).items()
            if value != getattr(account, field)
        }


def keep(account: ClerkUser) -> Kept | None:
    """Take over the account as Clerk has just shown it; None if ours is newer: a state without
    a time is older than any. The copy belongs to the row that has the account's id now."""
    columns = columns_of(account, seen_at=_seen_at(account))
    columns["providers"] = Jsonb(columns["providers"])
    values = [account.id] * 2 + [columns[column] for column in _COPIED]
    with connection.cursor() as cursor:
        cursor.execute(
            f"{_KEEP}; {_LIVES}; {_FOLLOW_SOME_ROWS}",
            [*values, *_answers([account]), *[[account.id]] * 4],
        )
        kept = cursor.fetchone()
        moved = _rows_of_last_statement(cursor)
    if kept is None:
        return None
    note, released, before = kept
    return Kept("" if moved else note, released, before)


def keep_all(accounts: Iterable[ClerkUser]) -> None:
    """`keep` for a page of a scan, in one round trip."""
    accounts = list(accounts)
    rows = [
        {"clerk_id": account.id, **columns_of(account, seen_at=_seen_at(account))}
        for account in accounts
    ]
    ids = [row["clerk_id"] for row in rows]
    # Not waiting for the disk: the next commit that does takes this one along, and a scan's
    # last word is one.
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"SET LOCAL synchronous_commit = off; {_KEEP_ALL}; {_LIVES}; {_FOLLOW_SOME_ROWS}",
            [orjson.dumps(rows).decode(), *_answers(accounts), *[ids] * 4],
        )


def _seen_at(account: ClerkUser) -> datetime:
    """When the account was as it is here: an event may tell of it much later."""
    return account.asked_at or account.updated_at or timezone.now()


def _answers(accounts: Iterable[ClerkUser]) -> list[list[Any]]:
    """The ids of those that Clerk was asked for, and when."""
    answered = [account for account in accounts if account.asked_at is not None]
    return [[account.id for account in answered], [account.asked_at for account in answered]]


def follow_row(clerk_id: str) -> None:
    """Give the copy of this account to the row that has its id, which no other copy claims then."""
    with connection.cursor() as cursor:
        cursor.execute(_FOLLOW_SOME_ROWS, [[clerk_id]] * 4)


def follow_rows() -> None:
    """`follow_row` for all copies: another application writes users.clerk_id as well."""
    with connection.cursor() as cursor:
        cursor.execute(_FOLLOW_ALL_ROWS)


def _rows_of_last_statement(cursor: CursorWrapper) -> int:
    """How many rows the last of several statements wrote."""
    while cursor.nextset():
        pass
    return int(cursor.rowcount)


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
    """Store that the account was deleted: by an event or by us, never because of a 404."""
    _keep_absent(clerk_id, "deleted_at")


def keep_not_found(clerk_id: str) -> None:
    """Store that our own instance answered 404. It may be true of a moment alone."""
    _keep_absent(clerk_id, "not_found_at")


def _keep_absent(clerk_id: str, column: str) -> None:
    now = timezone.now()
    ClerkAccount.objects.update_or_create(
        clerk_id=clerk_id, defaults={column: now}, create_defaults={column: now, "seen_at": now}
    )
    follow_row(clerk_id)
