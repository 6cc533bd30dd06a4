"""What happens in Clerk reaches us: events, in any order, once or often (FACTS §4).

An event with a user is that user's state at `data.updated_at`. The newest one counts: our copy
takes it, and the row follows its name and email. Older ones change nothing, and an echo of our
own save finds everything as it is. Clerk is not asked.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.db import OperationalError, transaction

from users.clerk import ClerkUser
from users.clerk.types import time_from
from users.errors import CascadeError
from users.ids import USER_ID
from users.models import BuilderUser, ClerkAccount, Invitation, SyncAttempt
from users.sync import copies, following, journal, locks, pending, recovery
from users.sync.matching import Match, match
from users.sync.mirror.comparison import taken_by_another
from users.sync.operations import Delete, Link, Operation, Seen, Verdict, from_attempt
from users.sync.operations.following import AccountChanged

logger = logging.getLogger(__name__)

LOCK_SECONDS = 3
"""How long an event waits for a save of its user; Clerk waits 15 s for our answer."""

Payload = Mapping[str, Any]
"""A whole event: `type` is a text, `data` a mapping; nothing else is certain."""

FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Effect:
    """What an event is about: an account, and its state at a time; with None the event is never
    too late. `happen` is the work of the transaction."""

    clerk_id: str
    at: datetime | None
    happen: Callable[[], None]


class NotYet(CascadeError):
    """The event cannot take effect now, and says why; it is kept and tried again."""


class Unusable(CascadeError):
    """The payload is no event of its type: it never will take effect."""


def take(account: ClerkUser) -> None:
    """An account as Clerk was just asked for it, in place of an event that was lost."""
    try:
        with transaction.atomic(durable=True):
            locks.prepare_transaction(wait=LOCK_SECONDS)
            locks.lock_account(account.id)
            _state(account)
    except (NotYet, OperationalError) as reason:
        logger.info("%s waits: %s", account.id, type(reason).__name__)


# --- Effects ---------------------------------------------------------------------------------


def _user_event(payload: Payload) -> Effect:
    return _effect_of(payload["data"], payload)


def _session_event(payload: Payload) -> Effect:
    """A session holds its whole user."""
    return _effect_of(payload["data"].get("user"), payload)


def _deleted_event(payload: Payload) -> Effect:
    clerk_id = payload["data"].get("id")
    if not isinstance(clerk_id, str) or not USER_ID.match(clerk_id):
        raise Unusable("the event names no user")
    return Effect(clerk_id, None, lambda: _deleted(clerk_id))


EFFECTS = {
    "user.created": _user_event,
    "user.updated": _user_event,
    "user.deleted": _deleted_event,
    "session.created": _session_event,
}
"""The events that we read, each with what it makes of a payload. Raises `Unusable`."""


def _effect_of(data: Any, payload: Payload) -> Effect:
    """The effect of an event that holds a user."""
    try:
        account = ClerkUser.parse(data)
    except ValueError as error:
        raise Unusable(str(error)) from None
    if account.updated_at is None:  # as in the example that Clerk's dashboard sends
        account = replace(account, updated_at=time_of(payload))
    return Effect(account.id, account.updated_at or FIRST, lambda: _state(account))


def time_of(payload: Payload) -> datetime | None:
    """The event's own time. Milliseconds, but Clerk's document has examples in seconds."""
    timestamp = payload.get("timestamp")
    if isinstance(timestamp, int) and 0 < timestamp < 100_000_000_000:
        timestamp *= 1000
    return time_from(timestamp)


def _state(account: ClerkUser) -> None:
    """The account is as the event says, unless we know something newer."""
    # The row before the copy, as a save does: two orders would be a deadlock.
    row = locks.lock_for_event(clerk_id=account.id)
    if row is None and _settle_creation(account):
        row = locks.lock_for_event(clerk_id=account.id)
    elif row is not None and locks.has_unfinished(row):
        _settle(row, lambda operation: _shown_by(account, operation))
        row.refresh_from_db()
    kept = copies.keep(account)
    if row is None:
        row = _linked_meanwhile(account)
    if row is None:
        _link_new(account, kept)
    elif kept is not None:
        if changes := kept.changes(account):
            journal.record_event(AccountChanged.on(row, changes))
        following.follow(row, account, kept.note)


def _linked_meanwhile(account: ClerkUser) -> BuilderUser | None:
    """The row that a save linked while this event came to our copy, which does not know of it."""
    row = locks.lock_for_event(clerk_id=account.id)
    if row is not None:
        copies.follow_row(account.id)
    return row


def _link_new(account: ClerkUser, kept: copies.Kept | None) -> None:
    """Link an account that no row has. Come late, an event still says whose account it was: the
    link must not depend on the order."""
    if kept is not None:
        if not kept.released:
            _link(account, now=account)
        return
    known = ClerkAccount.objects.get(pk=account.id)
    if known.released_at is None:
        _link(account, now=copies.user_of(known))


def _shown_by(account: ClerkUser, operation: Operation) -> Seen | None:
    """Only that the account shows a change is proof: that it does not may be an older state."""
    shown = operation.clerk_id == account.id and operation.judge(account) is Verdict.HAS_IT
    return Seen(Verdict.HAS_IT, account) if shown else None


def _deleted(clerk_id: str) -> None:
    row = locks.lock_for_event(clerk_id=clerk_id)
    if row is not None and locks.has_unfinished(row):
        _settle(row, _shown_by_deletion, over=True)
        row = BuilderUser.objects.filter(pk=row.pk).first()
    known = ClerkAccount.objects.filter(pk=clerk_id, deleted_at__isnull=False).exists()
    copies.keep_deleted(clerk_id)
    if row is not None and not known:
        journal.record_event(AccountChanged.on(row, {"deleted in Clerk": [False, True]}))


def _shown_by_deletion(operation: Operation) -> Seen:
    if isinstance(operation, Delete):
        return Seen(Verdict.HAS_IT)
    return Seen(Verdict.HAS_NOT, why="The user was deleted in Clerk.")


def _settle(
    row: BuilderUser, decide: Callable[[Operation], Seen | None], *, over: bool = False
) -> None:
    """Resolve pending attempts by the event; else it waits until recovery has. `over` says that
    after this event nothing can arrive any more."""
    for attempt in _pending_of(row.pk):
        attempt.refresh_from_db(fields=["status"])
        if not attempt.pending:  # the one before brought the same
            continue
        operation = from_attempt(attempt)
        seen = decide(operation)
        if seen is None or not locks.lock_attempt(attempt):
            raise NotYet("An earlier change of this user is not settled yet.")
        _resolve(operation, row, attempt, seen, over=over)


def _settle_creation(account: ClerkUser) -> bool:
    """A create whose process died before its row was there: the account is its proof."""
    claimed = copies.claimed_id(account)
    if claimed is None or BuilderUser.objects.filter(pk=claimed).exists():
        return False
    for attempt in _pending_of(claimed):
        operation = from_attempt(attempt)
        # Locked by a save that is running: that one links it.
        if (
            operation.creates_row
            and operation.judge(account) is Verdict.HAS_IT
            and locks.lock_attempt(attempt)
        ):
            _resolve(operation, None, attempt, Seen(Verdict.HAS_IT, account), over=False)
            return True
    return False


def _pending_of(user_id: uuid.UUID) -> list[SyncAttempt]:
    return [attempt for attempt in pending.in_flight(user_id) if attempt.pending]


def _resolve(
    operation: Operation, row: BuilderUser | None, attempt: SyncAttempt, seen: Seen, *, over: bool
) -> None:
    try:
        recovery.resolve(operation, row, attempt, seen, over=over)
    except recovery.StaysPending as reason:
        raise NotYet(str(reason)) from None


def _link(account: ClerkUser, *, now: ClerkUser) -> None:
    """Link the row that `account` belongs to; `now` is the account's newest state."""
    found = match(account)
    if found.user is None:
        if now is account:
            following.say(account.id, found.note)
        return
    row = locks.lock_for_event(pk=found.user.pk)
    if row is None or locks.has_unfinished(row) or _is_other(row, found, account):
        raise NotYet("The user that it belongs to is being changed.")
    if found.invitation is not None and taken_by_another(row, account.email):
        following.say(
            account.id,
            f"It accepted the invitation of {row}, but another builder user has its email.",
        )
        return
    operation = Link.to(row, account.id, email=account.email if found.invitation else None)
    operation.write(row)
    journal.record_event(operation)
    if "email" in operation.changes:
        following.left(operation.changes["email"][0])
    if found.invitation is not None:
        found.invitation.status = Invitation.State.ACCEPTED
        found.invitation.save(update_fields=["status", "updated_at"])
    following.follow(row, now)


def _is_other(row: BuilderUser, found: Match, account: ClerkUser) -> bool:
    """Whether the row is not as it was when it was found, before it was waited for."""
    before = found.user
    assert before is not None
    if (row.clerk_id, row.email) != (before.clerk_id, before.email):
        return True
    return found.invitation is not None and match(account) != found
