"""Turn Clerk's events into facts, without a request to Clerk.

An event with a user is the state of that user at `data.updated_at`, observed at the event's
`timestamp`. It is always joined at once. If it confirms a pending change, it resolves that change.
Decisions about rows with a pending change wait until the change is resolved.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.utils.translation import gettext as _

from users.clerk import ClerkUser, clock
from users.clerk.metadata import OUR_ID
from users.clerk.types import time_from
from users.errors import CascadeError
from users.ids import USER_ID
from users.models import BuilderUser, Source, SyncAttempt
from users.sync.inbound import facts
from users.sync.inbound.reconcile import reconcile
from users.sync.mirror import store
from users.sync.operations import Delete, Operation, Seen, Verdict, from_attempt
from users.sync.outbound import locks, pending, recovery

Payload = Mapping[str, Any]
"""A whole event: `type` is a text and `data` a mapping; nothing else is certain."""


class Unusable(CascadeError):
    """The payload does not have the shape of its type, so it can never be applied."""


@dataclass(frozen=True)
class Effect:
    """What an event says about an account: a state of it, or `deleted_at`."""

    clerk_id: str
    account: ClerkUser | None
    deleted_at: datetime | None = None

    @property
    def fact(self) -> facts.Facts:
        """Return the fact to join to the account."""
        if self.account is None:
            return facts.of_deletion(self.deleted_at or clock.latest())
        return store.fact_of(self.account)


def _user_event(payload: Payload) -> Effect:
    return _effect_of(payload["data"], payload)


def _session_event(payload: Payload) -> Effect:
    """Read the user of a session event: a session contains its whole user."""
    return _effect_of(payload["data"].get("user"), payload)


def _deleted_event(payload: Payload) -> Effect:
    clerk_id = payload["data"].get("id")
    if not isinstance(clerk_id, str) or not USER_ID.match(clerk_id):
        raise Unusable("the event names no user")
    return Effect(clerk_id, None, _observed_at(payload))


EFFECTS = {
    "user.created": _user_event,
    "user.updated": _user_event,
    "user.deleted": _deleted_event,
    "session.created": _session_event,
}
"""The event types that we read, each with the function that reads its payload.

The functions raise `Unusable`.
"""


def _effect_of(data: object, payload: Payload) -> Effect:
    try:
        account = ClerkUser.parse(data)
    except ValueError as error:
        raise Unusable(str(error)) from None
    return Effect(account.id, replace(account, told_at=_observed_at(payload)))


LONGEST_ID = 200
"""Characters of a Clerk id; an index cannot hold a text of any length."""


def user_of(payload: object) -> str:
    """Return the Clerk id of the user that an event names; "" if it names none.

    The event need not be one that can be applied.
    """
    data = payload.get("data") if isinstance(payload, dict) else None
    named = (data.get("user_id"), data.get("id")) if isinstance(data, dict) else ()
    ids = (one for one in named if isinstance(one, str) and len(one) <= LONGEST_ID)
    return next(filter(USER_ID.match, ids), "")


def time_of(payload: Payload) -> datetime | None:
    """Return the time of the event itself, None if it has none that is valid.

    It is in milliseconds, but Clerk's documentation also has examples in seconds.
    """
    timestamp = payload.get("timestamp")
    if isinstance(timestamp, int) and 0 < timestamp < 100_000_000_000:
        timestamp *= 1000
    return time_from(timestamp)


FURTHEST = timedelta(days=1)
"""How far an event's time may be ahead of ours and still count as valid."""


def _observed_at(payload: Payload) -> datetime:
    """Return the time at which Clerk had the state that the event shows."""
    at, now = time_of(payload), clock.now()
    return now if at is None or at > now + FURTHEST else at


# --- Effects -------------------------------------------------------------------------------------


def apply(effects: Sequence[Effect]) -> None:
    """Join the facts of events about different accounts, and reconcile what they affect."""
    if _any_pending(effects):
        for effect in effects:
            _resolve_by(effect)
    each = {effect.clerk_id: effect.fact for effect in effects}
    kept = store.keep_each(each, source=Source.WEBHOOK)
    if due := {clerk_id: one.after for clerk_id, one in kept.items() if one.due}:
        held = chain.from_iterable(facts.emails_of(known) for known in due.values())
        reconcile(accounts=due, addresses=held, source=Source.WEBHOOK)


# --- Pending changes -----------------------------------------------------------------------------


_ANY_PENDING = """
SELECT EXISTS (
    SELECT FROM users_syncattempt WHERE status = 'started' AND (
        user_id = ANY(%s) OR user_id IN (SELECT id FROM users WHERE clerk_id = ANY(%s))
    )
)
"""


def _any_pending(effects: Sequence[Effect]) -> bool:
    # Raw SQL: events arrive by the thousand, and building the query in Django takes longer.
    claimed = [user_id for effect in effects if (user_id := _claimed_by(effect.account))]
    with connection.cursor() as cursor:
        cursor.execute(_ANY_PENDING, [claimed, [effect.clerk_id for effect in effects]])
        return bool(cursor.fetchone()[0])


def _resolve_by(effect: Effect) -> None:
    account = effect.account
    if account is None:
        _resolve_pending(effect.clerk_id, _shown_by_deletion, over=True)
    else:
        _resolve_pending(effect.clerk_id, lambda operation: _shown_by(account, operation))
        _resolve_create(account)


def _resolve_pending(
    clerk_id: str, decide: Callable[[Operation], Seen | None], *, over: bool = False
) -> None:
    """Resolve the pending attempts of the account's row that the event decides.

    `over` says that nothing can arrive at Clerk any more after this event.
    """
    row = BuilderUser.objects.filter(clerk_id=clerk_id).first()
    if row is None:
        return
    for attempt in _pending_of(row.pk):
        locked = locks.lock_free_user(row.pk)
        if locked is None:  # the save that holds the lock resolves it
            return
        attempt.refresh_from_db(fields=["status"])
        operation = from_attempt(attempt)
        seen = decide(operation) if attempt.pending else None
        if seen is not None and locks.lock_attempt(attempt):
            _resolve(operation, locked, attempt, seen, over=over)


def _resolve_create(account: ClerkUser) -> None:
    """Finish a create whose process died before the row was stored: the account proves it."""
    user_id = _claimed_by(account)
    if user_id is None or BuilderUser.objects.filter(pk=user_id).exists():
        return
    for attempt in _pending_of(user_id):
        operation = from_attempt(attempt)
        # If the lock is held, the save is still running, and links the account itself.
        if (
            operation.creates_row
            and operation.judge(account) is Verdict.HAS_IT
            and locks.lock_attempt(attempt)
        ):
            _resolve(operation, None, attempt, Seen(Verdict.HAS_IT, account), over=False)
            return


def _claimed_by(account: ClerkUser | None) -> uuid.UUID | None:
    """Return the id of ours that the account's metadata names, which proves nothing by itself."""
    try:
        return uuid.UUID(str(account.public_metadata.get(OUR_ID))) if account else None
    except ValueError:
        return None


def _shown_by(account: ClerkUser, operation: Operation) -> Seen | None:
    """Return proof that the account shows the change, None if it does not show it.

    An account that does not show the change proves nothing: the event may hold an older state.
    """
    shown = operation.clerk_id == account.id and operation.judge(account) is Verdict.HAS_IT
    return Seen(Verdict.HAS_IT, account) if shown else None


def _shown_by_deletion(operation: Operation) -> Seen:
    if isinstance(operation, Delete):
        return Seen(Verdict.HAS_IT)
    return Seen(Verdict.HAS_NOT, why=_("The user was deleted in Clerk."))


def _pending_of(user_id: uuid.UUID) -> list[SyncAttempt]:
    return [attempt for attempt in pending.in_flight(user_id) if attempt.pending]


def _resolve(
    operation: Operation, row: BuilderUser | None, attempt: SyncAttempt, seen: Seen, *, over: bool
) -> None:
    """Resolve the attempt; if the event does not decide it, leave it pending for recovery."""
    with suppress(recovery.StaysPending, IntegrityError), transaction.atomic():
        recovery.resolve(operation, row, attempt, seen, over=over)
