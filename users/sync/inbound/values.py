"""Decide the name and email of each row.

A row takes what its account shows, unless the row itself changed since both last agreed.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from users.models import LinkedBy
from users.sync.inbound import addresses
from users.sync.inbound.addresses import Wishes
from users.sync.inbound.group import Account, Decisions, Group, Row
from users.sync.mirror.comparison import normalized_email, same_email, same_name


def apply_clerks_values(group: Group, decisions: Decisions, now: datetime) -> uuid.UUID | None:
    """Apply Clerk's changes of names and emails to the rows.

    Return the reference of an invitation that cannot be applied because another row has its
    address; None if all addresses are solved.
    """
    wishes: dict[uuid.UUID, Wishes] = {}
    taken: dict[uuid.UUID, str] = {}
    linked = {row.clerk_id for row in decisions.rows.values()}
    for row in list(decisions.rows.values()):
        account = group.accounts.get(row.clerk_id or "")
        if row.clerk_id is None and group.rows[row.id].clerk_id is not None:
            wishes[row.id] = _wishes_of_the_unlinked(group.rows[row.id], _lost(row, group, linked))
            continue
        if row.clerk_id is None and not row.busy and row.waits_for_own_email:
            wishes[row.id] = _wishes_of_the_unlinked(row, _lost(row, group, linked))
            continue
        if account is None or row.busy:
            taken[row.id] = row.email
            continue
        row = decisions.rows[row.id] = _with_name(row, account)
        if row.is_restored(group.rows[row.id]):
            wishes[row.id] = _wishes_of_the_restored(row, account)
            continue
        newly = row.clerk_id != group.rows[row.id].clerk_id
        newly_invited = newly and row.linked_by == LinkedBy.INVITATION
        if wish := _wishes(row, account, newly_invited=newly_invited):
            wishes[row.id] = wish
        else:
            taken[row.id] = row.email
    preferred = {
        row_id: _without_foreign_address(group.rows[row_id], decisions.rows[row_id], wish)
        for row_id, wish in wishes.items()
    }
    solved = addresses.solve(preferred, taken=taken) or addresses.solve(wishes, taken=taken)
    if solved is None:
        return _unfulfilled(group, decisions, wishes, taken)
    for row_id, email in solved.items():
        row = decisions.rows[row_id]
        decisions.rows[row_id] = replace(
            row,
            email=row.email if same_email(row.email, email) else email,
            agreed_email=_agreed(row, email, restored=row.is_restored(group.rows[row.id])),
            agreed_email_version=max(wishes[row_id].version, row.agreed_email_version),
        )
    return None


def _unfulfilled(
    group: Group,
    decisions: Decisions,
    wishes: Mapping[uuid.UUID, Wishes],
    taken: Mapping[uuid.UUID, str],
) -> uuid.UUID | None:
    """Leave all emails as they are; return the invitation that prevents a solution, if one does."""
    used = {addresses.key(email) for email in taken.values()}
    for invitation in group.invitations:
        row = decisions.rows.get(invitation.user_id)
        newly = row and row.clerk_id != group.rows[row.id].clerk_id
        if (
            newly
            and row
            and row.linked_by == LinkedBy.INVITATION
            and row.linked_since == invitation.sent_at
            and all(addresses.key(email) in used for email in wishes[row.id].addresses)
        ):
            return invitation.reference
    return None


def _with_name(row: Row, account: Account) -> Row:
    version, theirs = account.facts.name
    if not theirs or row.agreed_name is None or not same_name(row.name, row.agreed_name):
        return row
    if same_name(row.name, theirs):
        return row
    return replace(row, name=theirs, agreed_name=theirs, agreed_name_version=version)


def _wishes(row: Row, account: Account, *, newly_invited: bool) -> Wishes | None:
    """Return the addresses that the row may take, None for a row that stays as it is.

    The first is the address of its account. Then come the addresses that the account had since the
    row's own address, newest first, then the row's own address, then the account's earlier ones,
    and last the row's present one.
    """
    version, theirs = account.facts.email
    if row.agreed_email is None or not same_email(row.email, row.agreed_email):
        return None
    own = row.own_email or row.email
    if not theirs:
        return None if same_email(own, row.email) else Wishes("", [own])
    held = account.facts.addresses
    own_last = held[normalized_email(own)][1] if normalized_email(own) in held else None
    newest_first = _newest_first(account)
    since = [one for one in newest_first if own_last is not None and held[one][1] > own_last]
    wished = [theirs, *since, own]
    if newly_invited:  # a new invitation has no fallback: it is refused instead
        return Wishes(version, list(dict.fromkeys(wished)))
    return Wishes(version, _with_fallback([*wished, *newest_first], row))


def _newest_first(account: Account) -> list[str]:
    """Return the addresses of the account, the one that it had last first."""
    held = account.facts.addresses
    return sorted(held, key=lambda address: (held[address][1], address), reverse=True)


def _without_foreign_address(before: Row, row: Row, wish: Wishes) -> Wishes:
    """Leave out the row's present address if it came from an account that is now detached."""
    moved = before.clerk_id != row.clerk_id
    again = row.linked_by == LinkedBy.ADDRESS or row.is_restored(before)
    undone = moved and before.linked_by == LinkedBy.ADDRESS and again
    *others, last = wish.addresses
    foreign = same_email(last, before.email) and not same_email(last, row.own_email)
    return replace(wish, addresses=others) if undone and foreign and others else wish


def _agreed(row: Row, email: str, *, restored: bool) -> str | None:
    if row.clerk_id is None:  # the account that brought it is gone: see `waits_for_own_email`
        return None if same_email(email, row.own_email) else email
    stays = restored and not same_email(row.agreed_email, row.own_email)
    return row.agreed_email if stays else email


FIRST = "~"
"""Greater than all versions."""


def _lost(row: Row, group: Group, linked: Collection[str | None]) -> Account | None:
    """Return the account that the row lost, None if another row has it now."""
    lost = row.lost_account
    return group.accounts.get(lost) if lost and lost not in linked else None


def _wishes_of_the_unlinked(row: Row, lost: Account | None) -> Wishes:
    """Return the wishes of a row that lost its account.

    If the row had taken its email from that account, it gets its own address back, before all rows
    that could not have had this address otherwise. While another row has that one, it follows the
    lost account: it is not known how far it had followed when it lost it.
    """
    if not same_email(row.email, row.agreed_email):
        return Wishes(FIRST, [row.email])
    theirs = [lost.facts.email.value, *_newest_first(lost)] if lost else []
    return Wishes(FIRST, _with_fallback([row.own_email, *filter(None, theirs)], row))


def _wishes_of_the_restored(row: Row, account: Account) -> Wishes:
    """Return the wishes of a row whose link is restored, as if it had never been lost.

    If none of them is free, the row keeps the address that it has now.
    """
    without = replace(row, email=row.own_email)
    wish = _wishes(without, account, newly_invited=False) or Wishes(FIRST, [row.own_email])
    return replace(wish, addresses=_with_fallback(wish.addresses, row))


def _with_fallback(wished: Sequence[str], row: Row) -> list[str]:
    """Return each wish once, and the row's present address last, even if it is a wish."""
    return [*dict.fromkeys(wished), row.email]
