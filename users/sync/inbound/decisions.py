"""Derive from the facts which account belongs to which row, and which values the rows hold.

`derive` is a pure function. It is called again whenever a fact, a row or a decision of staff
changes, so that the order in which facts become known does not decide anything for good.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime

from users.models import Invitation, InvitationStatus, LinkedBy
from users.sync.inbound.group import Account, Decisions, Group, Invited, Row
from users.sync.inbound.links import Links, may_move
from users.sync.inbound.notes import explain
from users.sync.inbound.values import apply_clerks_values
from users.sync.mirror.comparison import same_email

Purpose = Invitation.Purpose


def derive(group: Group, *, now: datetime) -> Decisions:
    """Derive the target state of a group from what is known about it.

    1. Link accounts to rows; in doubt an account is linked to no row.
    2. Decide which invitations are accepted or closed.
    3. Decide the name and email of each row.
    4. Write the notes that are shown to staff.

    Repeat this until nothing changes, at most `MOST_TURNS` times.
    """
    group = _sorted(group)
    decided = _derive_once(group, now)
    for _ in range(MOST_TURNS):
        before, group = group, _applied(group, decided)
        if group == before:
            break
        again = _derive_once(group, now)
        again.accepted |= decided.accepted
        again.closed |= decided.closed
        again.replaced = decided.replaced | again.replaced
        decided = again
    return decided


MOST_TURNS = 10
"""Limit of repetitions; two or three are enough in practice.

One decision makes the next one possible: a released address is free for another row.
"""


def _derive_once(group: Group, now: datetime) -> Decisions:
    """Derive the decisions once, without the accepted invitations that cannot be applied.

    Whether an invitation can be applied is known only after the emails are solved. So the links are
    decided again without each one that cannot.
    """
    refused: set[uuid.UUID] = set()
    while True:
        decisions = Links(group, now, refused).decide()
        if (refusing := apply_clerks_values(group, decisions, now)) is None:
            break
        refused.add(refusing)
    decisions.refused = refused
    _decide_invitations(group, decisions, now)
    explain(group, decisions, now)
    return decisions


def _applied(group: Group, decided: Decisions) -> Group:
    """Return the group as it is after these decisions are applied."""
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
    """Return the group in a fixed order.

    The database returns records in any order, but the decisions and their texts must not depend on
    it.
    """
    return Group(
        accounts=dict(sorted(group.accounts.items())),
        rows=dict(sorted(group.rows.items())),
        invitations=sorted(group.invitations, key=lambda one: (one.sent_at, one.reference)),
    )


# --- Invitations -----------------------------------------------------------------------------


def _decide_invitations(group: Group, decisions: Decisions, now: datetime) -> None:
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
    """Return whether the account of a row came from the invitation.

    Its metadata names the invitation, or the link does, or it was made later with the address.
    It does not count that the account moved to the address: it may have come from another
    invitation.
    """
    if account.facts.reference.value == invitation.reference:
        return True
    if row.linked_by == LinkedBy.INVITATION:
        return row.linked_since == invitation.sent_at
    made_after = account.created_at is not None and account.created_at > invitation.sent_at
    return made_after and account.was_made_with(invitation.email)


def _is_overruled(row: Row, account: Account | None, invitation: Invited, now: datetime) -> bool:
    """Return whether a later decision replaces what the invitation was to bring about.

    A link that may still move is not a decision: the event of the acceptance may arrive later.
    """
    decided_at = row.decision.linked_since if row.decision is not None else None
    if decided_at is not None and decided_at > invitation.sent_at:
        return True
    if invitation.purpose == Purpose.NEW_ACCOUNT and row.clerk_id:
        return row.decided or account is None or not may_move(row, account, now)
    moved = row.own_email_since is not None and row.own_email_since > invitation.sent_at
    if invitation.purpose == Purpose.EMAIL_CHANGE:
        return moved
    return moved and not same_email(invitation.email, row.own_email)
