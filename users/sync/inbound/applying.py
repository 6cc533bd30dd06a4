"""Apply decisions: write rows, agreements, accounts, invitations and the journal."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict

import orjson
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from users import guard
from users.changes import Change
from users.clerk import emails
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
from users.sync.inbound.group import DecidedLink, Decisions, Row
from users.sync.inbound.loading import Loaded
from users.sync.mirror import account_changes
from users.sync.operations import Follow, Link, Operation, Revoke, Unlink
from users.sync.outbound import journal

PARKED = "{}@moving.invalid"
"""Temporary email of rows that swap addresses; it is never visible outside the transaction."""
REASONS = {
    LinkedBy.INVITATION: _("The account accepted the invitation."),
    LinkedBy.ADDRESS: _("The account had this email, verified, first."),
}
TAKEN_BACK = _("The account does not belong to this user by all that is known now.")
OVERRULED = _("A newer change replaced the invitation.")


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


def apply(loaded: Loaded, decisions: Decisions, source: Source, cause: SyncAttempt | None) -> None:
    """Write decisions into rows, agreements, accounts, invitations and the journal.

    `cause` is the change of a person that they follow from, if there is one.
    """
    _Apply(loaded, decisions, source, cause).apply()


class _Apply:
    def __init__(
        self, loaded: Loaded, decisions: Decisions, source: Source, cause: SyncAttempt | None
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
            operation.details |= {"reason": str(OVERRULED), "cause": cause}
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


def _stored(link: DecidedLink | None) -> dict[str, object] | None:
    since = link and link.linked_since and link.linked_since.isoformat()
    return asdict(link) | {"linked_since": since} if link else None


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
            yield Unlink.on(user, link), {"reason": str(TAKEN_BACK)}
        else:
            if row.linked_by == LinkedBy.INVITATION and "email" in followed:
                link["email"] = followed.pop("email")
            restored = row.is_restored(before)
            reason = str(TAKEN_BACK if restored else REASONS[LinkedBy(row.linked_by)])
            yield Link.on(user, link), {"reason": reason}
    if followed:
        operation = Follow.on(user, followed)
        operation.clerk_id = row.clerk_id or ""
        yield operation, {"reason": account_changes.FOLLOWED if row.clerk_id else str(TAKEN_BACK)}
