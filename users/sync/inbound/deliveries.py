"""Record each delivery of an event once, and store it until it has taken effect."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import cast

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from users.clerk import Deadline, clerk
from users.errors import CascadeError, ClerkError
from users.models import WebhookDelivery, WebhookRefusal
from users.sync.inbound import events
from users.sync.inbound.events import Unusable
from users.sync.inbound.group_commit import GroupCommit, TurnNotReached
from users.sync.mirror import instance
from users.sync.outbound import locks

logger = logging.getLogger(__name__)

LOCK_SECONDS = 3
"""Seconds that an event waits for other decisions that are being made; Clerk waits 15 s."""
OTHERS = "Others are being decided right now."
INSTANCE_SECONDS = 3
"""Seconds that the first events wait for Clerk to say which instance is ours."""
NO_INSTANCE = (
    "It is not known which Clerk instance is ours: the one of CLERK_SECRET_KEY has none of our "
    "users. The event waits until it is known. clerk_check says what is wrong."
)

PAUSE = timedelta(seconds=10)
"""Time for which a refusal of an unsigned delivery is kept before the next one replaces it."""
INSTANCE_ID = re.compile(r"ins_\w{1,100}\Z", re.ASCII)


class Outcome(StrEnum):
    """Outcome of a delivery, as it is answered to Clerk."""

    TAKEN = "ok"
    NOT_READ = "not read"
    WAITING = "kept for another try"
    UNUSABLE = "cannot be applied"


@dataclass(frozen=True)
class Received:
    """Result of a delivery; `error` says why it is stored."""

    svix_id: str
    outcome: Outcome
    error: str = ""

    @property
    def done(self) -> bool:
        """Return whether the delivery needs no other try."""
        return self.outcome in (Outcome.TAKEN, Outcome.NOT_READ)

    @property
    def answer(self) -> str:
        """Return the text of the answer to Clerk."""
        unusable = self.outcome is Outcome.UNUSABLE
        return f"{self.outcome}: {self.error}" if unusable else str(self.outcome)

    @property
    def report(self) -> str:
        """Return the text that is shown to people."""
        return self.error if self.outcome is Outcome.WAITING else self.answer


class InstanceUnknown(CascadeError):
    """No instance is remembered, so it is not known whether the event is ours."""


class OtherInstance(CascadeError):
    """The event belongs to another Clerk instance, and therefore to none of our users."""


def receive(svix_id: str, body: bytes) -> Received:
    """Record a delivery that Clerk signed, and apply it, in one transaction.

    A delivery that is already known does nothing. A delivery that fails is stored with its payload
    and error for `retry`, and so is one that comes while it is in doubt which instance is ours. A
    delivery that can never be applied is stored with the reason.

    Raises `OtherInstance`, and `OperationalError` or `InterfaceError` when the database does not
    answer: then Clerk sends the event again.
    """
    try:
        payload = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        what = "UTF-8" if isinstance(problem, UnicodeDecodeError) else "JSON"
        text = body.decode(errors="replace")
        return _keep_unusable(svix_id, text, f"the body is signed, but it is not {what}")
    return _apply(svix_id, payload, stored=False)


def retry(svix_ids: list[str] | None = None) -> list[Received]:
    """Try stored deliveries again, oldest first: the named ones, or all that are waiting.

    One of another instance than ours is kept with this reason, and not tried again.
    """
    _learn_instance()
    kept = WebhookDelivery.objects.filter(payload__isnull=False)
    kept = kept.filter(processed_at=None) if svix_ids is None else kept.filter(pk__in=svix_ids)
    return [
        _apply(delivery.svix_id, delivery.payload, stored=True)
        for delivery in kept.order_by("received_at").only("svix_id", "payload")
    ]


def unusable() -> QuerySet[WebhookDelivery]:
    """Return the deliveries that can never be applied, newest first."""
    return WebhookDelivery.objects.filter(processed_at__isnull=False, payload__isnull=False)


def note_refused(reason: str, *, signed: bool) -> None:
    """Store the reason of a refusal in place of the last one of its kind, signed or unsigned.

    Anybody can send unsigned requests. So at most one of these is written every ten seconds, and it
    never replaces the refusal of a signed delivery.
    """
    last = WebhookRefusal.objects.filter(signed=signed)
    if signed or not last.filter(refused_at__gt=Now() - PAUSE).exists():
        WebhookRefusal.objects.update_or_create(
            signed=signed, defaults={"reason": reason, "refused_at": Now()}
        )


def last_refused() -> list[WebhookRefusal]:
    """Return when and why events were last refused, newest first.

    There is at most one refusal of a signed event (of another instance), and at most one of an
    event without a valid signature.
    """
    return list(WebhookRefusal.objects.order_by("-refused_at"))


def _refuse_constant(text: str) -> None:
    """Refuse NaN and Infinity, which Python's parser takes for numbers."""
    raise ValueError(f"{text} is not JSON")


def _check_instance(payloads: Iterable[object]) -> str | None:
    """Raise `OtherInstance` unless all events name the remembered instance; return its id.

    While none is remembered, return None.
    """
    ours = _our_instance()
    for payload in payloads:
        named = payload.get("instance_id") if isinstance(payload, dict) else None
        if ours is not None and named != ours:
            known = isinstance(named, str) and INSTANCE_ID.match(named)
            of = f"the Clerk instance {named}" if known else "no Clerk instance"
            raise OtherInstance(
                f"It is of {of}; the one of our users is {ours}. "
                "Is the endpoint set up in the right instance?"
            )
    return ours


def _learn_instance() -> bool:
    """Ask Clerk which instance is ours; return whether it answered.

    Only the first events of an installation come here.
    """
    try:
        instance.learn(clerk(), Deadline(INSTANCE_SECONDS))
    except ClerkError:
        return False
    return True


def _our_instance() -> str | None:
    # Raw SQL: events arrive by the thousand, and building the query in Django takes longer.
    with connection.cursor() as cursor:
        cursor.execute("SELECT instance_id FROM users_rememberedinstance")
        found = cursor.fetchone()
    return found[0] if found else None


@dataclass(frozen=True)
class _Delivery:
    """A delivery whose event can be applied.

    `vouched` says that the event is trusted for its signature alone: no instance is remembered yet,
    and Clerk did not answer which one is ours.
    """

    svix_id: str
    type: str
    payload: object
    effect: events.Effect
    vouched: bool


def _apply(svix_id: str, payload: object, *, stored: bool) -> Received:
    """Apply a delivery. `stored` says that it was answered with 200 before."""
    try:
        try:
            return _applied(svix_id, payload)
        except InstanceUnknown:
            if stored:  # `retry` has asked
                raise
            return _applied(svix_id, payload, vouched=not _learn_instance())
    except InstanceUnknown as reason:
        return _keep_waiting(svix_id, payload, str(reason))
    except OtherInstance as reason:
        if stored:
            return _keep_unusable(svix_id, payload, str(reason))
        note_refused(str(reason), signed=True)
        raise


def _applied(svix_id: str, payload: object, *, vouched: bool = False) -> Received:
    try:
        event = _type_of(payload)
        effect = (
            events.EFFECTS[event](cast("events.Payload", payload))
            if event in events.EFFECTS
            else None
        )
    except Unusable as reason:
        _check_instance([payload])
        return _keep_unusable(svix_id, payload, str(reason))
    if effect is None:
        _check_instance([payload])
        return Received(svix_id, Outcome.NOT_READ)
    delivery = _Delivery(svix_id, event, payload, effect, vouched)
    try:
        arriving.submit(delivery, key=effect.clerk_id, wait=LOCK_SECONDS)
        return Received(svix_id, Outcome.TAKEN)
    except TurnNotReached:
        error = OTHERS
    except OperationalError as problem:
        locks.raise_unless_locked(problem)
        error = OTHERS
    except (InterfaceError, InstanceUnknown, OtherInstance):  # no connection, or not surely ours
        raise
    except Exception as problem:
        error = _error_text(svix_id, problem)
    return _keep_waiting(svix_id, payload, error)


def _process(deliveries: list[_Delivery]) -> None:
    """Record deliveries about different accounts and apply those that are new, all or none."""
    with transaction.atomic(durable=True):
        ours = _check_instance(one.payload for one in deliveries)
        if ours is None and not all(one.vouched for one in deliveries):
            raise InstanceUnknown(NO_INSTANCE)
        new = _record(deliveries)
        if effects := [one.effect for one in deliveries if one.svix_id in new]:
            events.apply(effects)


def _is_of_one_delivery(problem: BaseException) -> bool:
    """Return whether one delivery may have failed a batch, so that the others are tried alone."""
    return not isinstance(problem, OperationalError | InterfaceError)


arriving = GroupCommit(_process, alone=_is_of_one_delivery)
"""The deliveries that arrive at this process."""


def _type_of(payload: object) -> str:
    """Return the type of an event. Raises `Unusable` for a payload without type or data."""
    if not isinstance(payload, dict) or not isinstance(payload.get("type"), str):
        raise Unusable("it is not an event: it has no type")
    if not isinstance(payload.get("data"), dict):
        raise Unusable("it is not an event: it has no data")
    return str(payload["type"])


def _keep_unusable(svix_id: str, payload: object, reason: str) -> Received:
    _keep(svix_id, payload, reason, again=False)
    return Received(svix_id, Outcome.UNUSABLE, reason)


def _keep_waiting(svix_id: str, payload: object, error: str) -> Received:
    _keep(svix_id, payload, error, again=True)
    return Received(svix_id, Outcome.WAITING, error)


def _error_text(svix_id: str, problem: Exception) -> str:
    """Return an error text that names only the type of the exception.

    The exception's own text may contain personal data.
    """
    logger.exception("Delivery %s failed", svix_id)
    return f"It failed with {type(problem).__name__}: the log says where."


def _record(deliveries: Sequence[_Delivery]) -> set[str]:
    """Record deliveries as processed; return the ids of those that were not known already.

    If the same delivery arrives at another process at the same time, that process waits here for
    the transaction of the first. The ids are sorted, so that two such batches cannot wait for each
    other. The statement also limits how long the transaction waits for locks.
    """
    each = {one.svix_id: one for one in deliveries}
    types = [one.type for one in each.values()]
    clerk_ids = [one.effect.clerk_id for one in each.values()]
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO users_webhookdelivery AS known
                (svix_id, type, clerk_id, received_at, processed_at, error, attempts)
            SELECT arrived.svix_id, arrived.type, arrived.clerk_id, now(), now(), '', 1
            FROM unnest(%s::text[], %s::text[], %s::text[]) AS arrived (svix_id, type, clerk_id)
            ORDER BY 1
            ON CONFLICT (svix_id) DO UPDATE
            SET processed_at = now(), error = '', payload = NULL, attempts = known.attempts + 1,
                clerk_id = excluded.clerk_id
            WHERE known.payload IS NOT NULL
            RETURNING svix_id, set_config('lock_timeout', %s, true)
            """,
            [list(each), types, clerk_ids, f"{LOCK_SECONDS}s"],
        )
        return {svix_id for svix_id, _ in cursor.fetchall()}


def _keep(svix_id: str, payload: object, error: str, *, again: bool) -> None:
    """Store a delivery that was not applied; `again` says whether it is tried again."""
    named = payload.get("type") if isinstance(payload, dict) else None
    event = named if isinstance(named, str) and named in events.EFFECTS else ""
    payload = "null" if payload is None else payload
    try:
        _store(svix_id, event, _storable(payload), error, again=again)
    except RecursionError:
        _store(svix_id, event, "nested too deeply to be kept", error, again=again)


def _store(svix_id: str, event: str, payload: object, error: str, *, again: bool) -> None:
    delivery, created = WebhookDelivery.objects.get_or_create(
        pk=svix_id,
        defaults={
            "type": event,
            "clerk_id": events.user_of(payload),
            "payload": payload,
            "error": error,
            "attempts": 1,
            "processed_at": None if again else Now(),
        },
    )
    if not created and delivery.payload is not None:
        delivery.payload, delivery.error = payload, error
        delivery.processed_at = None if again else timezone.now()
        delivery.attempts += 1
        delivery.save(update_fields=["payload", "error", "processed_at", "attempts"])


def _storable(payload: object) -> object:
    """Replace the values that JSON allows and PostgreSQL's `jsonb` does not.

    These are NUL, half a surrogate pair, and numbers that are infinite in Python.
    """
    text = json.dumps(payload, ensure_ascii=False).replace("\\u0000", "\\ufffd")
    return json.loads(text.encode(errors="replace"), parse_constant=str)


def forget_old(days: int = 30) -> int:
    """Delete deliveries that were processed more than `days` days ago; return how many records.

    Clerk does not send an event again after 28 hours.
    """
    old = timezone.now() - timedelta(days=days)
    return WebhookDelivery.objects.filter(processed_at__lt=old).delete()[0]
