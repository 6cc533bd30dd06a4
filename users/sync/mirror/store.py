"""Store what is known of Clerk's accounts in `ClerkAccount`.

Each fact is joined to its account, and no other code writes values that Clerk has shown.

An advisory lock of the transaction allows one writer at a time. Two first facts written at once
would not see each other's effects, and both would decide wrongly. So after storing a fact, do not
make a request to Clerk before the commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from users.changes import Change, Changes
from users.clerk import ClerkUser, clock
from users.ids import USER_ID
from users.models import ClerkAccount, Source
from users.sync.inbound import facts
from users.sync.inbound.facts import SNAPSHOT, Facts, Register
from users.sync.mirror import account_changes, agreements

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('cascade: facts', 0)), clock_timestamp()"

_REGISTERS = {"known_name": "name", "known_email": "email", "reference": "reference"}
"""Columns, each with the field of `Facts` that fills it and its `<column>_version`."""
_MOMENTS = ("last_sign_in_at", "answered_at", "seen_at", "deleted_at", "not_found_at")
_WRITTEN = (
    *SNAPSHOT,
    "version",
    *_REGISTERS,
    *(f"{column}_version" for column in _REGISTERS),
    "names",
    "addresses",
    *_MOMENTS,
)
_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

_READ = f"SELECT clerk_id, {', '.join(_WRITTEN)} FROM users_clerkaccount WHERE clerk_id = ANY(%s)"

# No insert sets `user_id`. If two transactions inserted the same account at once, one would fail at
# the unique key of that column, which ON CONFLICT (clerk_id) does not cover. `agreements` sets it
# later.
_INSERT = """
INSERT INTO users_clerkaccount (clerk_id, {columns})
SELECT clerk_id, {columns}
FROM jsonb_populate_recordset(NULL::users_clerkaccount, %s::jsonb)
ORDER BY clerk_id
""".format(columns=", ".join(_WRITTEN))

_UPDATE = """
UPDATE users_clerkaccount AS known SET {columns}
FROM jsonb_populate_recordset(NULL::users_clerkaccount, %s::jsonb) AS page
WHERE known.clerk_id = page.clerk_id
""".format(columns=", ".join(f"{column} = page.{column}" for column in _WRITTEN))

# A fact may affect rows and invitations that are related to the account. All other accounts, nearly
# all of a first scan, need no decision.
_MARK_DUE = """
UPDATE users_clerkaccount AS known SET reconcile_due = true
FROM (
    SELECT clerk_id, array_append(
        ARRAY(SELECT jsonb_object_keys(addresses)), lower(email)
    ) AS emails
    FROM users_clerkaccount WHERE clerk_id = ANY(%s)
) AS changed
WHERE known.clerk_id = changed.clerk_id AND (
    known.note <> ''
    OR EXISTS (
        SELECT FROM users WHERE users.clerk_id = known.clerk_id AND (
            users.name IS DISTINCT FROM known.known_name
            OR users.email IS DISTINCT FROM known.known_email
            OR known.deleted_at IS NOT NULL OR known.banned
        )
    )
    OR EXISTS (
        SELECT FROM users
        WHERE lower(users.email) = ANY(changed.emails) AND users.email <> ''
            AND users.clerk_id IS DISTINCT FROM known.clerk_id
    )
    OR EXISTS (
        SELECT FROM users_agreement AS agreement
        WHERE agreement.own_email = ANY(changed.emails) AND agreement.own_email <> ''
            AND agreement.clerk_id IS DISTINCT FROM known.clerk_id
    )
    OR EXISTS (
        SELECT FROM users
        WHERE users.id = known.claimed_id AND users.clerk_id IS DISTINCT FROM known.clerk_id
    )
    OR EXISTS (
        SELECT FROM users_invitation AS invitation
        WHERE invitation.status IN ('waiting', 'pending', 'expired')
            AND (
                invitation.reference = known.reference
                OR lower(invitation.email) = ANY(changed.emails)
                OR invitation.user_id IN (
                    SELECT id FROM users WHERE users.clerk_id = known.clerk_id
                )
            )
    )
)
RETURNING known.clerk_id
"""


_MARK_ALL_DUE = f"""
UPDATE users_clerkaccount AS known SET reconcile_due = true
WHERE NOT reconcile_due AND (
    known.note <> ''
    OR (
        known.user_id IS NULL AND known.deleted_at IS NULL AND known.released_at IS NULL
        AND NOT known.banned AND known.email <> ''
        AND EXISTS (
            SELECT FROM users
            WHERE (users.clerk_id IS NULL OR users.clerk_id !~ '{USER_ID.pattern}')
                AND lower(users.email) = lower(known.email)
        )
    )
    OR EXISTS (
        SELECT FROM users JOIN users_agreement AS agreement ON agreement.user_id = users.id
        WHERE users.clerk_id = known.clerk_id AND (
            agreement.note <> ''
            OR (known.known_name <> '' AND agreement.name = users.name
                AND known.known_name <> users.name)
            OR (known.known_email <> '' AND agreement.email = users.email
                AND known.known_email <> lower(users.email))
        )
    )
    OR known.reference IN (
        SELECT reference FROM users_invitation WHERE status IN ('pending', 'expired')
    )
    OR EXISTS (
        SELECT FROM users JOIN users_invitation AS invitation ON invitation.user_id = users.id
        WHERE users.clerk_id = known.clerk_id AND invitation.status IN ('waiting', 'pending')
    )
)
"""


@dataclass(frozen=True)
class Kept:
    """Changes that a fact made.

    `before` is None for an account that was not known; `due` says that rows or invitations must be
    reconciled with the account.
    """

    before: Facts | None
    after: Facts
    due: bool


def _changes(before: Facts | None, after: Facts) -> Changes:
    """Return what changed about the account itself, apart from its name and email."""
    changes: Changes = {}
    if after.deleted_at is not None and (before is None or before.deleted_at is None):
        changes[account_changes.DELETED] = Change(False, True)
    if before is not None and before.snapshot.value is not None:
        old, new = before.snapshot.value, after.snapshot.value
        for column, name in account_changes.RECORDED.items():
            if old[column] != new[column]:
                changes[name] = Change(old[column], new[column])
    return changes


def lock() -> datetime:
    """Make this transaction the only writer of facts and decisions until it ends.

    Returns the time by the database's clock, by which decisions are dated.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
        _, now = cursor.fetchone()
    return now


def keep(user: ClerkUser, *, source: Source = Source.TASK) -> Kept:
    """Join a user as an answer of Clerk shows it. `source` is where it was asked for."""
    return keep_facts(user.id, fact_of(user), source=source)


def keep_answer(user: ClerkUser, *, source: Source) -> Kept:
    """Join the answer to our own change while holding the lock; such an answer is always new."""
    return _join_locked({user.id: fact_of(user)}, source=source)[user.id]


def keep_deleted(clerk_id: str, *, deleted_at: datetime | None = None) -> Kept:
    """Join a deletion.

    It comes from an event of our instance, from our own delete or from a complete scan, never from
    a 404.
    """
    return keep_facts(clerk_id, facts.of_deletion(deleted_at or clock.latest()))


def keep_not_found(clerk_id: str) -> Kept:
    """Join a 404 of our own instance."""
    return keep_facts(clerk_id, facts.of_not_found(clock.now()))


def keep_facts(clerk_id: str, fact: Facts, *, source: Source = Source.TASK) -> Kept:
    """Join one fact."""
    return keep_each({clerk_id: fact}, source=source)[clerk_id]


def keep_each(page: Mapping[str, Facts], *, source: Source) -> dict[str, Kept]:
    """Join a fact to each account; a single one that changes nothing does not wait for the lock."""
    if len(page) > 1:
        return _join(page, source=source)
    known = _known(list(page))
    same = {
        clerk_id: Kept(known[clerk_id], known[clerk_id], due=False)
        for clerk_id, fact in page.items()
        if clerk_id in known and facts.join(known[clerk_id], fact) == known[clerk_id]
    }
    if len(same) == len(page) and not agreements.would_agree(page):
        return same
    return _join(page, source=source)


def keep_all(users: Iterable[ClerkUser]) -> list[str]:
    """Join a page of a scan in few round trips; return the ids that must be reconciled."""
    page = {user.id: fact_of(user) for user in users}
    if not page:
        return []
    return [clerk_id for clerk_id, kept in _join(page, in_bulk=True).items() if kept.due]


def keep_all_deleted(clerk_ids: Iterable[str], *, deleted_at: datetime) -> None:
    """Join the deletion of accounts that a complete scan, and a request for each, did not find."""
    page = dict.fromkeys(clerk_ids, facts.of_deletion(deleted_at))
    if page:
        _join(page, in_bulk=True)


def mark_due() -> None:
    """Mark accounts as due that need a decision although no new fact says so.

    Other applications change the rows of accounts.
    """
    with connection.cursor() as cursor:
        cursor.execute(_MARK_ALL_DUE)


def fact_of(user: ClerkUser) -> Facts:
    """Return the fact that an answer or an event holds."""
    return facts.of_user(user, observed_at=user.asked_at or user.told_at or clock.now())


def known(clerk_ids: Sequence[str]) -> Mapping[str, Facts]:
    """Return the known facts of these accounts."""
    return _known(clerk_ids)


def _join(
    page: Mapping[str, Facts], *, source: Source = Source.TASK, in_bulk: bool = False
) -> dict[str, Kept]:
    with transaction.atomic(savepoint=False):
        lock()
        return _join_locked(page, source=source, in_bulk=in_bulk)


def _join_locked(
    page: Mapping[str, Facts], *, source: Source, in_bulk: bool = False
) -> dict[str, Kept]:
    known = _observed(list(page))
    joined = {
        clerk_id: facts.join(known[clerk_id], fact) if clerk_id in known else fact
        for clerk_id, fact in page.items()
    }
    changed = [one for one in joined if one not in known or joined[one] != known[one]]
    agreed = _write(joined, known, changed, page, in_bulk=in_bulk)
    changes = {one: _changes(known.get(one), joined[one]) for one in changed}
    account_changes.record({one: made for one, made in changes.items() if made}, source=source)
    mattering = {one for one in changed if _matters(known.get(one), joined[one])} | agreed
    due = _mark_due(sorted(mattering)) if mattering else set()
    return {
        clerk_id: Kept(known.get(clerk_id), after, clerk_id in due)
        for clerk_id, after in joined.items()
    }


def _write(
    joined: Mapping[str, Facts],
    known: Mapping[str, Facts],
    changed: Sequence[str],
    page: Mapping[str, Facts],
    *,
    in_bulk: bool,
) -> set[str]:
    """Write the changed accounts, and make their rows follow the page, in one round trip.

    Returns the ids of the accounts that agree on something new.
    """
    new = [_record(one, joined[one]) for one in changed if one not in known]
    old = [_record(one, joined[one]) for one in changed if one in known]
    # Do not wait for the disk after each page. The next synchronous commit also saves the earlier
    # pages, and a scan ends with one.
    statements = ["SET LOCAL synchronous_commit = off"] if in_bulk else []
    statements += [_INSERT] if new else []
    statements += [_UPDATE] if old else []
    records = [orjson.dumps(records).decode() for records in (new, old) if records]
    return agreements.follow(page, after=statements, params=records)


def _mark_due(clerk_ids: Sequence[str]) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(_MARK_DUE, [list(clerk_ids)])
        return {clerk_id for (clerk_id,) in cursor.fetchall()}


def _matters(before: Facts | None, after: Facts) -> bool:
    """Return whether a value changed from which decisions are derived."""
    return before is None or _decisive(before) != _decisive(after)


def _decisive(known: Facts) -> tuple[object, ...]:
    columns = known.snapshot.value or {}
    return (
        known.name.value,
        known.email.value,
        known.reference.value,
        dict(known.addresses),
        known.deleted_at is None,
        known.not_found_at is None,
        *(columns.get(column) for column in ("banned", "email", "email_verified", "claimed_id")),
    )


def _known(clerk_ids: Sequence[str]) -> dict[str, Facts]:
    with connection.cursor() as cursor:
        cursor.execute(_READ, [list(clerk_ids)])
        return _read(cursor)


def _observed(clerk_ids: Sequence[str]) -> dict[str, Facts]:
    """Read accounts, and observe what others wrote to their rows, in one round trip."""
    with connection.cursor() as cursor:
        cursor.execute(f"{agreements.OTHER_LINK}; {_READ}", [list(clerk_ids)] * 2)
        written = cursor.fetchone() is not None
        cursor.nextset()
        known = _read(cursor)
    if written:
        agreements.observe_accounts(clerk_ids)
    return known


def _read(cursor: CursorWrapper) -> dict[str, Facts]:
    names = [column.name for column in cursor.description]
    return {row[0]: _facts(dict(zip(names, row, strict=True))) for row in cursor.fetchall()}


def of_record(account: ClerkAccount) -> Facts:
    """Return the facts that a stored account holds."""
    return _facts({column: getattr(account, column) for column in _WRITTEN})


def _facts(row: Mapping[str, Any]) -> Facts:
    columns = {column: row[column] for column in SNAPSHOT}
    columns["providers"] = _loaded(row["providers"])

    def register(column: str) -> Register:
        version = row[f"{column}_version"]
        return Register(version, row[column]) if version else facts.UNSET

    return Facts(
        snapshot=Register(row["version"], columns) if row["version"] else facts.UNSET,
        name=register("known_name"),
        email=register("known_email"),
        reference=register("reference"),
        names=_loaded(row["names"]),
        addresses={
            address: (_EPOCH + first * _MICROSECOND, _EPOCH + last * _MICROSECOND)
            for address, (first, last) in _loaded(row["addresses"]).items()
        },
        last_sign_in_at=row["last_sign_in_at"],
        answered_at=row["answered_at"],
        seen_at=row["seen_at"],
        deleted_at=row["deleted_at"],
        not_found_at=row["not_found_at"],
    )


def _loaded(value: object) -> Any:
    """Return parsed JSON: raw SQL returns text, a model returns parsed values."""
    return orjson.loads(value) if isinstance(value, str) else value


_NOTHING = dict.fromkeys(SNAPSHOT) | {
    "email": "", "email_verified": False, "first_name": "", "last_name": "", "image_url": "",
    "banned": False, "locked": False, "two_factor_enabled": False, "password_enabled": False,
    "providers": [],
}  # fmt: skip
"""Columns of an account for which no state is known."""


def _record(clerk_id: str, known: Facts) -> dict[str, object]:
    record: dict[str, object] = {
        "clerk_id": clerk_id,
        **(known.snapshot.value or _NOTHING),
        "version": known.snapshot.version,
        "names": dict(known.names),
        "addresses": {
            address: [(first - _EPOCH) // _MICROSECOND, (last - _EPOCH) // _MICROSECOND]
            for address, (first, last) in known.addresses.items()
        },
    }
    for column, name in _REGISTERS.items():
        register: Register = getattr(known, name)
        record[column] = register.value if register.version or column == "reference" else ""
        record[f"{column}_version"] = register.version
    return record | {column: getattr(known, column) for column in _MOMENTS}


def user_of(account: ClerkAccount) -> ClerkUser:
    """Return the stored account in the form in which the gateway returns users."""
    return ClerkUser(
        id=account.clerk_id,
        email=account.email,
        email_verified=account.email_verified,
        first_name=account.first_name,
        last_name=account.last_name,
        banned=account.banned,
        updated_at=account.clerk_updated_at,
    )
