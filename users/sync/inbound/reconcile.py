"""Reconcile rows with facts: derive the target state of everything that a change affects.

The decisions are applied in the transaction of that change.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import orjson
from django.db import DatabaseError, connection, transaction
from django.db.models import JSONField, Model, Q, QuerySet
from django.utils import timezone

from users import guard
from users.changes import Change
from users.clerk import ClerkUser, emails
from users.models import (
    Agreement,
    BuilderUser,
    ClerkAccount,
    Invitation,
    InvitationStatus,
    LinkedBy,
    Source,
    SyncAttempt,
)
from users.sync.inbound.decisions import derive
from users.sync.inbound.group import Account, DecidedLink, Decisions, Group, Invited, Row
from users.sync.mirror import agreements, listing, store
from users.sync.operations import Follow, Link, Operation, Revoke, Unlink
from users.sync.outbound import journal

logger = logging.getLogger(__name__)

LARGEST_GROUP = 4000
"""Limit of ids, emails and references that are decided together; more are left to staff."""
TOO_LARGE = "Too many users and accounts belong together with it. Nothing was linked or copied."
CHUNK = 200
PARKED = "{}@moving.invalid"
"""Temporary email of rows that swap addresses; it is never visible outside the transaction."""


def take(user: ClerkUser, *, source: Source = Source.TASK) -> None:
    """Join an answer of Clerk, and reconcile the rows that it affects."""
    with transaction.atomic():
        if store.keep(user).due:
            reconcile(accounts=[user.id], source=source)


def reconcile(
    *,
    accounts: Iterable[str] = (),
    rows: Iterable[uuid.UUID] = (),
    addresses: Iterable[str] = (),
    source: Source,
    cause: SyncAttempt | None = None,
) -> bool:
    """Bring rows, links, invitations and notes to the state that follows from all facts.

    Start from the accounts, rows or addresses that changed, and decide everything that is related
    to them. Rows with a pending change, and rows that are being saved, stay as they are; their
    accounts stay due. `cause` is the change of a person that this follows from. Return False if
    the group is too large to be decided at once.
    """
    now = store.lock()
    loaded = _Loader().load(accounts=accounts, rows=rows, addresses=addresses)
    if loaded is None:
        return False
    decisions = derive(loaded.group, now=now)
    _Apply(loaded, decisions, source, cause).apply()
    return True


def reconcile_due(*, source: Source = Source.TASK) -> int:
    """Reconcile all accounts that are due, in batches; return how many accounts were checked.

    Each batch has its own transaction.
    """
    looked_at, last = 0, ""
    due = ClerkAccount.objects.filter(reconcile_due=True).order_by("pk")
    while ids := list(due.filter(pk__gt=last).values_list("pk", flat=True)[:CHUNK]):
        last = ids[-1]
        looked_at += len(ids)
        if not _reconcile_lot(source, accounts=ids):  # one failing account must not delay others
            for clerk_id in ids:
                _reconcile_lot(source, accounts=[clerk_id])
    return looked_at


def reconcile_written_elsewhere(*, source: Source = Source.TASK) -> int:
    """Reconcile the rows that another application wrote; return how many rows were checked.

    It writes the table and reports nothing, so the rows are found by comparing them with what was
    observed before.
    """
    looked_at, last = 0, uuid.UUID(int=0)
    while ids := agreements.written_elsewhere(after=last, at_most=CHUNK):
        last = ids[-1]
        looked_at += len(ids)
        if not _reconcile_lot(source, rows=ids):
            for user_id in ids:
                _reconcile_lot(source, rows=[user_id])
        listing.refresh(ids)  # the other application's tool may have removed our triggers
    return looked_at


def _reconcile_lot(
    source: Source, *, accounts: Sequence[str] = (), rows: Sequence[uuid.UUID] = ()
) -> bool:
    """Reconcile some accounts or rows in one transaction; return whether that succeeded.

    One that is too large even alone gets a note, so that staff see it.
    """
    try:
        with transaction.atomic():
            succeeded = reconcile(accounts=accounts, rows=rows, source=source)
            if not succeeded and len(accounts) + len(rows) == 1:
                _leave_to_staff(accounts, rows)
            return succeeded
    except DatabaseError:
        logger.exception("Accounts or rows could not be reconciled")
        return False


def _leave_to_staff(accounts: Sequence[str], rows: Sequence[uuid.UUID]) -> None:
    """Note what is too large to be decided. The next fact that concerns it tries again."""
    ClerkAccount.objects.filter(pk__in=accounts).update(note=TOO_LARGE, reconcile_due=False)
    concerned = Agreement.objects.filter(Q(user__in=rows) | Q(user__clerk_id__in=accounts))
    concerned.update(note=TOO_LARGE)


def derived_links(
    matches: Mapping[str, uuid.UUID],
) -> tuple[list[tuple[BuilderUser, str]], dict[str, str]]:
    """Return the links that follow from these accounts, and a note on each account without a link.

    `matches` maps each account to the row without an account to which it seems to belong. Nothing
    is changed.
    """
    with transaction.atomic():
        now = store.lock()
        loaded = _Loader().load(accounts=matches, rows=matches.values(), addresses=())
        if loaded is None:
            return [], {clerk_id: f"{clerk_id}: {TOO_LARGE}" for clerk_id in matches}
        decisions = derive(loaded.group, now=now)
    new = {
        row.id: row.clerk_id
        for row in decisions.rows.values()
        if row.clerk_id and loaded.group.rows[row.id].clerk_id is None
    }
    matched, linked = set(matches.values()), set(new.values())
    links = [
        (loaded.users[row_id], clerk_id)
        for row_id, clerk_id in new.items()
        if clerk_id in matches or row_id in matched
    ]
    notes = {
        clerk_id: f"{loaded.records[clerk_id]} ({clerk_id}): "
        + (decisions.notes.get(clerk_id) or _why_not_linked(decisions.rows[row_id]))
        for clerk_id, row_id in matches.items()
        if clerk_id not in linked and row_id in decisions.rows
    }
    return links, notes


def _why_not_linked(row: Row) -> str:
    """Return why a row does not get its matching account, if the account has no note."""
    if row.busy:
        return f"{row} is being saved, or has a pending change. Nothing was linked."
    return row.note or f"It is not certain to belong to {row}. Nothing was linked."


# --- Loading -------------------------------------------------------------------------------------


@dataclass
class _Loaded:
    group: Group
    users: dict[uuid.UUID, BuilderUser]
    waiting: set[str]
    """Accounts of rows that cannot be decided now."""
    records: dict[str, ClerkAccount]


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
    ) -> _Loaded | None:
        """Load and lock a group; return None if it is too large to be decided together."""
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
        return _Loaded(group, self.users, waiting, {record.pk: record for record in self.records})

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
            if unobserved := [user_id for (user_id,) in cursor.fetchall()]:
                agreements.observe(unobserved)
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


def _stored(link: DecidedLink | None) -> dict[str, object] | None:
    since = link and link.linked_since and link.linked_since.isoformat()
    return asdict(link) | {"linked_since": since} if link else None


def _invited(invitation: Invitation) -> Invited:
    return Invited(
        reference=invitation.reference,
        user_id=invitation.user_id,
        email=invitation.email,
        purpose=invitation.purpose,
        status=invitation.status,
        sent_at=invitation.sent_at or invitation.created_at,
    )


# --- Applying ------------------------------------------------------------------------------------

REASONS = {
    LinkedBy.INVITATION: "The account accepted the invitation.",
    LinkedBy.ADDRESS: "The account had this email, verified, first.",
}
TAKEN_BACK = "The account does not belong to this user by all that is known now."
FOLLOWED = "The Clerk account has this."
OVERRULED = "A newer change replaced the invitation."


DERIVED = ("name", "email", "clerk_id")
"""Columns of a row that decisions change."""

# The account with the id in `clerk_id` then refers to the row, as in `agreements`.
_WRITE_ROWS = """
WITH decided AS (
    SELECT id, name, email, clerk_id, updated_at
    FROM jsonb_populate_recordset(NULL::users, %s::jsonb)
), accounts AS (
    UPDATE users_clerkaccount SET user_id = decided.id
    FROM decided
    WHERE users_clerkaccount.clerk_id = decided.clerk_id
        AND users_clerkaccount.user_id IS DISTINCT FROM decided.id
)
UPDATE users SET name = decided.name, email = decided.email, clerk_id = decided.clerk_id,
    updated_at = decided.updated_at
FROM decided WHERE users.id = decided.id
"""
_AGREED = [field.column for field in Agreement._meta.concrete_fields if not field.primary_key]
_WRITE_AGREEMENTS = f"""
UPDATE users_agreement AS agreement
SET {", ".join(f"{column} = decided.{column}" for column in _AGREED)}
FROM jsonb_populate_recordset(NULL::users_agreement, %s::jsonb) AS decided
WHERE agreement.user_id = decided.user_id
"""


class _Apply:
    """Write decisions into rows, agreements, accounts, invitations and the journal."""

    def __init__(
        self, loaded: _Loaded, decisions: Decisions, source: Source, cause: SyncAttempt | None
    ) -> None:
        self.loaded = loaded
        self.decisions = decisions
        self.source = source
        self.cause = cause

    def apply(self) -> None:
        """Write all changes in an order that does not violate unique keys."""
        before = self.loaded.group.rows
        changed = [row for row in self.decisions.rows.values() if row != before[row.id]]
        self._release_accounts(changed)
        self._park(changed)
        if changed:
            self._record(changed)
            self._write(changed)
        self._write_invitations()
        self._write_accounts()

    def _release_accounts(self, changed: list[Row]) -> None:
        """Detach accounts from rows that lose them, before other rows get them."""
        ids = [
            row.id
            for row in changed
            if self.loaded.group.rows[row.id].clerk_id not in (None, row.clerk_id)
        ]
        with guard.synchronized():
            BuilderUser.objects.filter(pk__in=ids).update(clerk_id=None)
        ClerkAccount.objects.filter(user__in=ids).update(user=None)

    def _park(self, changed: list[Row]) -> None:
        """Give rows whose email goes to another row a temporary one first: rows swap addresses."""
        left = {row.id: self.loaded.group.rows[row.id].email for row in changed}
        moving = [row for row in changed if row.email != left[row.id]]
        wanted = {emails.normalized(row.email) for row in moving}
        with guard.synchronized():
            for row in moving:
                if emails.normalized(left[row.id]) in wanted:
                    BuilderUser.objects.filter(pk=row.id).update(email=PARKED.format(row.id))

    def _record(self, changed: list[Row]) -> None:
        """Record the changes of rows in the journal, each with its reason."""
        operations: list[Operation] = []
        for row in changed:
            before = self.loaded.group.rows[row.id]
            for operation, details in _operations(self.loaded.users[row.id], before, row):
                operation.details |= details
                operations.append(operation)
        if operations:
            journal.record_derived(operations, self.source)

    def _write(self, changed: list[Row]) -> None:
        """Write the rows and their agreements."""
        before = self.loaded.group.rows
        now = timezone.now()
        rows = [
            {"id": row.id, "updated_at": now} | {column: getattr(row, column) for column in DERIVED}
            for row in changed
            if any(getattr(row, column) != getattr(before[row.id], column) for column in DERIVED)
        ]
        statements = [*([_WRITE_ROWS] if rows else []), _WRITE_AGREEMENTS]
        agreed = [_agreement(row) for row in changed]
        with connection.cursor() as cursor:
            cursor.execute(
                "; ".join(statements),
                [orjson.dumps(records).decode() for records in (rows, agreed) if records],
            )

    def _write_invitations(self) -> None:
        now = timezone.now()
        if self.decisions.accepted:
            Invitation.objects.filter(reference__in=self.decisions.accepted).update(
                status=InvitationStatus.ACCEPTED, send_after=None, updated_at=now
            )
        if self.decisions.closed:
            closed = Invitation.objects.filter(reference__in=self.decisions.closed)
            self._record_closed(closed)
            closed.filter(clerk_invitation_id__isnull=False).update(revoke_due=True)
            closed.update(status=InvitationStatus.REVOKED, send_after=None, updated_at=now)

    def _record_closed(self, closed: QuerySet[Invitation]) -> None:
        """Record that invitations are revoked, with the change of a person that revoked them."""
        cause = self.cause.pk if self.cause else None
        operations = [Revoke.of(one) for one in closed.select_related("user").order_by("pk")]
        for operation in operations:
            operation.details |= {"reason": OVERRULED, "cause": cause}
        journal.record_derived(operations, self.source)

    def _write_accounts(self) -> None:
        for clerk_id, row_id in self.decisions.replaced.items():
            self._replace(clerk_id, row_id)
        waiting = self.loaded.waiting
        changed: dict[tuple[str, bool], list[str]] = defaultdict(list)
        for clerk_id, record in self.loaded.records.items():
            note = self.decisions.notes.get(clerk_id, record.note)
            due = clerk_id in waiting or (record.reconcile_due and bool(waiting))
            if (note, due) != (record.note, record.reconcile_due):
                changed[note, due].append(clerk_id)
        for (note, due), clerk_ids in changed.items():
            ClerkAccount.objects.filter(pk__in=clerk_ids).update(note=note, reconcile_due=due)

    def _replace(self, clerk_id: str, row_id: uuid.UUID) -> None:
        """Detach an account that another one replaced. The worker then bans it in Clerk."""
        account = self.loaded.group.accounts[clerk_id]
        ClerkAccount.objects.filter(pk=clerk_id).update(
            released_at=timezone.now(),
            replaced_for=row_id,
            ban_due=not (account.banned or account.deleted),
        )


def _agreement(row: Row) -> dict[str, object]:
    """Return the columns of the row's agreement."""
    return {
        "user_id": row.id,
        "clerk_id": row.clerk_id,
        "linked_by": row.linked_by,
        "linked_since": row.linked_since,
        "linked_at": row.linked_at,
        "name": row.agreed_name,
        "name_version": row.agreed_name_version,
        "email": row.agreed_email,
        "email_version": row.agreed_email_version,
        "own_name": row.own_name,
        "own_email": row.own_email,
        "own_email_since": row.own_email_since,
        "note": row.note,
        "decided_link": _stored(row.decided_link),
    }


def _operations(
    user: BuilderUser, before: Row, row: Row
) -> Iterator[tuple[Follow | Link | Unlink, dict[str, object]]]:
    """Yield the operations to record for a row that changed, each with its reason."""
    followed = {
        column: Change(getattr(before, column), getattr(row, column))
        for column in ("name", "email")
        if getattr(row, column) != getattr(before, column)
    }
    if row.clerk_id != before.clerk_id:
        link = {"clerk_id": Change(user.clerk_id, row.clerk_id)}
        if row.clerk_id is None:
            yield Unlink.on(user, link), {"reason": TAKEN_BACK}
        else:
            if row.linked_by == LinkedBy.INVITATION and "email" in followed:
                link["email"] = followed.pop("email")
            restored = row.is_restored(before)
            reason = TAKEN_BACK if restored else REASONS[LinkedBy(row.linked_by)]
            yield Link.on(user, link), {"reason": reason}
    if followed:
        operation = Follow.on(user, followed)
        operation.clerk_id = row.clerk_id or ""
        yield operation, {"reason": FOLLOWED if row.clerk_id else TAKEN_BACK}
