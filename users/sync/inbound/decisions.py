"""What follows from the facts: whose account belongs to which row, and what the rows hold.

`derive` is a pure function. It is asked again whenever a fact, a row or a decision of staff
changes, so that nothing is decided for ever by what happened to be known first.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime

from users.models import Invitation, InvitationStatus, LinkedBy
from users.sync.inbound.group import Account, Decisions, Group, Invited, Row
from users.sync.inbound.links import Links, may_move
from users.sync.inbound.notes import explain
from users.sync.inbound.values import follow
from users.sync.mirror.comparison import normalized_email, same_email

Purpose = Invitation.Purpose


def derive(group: Group, *, now: datetime) -> Decisions:
    """Derive what should be from what is known.

    1. Which account belongs to which row. In doubt none. 2. What became of the invitations.
    3. Which name and email the rows have. 4. What is left to be shown.
    """
    group = _sorted(group)
    decided = _derive_once(group, now)
    for _ in range(MOST_TURNS):
        before, group = group, _carried_out(group, decided)
        if group == before:
            break
        again = _derive_once(group, now)
        again.accepted |= decided.accepted
        again.closed |= decided.closed
        again.replaced = decided.replaced | again.replaced
        decided = again
    return decided


MOST_TURNS = 10
"""One decision makes the next one possible: whoever releases an address lets another one have it.
The end comes after two or three turns."""


def _derive_once(group: Group, now: datetime) -> Decisions:
    refused: set[uuid.UUID] = set()
    while True:
        decisions = Links(group, now, refused).decide()
        if (refusing := follow(group, decisions, now)) is None:
            break
        refused.add(refusing)
    decisions.refused = refused
    _settle_invitations(group, decisions, now)
    explain(group, decisions, now)
    return decisions


def _carried_out(group: Group, decided: Decisions) -> Group:
    """The group as it is once these decisions are applied."""
    status = dict.fromkeys(decided.accepted, InvitationStatus.ACCEPTED) | dict.fromkeys(
        decided.closed, InvitationStatus.REVOKED
    )
    return Group(
        accounts={
            one: replace(account, released=account.released or one in decided.replaced)
            for one, account in group.accounts.items()
        },
        rows={
            row.id: row
            if row.linked_at == group.rows[row.id].linked_at
            else replace(row, touched=False)
            for row in decided.rows.values()
        },
        invitations=[
            replace(one, status=status.get(one.reference, one.status)) for one in group.invitations
        ],
    )


def _sorted(group: Group) -> Group:
    """The database gives records in any order; what follows from them, and its text, has one."""
    return Group(
        accounts=dict(sorted(group.accounts.items())),
        rows=dict(sorted(group.rows.items())),
        invitations=sorted(group.invitations, key=lambda one: (one.sent_at, one.reference)),
    )


# --- Invitations -----------------------------------------------------------------------------


def _settle_invitations(group: Group, decisions: Decisions, now: datetime) -> None:
    for invitation in group.invitations:
        row = decisions.rows.get(invitation.user_id)
        if (
            row is None
            or row.busy
            or invitation.status in (InvitationStatus.ACCEPTED, InvitationStatus.REVOKED)
        ):
            continue
        account = group.accounts.get(row.clerk_id or "")
        if account is not None and _came_from(account, row, invitation):
            decisions.accepted.add(invitation.reference)
        elif invitation.open and _is_overruled(row, account, invitation, now):
            decisions.closed.add(invitation.reference)


def _came_from(account: Account, row: Row, invitation: Invited) -> bool:
    if account.facts.reference.value == invitation.reference:
        return True
    if row.linked_by == LinkedBy.INVITATION:
        return row.linked_since == invitation.sent_at
    made_after = account.created_at is not None and account.created_at > invitation.sent_at
    return made_after and normalized_email(invitation.email) in account.facts.addresses


def _is_overruled(row: Row, account: Account | None, invitation: Invited, now: datetime) -> bool:
    """Whether somebody decided since what the invitation was to bring about. A link that may still
    move is no decision: who accepted may be heard of later."""
    decided_at = row.decision.linked_since if row.decision is not None else None
    if decided_at is not None and decided_at > invitation.sent_at:
        return True
    if invitation.purpose == Purpose.NEW_ACCOUNT and row.clerk_id:
        return row.decided or account is None or not may_move(row, account, now)
    moved = row.own_email_since is not None and row.own_email_since > invitation.sent_at
    if invitation.purpose == Purpose.EMAIL_CHANGE:
        return moved
    return moved and not same_email(invitation.email, row.own_email)
