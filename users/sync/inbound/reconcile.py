"""Reconcile rows with facts: derive the target state of everything that a change affects.

The decisions are applied in the transaction of that change.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence

from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from users.clerk import ClerkUser
from users.models import Agreement, BuilderUser, ClerkAccount, Source, SyncAttempt
from users.sync.inbound.applying import apply
from users.sync.inbound.decisions import derive
from users.sync.inbound.group import Row
from users.sync.inbound.loading import load
from users.sync.mirror import agreements, listing, store

logger = logging.getLogger(__name__)

TOO_LARGE = gettext_noop(
    "Too many users and accounts belong together with it. Nothing was linked or copied."
)
CHUNK = 200


def take(user: ClerkUser, *, source: Source = Source.TASK) -> None:
    """Join an answer of Clerk, and reconcile the rows that it affects."""
    with transaction.atomic():
        if store.keep(user, source=source).due:
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
    loaded = load(accounts=accounts, rows=rows, addresses=addresses)
    if loaded is None:
        return False
    decisions = derive(loaded.group, now=now)
    apply(loaded, decisions, source, cause)
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


def reconcile_released(addresses: Iterable[str], *, source: Source = Source.TASK) -> None:
    """Reconcile who waits for addresses that rows had which another application deleted."""
    if released := [*addresses]:
        _reconcile_lot(source, addresses=released)


def _reconcile_lot(
    source: Source,
    *,
    accounts: Sequence[str] = (),
    rows: Sequence[uuid.UUID] = (),
    addresses: Sequence[str] = (),
) -> bool:
    """Reconcile accounts, rows or addresses in one transaction; return whether that succeeded.

    One that is too large even alone gets a note, so that staff see it.
    """
    try:
        with transaction.atomic():
            succeeded = reconcile(accounts=accounts, rows=rows, addresses=addresses, source=source)
            if not succeeded and len(accounts) + len(rows) == 1:
                _leave_to_staff(accounts, rows)
            return succeeded
    except DatabaseError:
        logger.exception("Accounts or rows could not be reconciled")
        return False


def _leave_to_staff(accounts: Sequence[str], rows: Sequence[uuid.UUID]) -> None:
    """Note what is too large to be decided. The next fact that concerns it tries again."""
    ClerkAccount.objects.filter(pk__in=accounts).update(note=_(TOO_LARGE), reconcile_due=False)
    concerned = Agreement.objects.filter(Q(user__in=rows) | Q(user__clerk_id__in=accounts))
    concerned.update(note=_(TOO_LARGE))


def derived_links(
    matches: Mapping[str, uuid.UUID],
) -> tuple[list[tuple[BuilderUser, str]], dict[str, str]]:
    """Return the links that follow from these accounts, and a note on each account without a link.

    `matches` maps each account to the row without an account to which it seems to belong. Nothing
    is changed.
    """
    with transaction.atomic():
        now = store.lock()
        loaded = load(accounts=matches, rows=matches.values(), addresses=())
        if loaded is None:
            return [], {clerk_id: f"{clerk_id}: {_(TOO_LARGE)}" for clerk_id in matches}
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
        return _("{row} is being saved, or has a pending change. Nothing was linked.").format(
            row=row
        )
    return row.note or _("It is not certain to belong to {row}. Nothing was linked.").format(
        row=row
    )
