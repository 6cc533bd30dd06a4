"""The row takes over name and email as an event shows them.

Addresses change hands: two people swap theirs, or one takes what another has just left. Events
come in any order and the table's emails are unique, so a row may still hold an address that its
own account has left. Such a row moves first; what an account and its row both hold, or a row
without an account, is nobody else's: that is drift, and shown.
"""

from __future__ import annotations

import uuid

from django.db.models import F

from users import guard
from users.clerk import ClerkUser
from users.models import BuilderUser, ClerkAccount
from users.sync import copies, journal, locks
from users.sync.mirror import comparison
from users.sync.mirror.comparison import taken_by_another
from users.sync.operations import Follow
from users.sync.operations.following import changes_from, unfit_name

PARKED = "{}@moving.invalid"
"""Where a row stands while two swap, inside the transaction: nobody ever sees it."""


def follow(row: BuilderUser, account: ClerkUser, note: str = "") -> None:
    """Bring the row, which is locked, to its account's newest state. `note` is what stands on
    our copy now."""
    changes, drift = changes_from(row, account), ""
    moved = comparison.email_differs(row.email, account.email)
    if moved and "email" not in changes:  # it is taken
        holders = _who_must_move(row, account.email)
        if holders is None:
            other = taken_by_another(row, account.email)
            drift = f"Its email belongs to another builder user, {other}."
        else:
            changes["email"] = [row.email, account.email]
            _make_way(row, holders)
    drift = f"{drift} {unfit_name(account.name)}".strip()
    if changes:
        operation = Follow.on(row, changes)
        operation.write(row)
        journal.record_event(operation)
        if "email" in changes:
            left(changes["email"][0])
    if drift != note:
        say(account.id, drift)


def left(email: str) -> None:
    """A row has left this address: who has it in Clerk and could not take it takes it now."""
    linked = ClerkAccount.objects.filter(user__isnull=False, deleted_at=None)
    waiting = comparison.where_email_differs(F("user__email"), F("email"))
    for known in comparison.with_email(linked, email).filter(waiting):
        row = _movable(known.user_id)
        if row is not None:
            follow(row, copies.user_of(known), known.note)


def _who_must_move(row: BuilderUser, email: str) -> list[tuple[BuilderUser, str]] | None:
    """The rows, locked, that hold `email` and so on although their accounts have left it, each
    with the address that it goes to; None if somebody in the chain stays where they are."""
    moving: list[tuple[BuilderUser, str]] = []
    wanted = email
    while (found := taken_by_another(row, wanted)) is not None:
        # Locked before its account is looked at: its own event may be at work.
        holder = _movable(found.pk)
        if holder is None or holder in dict(moving):
            return None
        if holder.email != found.email:
            continue  # it has moved meanwhile
        known = ClerkAccount.objects.filter(user=holder, deleted_at=None).first()
        if known is None or not comparison.email_differs(wanted, known.email):
            return None
        moving.append((holder, known.email))
        wanted = known.email
    return moving


def _make_way(row: BuilderUser, holders: list[tuple[BuilderUser, str]]) -> None:
    if holders:
        with guard.synchronized():
            BuilderUser.objects.filter(pk=row.pk).update(email=PARKED.format(row.pk))
    for holder, email in reversed(holders):
        operation = Follow.on(holder, {"email": [holder.email, email]})
        operation.write(holder)
        journal.record_event(operation)
        say(holder.clerk_id or "", "")


def _movable(pk: uuid.UUID | None) -> BuilderUser | None:
    """Another row, locked; None if it is gone or has a change that is not settled."""
    row = locks.lock_for_event(pk=pk)
    return None if row is None or locks.has_unfinished(row) else row


def say(clerk_id: str, note: str) -> None:
    """Say on our copy why the account is not linked, or does not match."""
    ClerkAccount.objects.filter(pk=clerk_id).exclude(note=note).update(note=note)
