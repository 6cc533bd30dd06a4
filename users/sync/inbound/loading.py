"""Load what must be decided together: rows, accounts and invitations that are related."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import orjson
from django.db import connection
from django.db.models import JSONField, Model

from users.clerk import emails
from users.models import BuilderUser, ClerkAccount, Invitation
from users.sync.inbound.group import Account, DecidedLink, Group, Invited, Row
from users.sync.mirror import agreements, store

logger = logging.getLogger(__name__)

LARGEST_GROUP = 4000
"""Limit of ids, emails and references that are decided together; more are left to staff."""


@dataclass
class Loaded:
    """A group to be decided, and the records that it was made of."""

    group: Group
    users: dict[uuid.UUID, BuilderUser]
    waiting: set[str]
    """Accounts of rows that cannot be decided now."""
    records: dict[str, ClerkAccount]


def load(
    *, accounts: Iterable[str], rows: Iterable[uuid.UUID], addresses: Iterable[str]
) -> Loaded | None:
    """Load and lock all that is related to these accounts, rows and addresses.

    Return None if it is too much to be decided together.
    """
    return _Loader().load(accounts=accounts, rows=rows, addresses=addresses)


_ROWS = """
SELECT id FROM users
WHERE clerk_id = ANY(%(accounts)s) OR lower(email) = ANY(%(emails)s)
    OR id IN (SELECT user_id FROM users_agreement WHERE own_email = ANY(%(emails)s))
    OR id IN (
        SELECT user_id FROM users_agreement
        WHERE decided_link IS NOT NULL AND decided_link ->> 'clerk_id' = ANY(%(accounts)s)
    )
    OR id IN (  -- a note names the account that it is about
        SELECT user_id FROM users_agreement
        WHERE note <> ''
            AND EXISTS (SELECT FROM unnest(%(accounts)s::text[]) AS one WHERE strpos(note, one) > 0)
    )
"""

# FOR NO KEY UPDATE: a scan that writes a reference to this user does not count as an editor.
#
# The rows are locked first, and read by a second statement. If somebody saves a row while the first
# statement runs, the lock gets the saved row, but its joins would still read older data. A saved
# name would then look like a name that the row took from its account.
_LOCK_ROWS = """
SELECT id FROM users WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""
_ROWS_WITH_AGREEMENTS = f"""
SELECT {", ".join(f'users."{field.column}"' for field in BuilderUser._meta.concrete_fields)},
    agreement.clerk_id AS agreed_clerk_id, agreement.linked_by, agreement.linked_since,
    agreement.linked_at, agreement.name AS agreed_name, agreement.name_version,
    agreement.email AS agreed_email, agreement.email_version, agreement.own_name,
    agreement.own_email, agreement.own_email_since, agreement.note,
    agreement.decided_link, agreement.decided_link ->> 'clerk_id' AS decided_account,
    EXISTS (
        SELECT FROM users_syncattempt WHERE user_id = users.id AND status = 'started'
    ) AS pending,
    agreement.linked_by IN ('address', 'invitation') AND EXISTS (
        SELECT FROM users_syncattempt AS attempt
        WHERE attempt.user_id = users.id AND attempt.started_at > agreement.linked_at
            -- what follows from a change of staff, as the link itself may, is not an act of theirs
            AND NOT (attempt.actor_id IS NULL AND attempt.actor_name = ''
                AND attempt.details ? 'reason')
            AND (attempt.source IN ('admin', 'command')
                OR attempt.actor_clerk_id NOT IN ('', attempt.clerk_id))
    ) AS touched,
    users.clerk_id IS NULL AND EXISTS (
        SELECT FROM users_syncattempt AS attempt
        WHERE attempt.user_id = users.id AND attempt.operation IN ('create', 'create_account')
            AND attempt.details ->> 'account' = 'create'
    ) AS created_here
FROM users JOIN users_agreement AS agreement ON agreement.user_id = users.id
WHERE users.id = ANY(%s)
ORDER BY users.id
"""

# Anybody can write the id of a row into the metadata of thousands of accounts. The id decides
# nothing, so a few accounts are enough for the note on the row.
_ACCOUNTS = """
SELECT * FROM users_clerkaccount
WHERE clerk_id = ANY(%(accounts)s) OR addresses ?| %(emails)s
    OR (lower(email) = ANY(%(emails)s) AND email <> '')
    OR reference = ANY(%(references)s)
    OR clerk_id IN (
        SELECT naming.clerk_id FROM unnest(%(rows)s::uuid[]) AS named (id) CROSS JOIN LATERAL (
            SELECT clerk_id FROM users_clerkaccount
            WHERE claimed_id = named.id ORDER BY clerk_id LIMIT 5
        ) AS naming
    )
"""

_INVITATIONS = """
SELECT * FROM users_invitation
WHERE status NOT IN ('revoked', 'refused') AND (
    user_id = ANY(%(rows)s) OR reference = ANY(%(references)s)
    OR (lower(email) = ANY(%(emails)s) AND status IN ('waiting', 'pending'))
)
"""


@dataclass
class _Loader:
    """Load rows, accounts and invitations until no related ones are missing."""

    rows: set[uuid.UUID] = field(default_factory=set)
    accounts: set[str] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)
    references: set[uuid.UUID] = field(default_factory=set)
    users: dict[uuid.UUID, BuilderUser] = field(default_factory=dict)
    busy: set[uuid.UUID] = field(default_factory=set)
    """Rows that somebody else is saving."""
    records: list[ClerkAccount] = field(default_factory=list)
    invitations: list[Invitation] = field(default_factory=list)

    def load(
        self, *, accounts: Iterable[str], rows: Iterable[uuid.UUID], addresses: Iterable[str]
    ) -> Loaded | None:
        """Load as the function `load` says."""
        self.rows, self.accounts = set(rows), set(accounts)
        self.emails = {emails.normalized(email) for email in addresses} - {""}
        # Each step, with the sets that it starts from. It runs again if these have grown.
        steps: dict[Callable[[], None], tuple[Sized, ...]] = {
            self._find_rows: (self.accounts, self.emails),
            self._load_rows: (self.rows,),
            self._find_accounts: (self.accounts, self.emails, self.references, self.rows),
            self._find_invitations: (self.rows, self.references, self.emails),
        }
        seen: dict[Callable[[], None], int] = {}
        while again := [step for step, keys in steps.items() if seen.get(step) != _size(keys)]:
            if _size(steps[self._find_accounts]) > LARGEST_GROUP:
                logger.error("Too much belongs together to be reconciled: %s", sorted(accounts)[:3])
                return None
            seen[again[0]] = _size(steps[again[0]])
            again[0]()
        group = Group(
            accounts={record.pk: _account(record) for record in self.records},
            rows={pk: _row(user, busy=pk in self.busy) for pk, user in sorted(self.users.items())},
            invitations=[_invited(one) for one in self.invitations],
        )
        waiting = {
            user.account_id
            for pk, user in self.users.items()
            if pk in self.busy or user.pending  # type: ignore[attr-defined]
        }
        return Loaded(group, self.users, waiting, {record.pk: record for record in self.records})

    @property
    def _keys(self) -> dict[str, _Ids]:
        return {
            "rows": list(self.rows),
            "accounts": list(self.accounts),
            "emails": list(self.emails),
            "references": list(self.references),
        }

    def _find_accounts(self) -> None:
        self.records = _models(ClerkAccount, _ACCOUNTS, self._keys)
        for record in self.records:
            self.accounts.add(record.pk)
            self.emails |= {*record.addresses, emails.normalized(record.known_email)} - {""}
            if record.reference is not None:
                self.references.add(record.reference)
            if record.claimed_id is not None:
                self.rows.add(record.claimed_id)

    def _find_invitations(self) -> None:
        self.invitations = _models(Invitation, _INVITATIONS, self._keys)
        for invitation in self.invitations:
            self.rows.add(invitation.user_id)
            self.references.add(invitation.reference)
            if invitation.open:
                self.emails.add(emails.normalized(invitation.email))

    def _find_rows(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_ROWS, self._keys)
            self.rows |= {user_id for (user_id,) in cursor.fetchall()}

    def _load_rows(self) -> None:
        """Lock and load the rows that are not loaded yet; a locked row cannot change any more."""
        ids = sorted(self.rows - self.users.keys())
        with connection.cursor() as cursor:
            cursor.execute(f"{_LOCK_ROWS}; {agreements.UNOBSERVED_ROWS}", [ids, ids])
            locked = {user_id for (user_id,) in cursor.fetchall()}
            cursor.nextset()
            if unobserved := cursor.fetchall():
                agreements.observe([user_id for user_id, *_ in unobserved])
                # An account may wait for an email that one of these rows had before.
                left = {email for _, *before in unobserved for email in before if email}
                self.emails |= {emails.normalized(email) for email in left} - {""}
        for user in _models(BuilderUser, _ROWS_WITH_AGREEMENTS, [ids]):
            self.users[user.pk] = user
            if user.pk not in locked:
                self.busy.add(user.pk)
            self.emails |= {emails.normalized(user.email), user.own_email} - {""}  # type: ignore[attr-defined]
            if user.account_id:
                self.accounts.add(user.account_id)
            if user.decided_account:  # type: ignore[attr-defined]
                self.accounts.add(user.decided_account)  # type: ignore[attr-defined]


_M = TypeVar("_M", bound=Model)
_Ids = list[str] | list[uuid.UUID]


def _models(model: type[_M], sql: str, parameters: Mapping[str, _Ids] | Sequence[_Ids]) -> list[_M]:
    """Run a query, and return its rows as instances of the model.

    Columns that the model lacks become attributes. `Model.objects.raw` does the same, but takes
    longer than the query itself, and events come by the thousand.
    """
    stored = model._meta.concrete_fields
    documents = [field.column for field in stored if isinstance(field, JSONField)]
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        names = [column.name for column in cursor.description]
        rows = [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]
    found = []
    for row in rows:
        for column in documents:
            row[column] = row[column] and orjson.loads(row[column])
        fields = {field.attname: row.pop(field.column) for field in stored}
        instance = model.from_db(connection.alias, list(fields), list(fields.values()))
        for name, value in row.items():
            setattr(instance, name, value)
        found.append(instance)
    return found


def _size(keys: Iterable[Sized]) -> int:
    return sum(map(len, keys))


def _account(record: ClerkAccount) -> Account:
    return Account(record.pk, store.of_record(record), released=record.released_at is not None)


def _row(user: Any, *, busy: bool) -> Row:
    return Row(
        id=user.pk,
        name=user.name,
        email=user.email,
        role=user.role,
        clerk_id=user.account_id or None,
        linked_by=user.linked_by,
        linked_since=user.linked_since,
        linked_at=user.linked_at,
        agreed_name=user.agreed_name,
        agreed_name_version=user.name_version,
        agreed_email=user.agreed_email,
        agreed_email_version=user.email_version,
        own_name=user.own_name,
        own_email=user.own_email,
        own_email_since=user.own_email_since,
        note=user.note,
        decided_link=_decided_link(user.decided_link),
        busy=busy or user.pending,
        touched=bool(user.touched),
        created_here=user.created_here,
    )


def _decided_link(stored: str | None) -> DecidedLink | None:
    if stored is None:
        return None
    fields = json.loads(stored)
    since = fields.pop("linked_since")
    return DecidedLink(**fields, linked_since=since and datetime.fromisoformat(since))


def _invited(invitation: Invitation) -> Invited:
    return Invited(
        reference=invitation.reference,
        user_id=invitation.user_id,
        email=invitation.email,
        purpose=invitation.purpose,
        status=invitation.status,
        sent_at=invitation.sent_at or invitation.created_at,
        for_admins=invitation.for_admins,
    )
