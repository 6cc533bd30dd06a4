"""A model of our tables: facts are joined, agreements follow, and decisions are applied.

It says in twenty lines of Python what `users.sync.mirror` says in SQL, and takes the whole world
for one group. The same histories told to the database show that both end alike.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from users.models import InvitationStatus, LinkedBy
from users.sync.inbound import decisions, facts
from users.sync.inbound.facts import Facts
from users.sync.inbound.group import Account, Group, Invited, Row
from users.sync.mirror.comparison import normalized_email, same_email, same_name


@dataclass
class Office:
    accounts: dict[str, Account] = field(default_factory=dict)
    rows: dict[uuid.UUID, Row] = field(default_factory=dict)
    invitations: dict[uuid.UUID, Invited] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, uuid.UUID] = field(default_factory=dict)

    def copy(self) -> Office:
        return Office(
            dict(self.accounts), dict(self.rows), dict(self.invitations), dict(self.notes),
            dict(self.replaced),
        )  # fmt: skip

    # --- Facts and decisions -----------------------------------------------------------------

    def learn(self, clerk_id: str, fact: Facts, now: datetime) -> None:
        known = self.accounts.get(clerk_id)
        joined = facts.join(known.facts, fact) if known else fact
        self.accounts[clerk_id] = Account(clerk_id, joined, released=bool(known and known.released))
        self._agree(clerk_id, fact)
        self.reconcile(now)

    def reconcile(self, now: datetime) -> None:
        self.rows = {row.id: _observed(row, now) for row in self.rows.values()}
        group = Group(self.accounts, self.rows, list(self.invitations.values()))
        decided = decisions.derive(group, now=now)
        self.rows = {
            row.id: row
            if row.linked_at == self.rows[row.id].linked_at
            else replace(row, touched=False)
            for row in decided.rows.values()
        }
        self.notes |= decided.notes
        for references, status in (
            (decided.accepted, InvitationStatus.ACCEPTED),
            (decided.closed, InvitationStatus.REVOKED),
        ):
            for reference in references:
                self.invitations[reference] = replace(self.invitations[reference], status=status)
        for clerk_id, row_id in decided.replaced.items():
            self.accounts[clerk_id] = replace(self.accounts[clerk_id], released=True)
            self.replaced[clerk_id] = row_id

    def _agree(self, clerk_id: str, fact: Facts) -> None:
        """A fact that shows what the row holds makes the two agree, however late it comes."""
        shown, version = fact.snapshot.value or {}, fact.snapshot.version
        name = f"{shown.get('first_name', '')} {shown.get('last_name', '')}".strip()
        email = shown.get("email", "")
        for row in self.rows.values():
            if row.clerk_id != clerk_id:
                continue
            newer = row.agreed_name_version < version and row.agreed_name != row.name
            if newer and name and same_name(row.name, name):
                row = replace(row, agreed_name=row.name, agreed_name_version=version)
            newer = row.agreed_email_version < version and row.agreed_email != row.email
            if newer and email and same_email(row.email, email):
                row = replace(row, agreed_email=row.email, agreed_email_version=version)
            self.rows[row.id] = row

    # --- Staff and other applications ----------------------------------------------------------

    def add(self, row_id: uuid.UUID, name: str, email: str, now: datetime, **fields: Any) -> None:
        self.rows[row_id] = Row(
            id=row_id, name=name, email=email, clerk_id=None, own_name=name,
            own_email=normalized_email(email), own_email_since=now, **{"role": "USER"} | fields,
        )  # fmt: skip
        self.reconcile(now)

    def write(self, row_id: uuid.UUID, now: datetime, *, touch: bool, **columns: Any) -> None:
        """Columns change here, by staff (`touch`) or by another application."""
        row = replace(self.rows[row_id], **columns)
        if touch:
            row = _owned(row, now)
            if row.linked_by in (LinkedBy.ADDRESS, LinkedBy.INVITATION):
                row = replace(row, touched=True)
        self.rows[row_id] = row
        self.reconcile(now)

    def decide(self, row_id: uuid.UUID, clerk_id: str | None, now: datetime) -> None:
        """Staff link the row to an account, or to none."""
        row, known = self.rows[row_id], self.accounts.get(clerk_id or "")
        if row.clerk_id and row.clerk_id != clerk_id:
            self.accounts[row.clerk_id] = replace(self.accounts[row.clerk_id], released=True)
        name = known.facts.name if known else facts.UNSET
        email = known.facts.email if known else facts.UNSET
        names_agree = known is not None and same_name(row.name, name.value)
        emails_agree = known is not None and same_email(row.email, email.value)
        if known is not None and clerk_id:
            self.accounts[clerk_id] = replace(known, released=False)
            self.replaced.pop(clerk_id, None)
        self.rows[row_id] = replace(
            row,
            clerk_id=clerk_id,
            linked_by=LinkedBy.STAFF,
            linked_since=now,
            linked_at=None,
            decided_link=None,
            agreed_name=row.name if names_agree else None,
            agreed_name_version=name.version if names_agree else "",
            agreed_email=row.email if emails_agree else None,
            agreed_email_version=email.version if emails_agree else "",
            touched=False,
        )
        self.reconcile(now)

    def remove(self, row_id: uuid.UUID, now: datetime) -> None:
        del self.rows[row_id]
        for reference in [
            one.reference for one in self.invitations.values() if one.user_id == row_id
        ]:
            del self.invitations[reference]
        self.reconcile(now)

    def invite(self, invitation: Invited, now: datetime) -> None:
        self.invitations[invitation.reference] = invitation
        self.write(invitation.user_id, now, touch=True)

    def revoke(self, reference: uuid.UUID, now: datetime) -> None:
        self.invitations[reference] = replace(
            self.invitations[reference], status=InvitationStatus.REVOKED
        )
        self.reconcile(now)


def _observed(row: Row, now: datetime) -> Row:
    """What the row holds is its own unless its account brought it."""
    if row.name not in (row.own_name, row.agreed_name):
        row = replace(row, own_name=row.name)
    if not same_email(row.email, row.own_email) and not same_email(row.email, row.agreed_email):
        row = replace(row, own_email=normalized_email(row.email), own_email_since=now)
    return row


def _owned(row: Row, now: datetime) -> Row:
    """What staff save is the row's own, also if its account has it."""
    since = row.own_email_since if same_email(row.email, row.own_email) else now
    return replace(
        row, own_name=row.name, own_email=normalized_email(row.email), own_email_since=since
    )
