"""Deliveries of events: each is recorded once, and kept until it has taken effect."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from users.errors import CascadeError
from users.models import WebhookDelivery, WebhookRefusal
from users.sync.inbound import events
from users.sync.inbound.events import Unusable
from users.sync.outbound import locks

logger = logging.getLogger(__name__)

LOCK_SECONDS = 3
"""How long an event waits for others that are decided at the moment; Clerk waits 15 s."""

PAUSE = timedelta(seconds=10)
"""How long a refusal of what is not signed stands before the next one takes its place."""
INSTANCE_ID = re.compile(r"ins_\w{1,100}\Z", re.ASCII)


class Outcome(StrEnum):
    """What became of a delivery, as Clerk is answered."""

    TAKEN = "ok"
    NOT_READ = "not read"
    WAITING = "kept for another try"
    UNUSABLE = "cannot be applied"


@dataclass(frozen=True)
class Received:
    """What became of a delivery; `error` says why it is kept."""

    svix_id: str
    outcome: Outcome
    error: str = ""

    @property
    def done(self) -> bool:
        return self.outcome in (Outcome.TAKEN, Outcome.NOT_READ)

    @property
    def answer(self) -> str:
        """What Clerk is answered."""
        unusable = self.outcome is Outcome.UNUSABLE
        return f"{self.outcome}: {self.error}" if unusable else str(self.outcome)

    @property
    def report(self) -> str:
        """What people are told."""
        return self.error if self.outcome is Outcome.WAITING else self.answer


class OtherInstance(CascadeError):
    """The event is of another Clerk instance: none of its people are ours."""


def receive(svix_id: str, body: bytes) -> Received:
    """Record a delivery that Clerk signed, and its effect, in one transaction; a known one does
    nothing.

    What fails is kept with its payload and error for `retry`. What can never take effect is kept
    with its reason. Raises `OtherInstance`, and `OperationalError` or `InterfaceError` when the
    database does not answer: Clerk sends it again.
    """
    try:
        payload = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return _keep_unusable(svix_id, body.decode(), "the body is signed, but it is not JSON")
    _check_instance(payload)
    return _apply(svix_id, payload)


def retry(svix_ids: list[str] | None = None) -> list[Received]:
    """Try kept deliveries once more, oldest first: the named ones, else all that wait."""
    kept = WebhookDelivery.objects.filter(payload__isnull=False)
    kept = kept.filter(processed_at=None) if svix_ids is None else kept.filter(pk__in=svix_ids)
    return [
        _apply(delivery.svix_id, delivery.payload)
        for delivery in kept.order_by("received_at").only("svix_id", "payload")
    ]


def unusable() -> QuerySet[WebhookDelivery]:
    """Give the deliveries that can never take effect, the newest first."""
    return WebhookDelivery.objects.filter(processed_at__isnull=False, payload__isnull=False)


def note_refused(reason: str, *, signed: bool) -> None:
    """Remember the last refusal in place of the one before.

    Anybody can send what is not signed: at most every ten seconds one of these is written, and
    none takes the place of a refusal that was signed.
    """
    last = WebhookRefusal.objects.filter(signed=signed)
    if signed or not last.filter(refused_at__gt=Now() - PAUSE).exists():
        WebhookRefusal.objects.update_or_create(
            signed=signed, defaults={"reason": reason, "refused_at": Now()}
        )


def last_refused() -> list[WebhookRefusal]:
    """Give when and why an event was refused last, the newest first: at most one that Clerk
    signed, of another instance, and one without a valid signature."""
    return list(WebhookRefusal.objects.order_by("-refused_at"))


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _check_instance(payload: Any) -> None:
    """Raise `OtherInstance` unless the event names the remembered instance."""
    ours = _our_instance()
    named = payload.get("instance_id") if isinstance(payload, dict) else None
    if ours is None or named == ours:
        return
    known = isinstance(named, str) and INSTANCE_ID.match(named)
    reason = (
        f"It is of {f'the Clerk instance {named}' if known else 'no Clerk instance'}; the one of "
        f"our users is {ours}. Is the endpoint set up in the right instance?"
    )
    note_refused(reason, signed=True)
    raise OtherInstance(reason)


def _our_instance() -> str | None:
    # In SQL: events come by the thousand, and Django takes longer to make the query.
    with connection.cursor() as cursor:
        cursor.execute("SELECT instance_id FROM users_rememberedinstance")
        found = cursor.fetchone()
    return found[0] if found else None


def _apply(svix_id: str, payload: Any) -> Received:
    try:
        event = _type_of(payload)
        if event not in events.EFFECTS:
            return Received(svix_id, Outcome.NOT_READ)
        effect = events.EFFECTS[event](payload)
    except Unusable as reason:
        return _keep_unusable(svix_id, payload, str(reason))
    try:
        with transaction.atomic(durable=True):
            if _record(svix_id, event):
                effect.happen()
        return Received(svix_id, Outcome.TAKEN)
    except OperationalError as problem:
        locks.raise_unless_locked(problem)
        error = "Others are being decided right now."
    except InterfaceError:  # no connection
        raise
    except Exception as problem:
        error = _named(svix_id, problem)
    _keep(svix_id, event, payload, error, again=True)
    return Received(svix_id, Outcome.WAITING, error)


def _type_of(payload: Any) -> str:
    """Give the type of an event. Raises `Unusable` for what has not the shape of one."""
    if not isinstance(payload, dict) or not isinstance(payload.get("type"), str):
        raise Unusable("it is not an event: it has no type")
    if not isinstance(payload.get("data"), dict):
        raise Unusable("it is not an event: it has no data")
    return str(payload["type"])


def _keep_unusable(svix_id: str, payload: Any, reason: str) -> Received:
    event = payload.get("type") if isinstance(payload, dict) else None
    known = event if isinstance(event, str) and event in events.EFFECTS else ""
    _keep(svix_id, known, "null" if payload is None else payload, reason, again=False)
    return Received(svix_id, Outcome.UNUSABLE, reason)


def _named(svix_id: str, problem: Exception) -> str:
    """The kind of the problem alone: its text may hold somebody's data."""
    logger.exception("Delivery %s failed", svix_id)
    return f"It failed with {type(problem).__name__}: the log says where."


def _record(svix_id: str, event: str) -> bool:
    """Note the delivery as processed; False when it is known already.

    A copy of the delivery that arrives at the same time waits here for the first one's
    transaction. Locks are waited for a while.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO users_webhookdelivery AS known
                (svix_id, type, received_at, processed_at, error, attempts)
            VALUES (%s, %s, now(), now(), '', 1)
            ON CONFLICT (svix_id) DO UPDATE
            SET processed_at = now(), error = '', payload = NULL, attempts = known.attempts + 1
            WHERE known.payload IS NOT NULL
            RETURNING set_config('lock_timeout', %s, true)
            """,
            [svix_id, event, f"{LOCK_SECONDS}s"],
        )
        return cursor.fetchone() is not None


def _keep(svix_id: str, event: str, payload: Any, error: str, *, again: bool) -> None:
    """Keep a delivery that has not taken effect, to be tried `again` or not."""
    try:
        _store(svix_id, event, _storable(payload), error, again=again)
    except RecursionError:
        _store(svix_id, event, "nested too deeply to be kept", error, again=again)


def _store(svix_id: str, event: str, payload: Any, error: str, *, again: bool) -> None:
    delivery, created = WebhookDelivery.objects.get_or_create(
        pk=svix_id,
        defaults={
            "type": event,
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


def _storable(payload: Any) -> Any:
    """Replace what JSON can hold and PostgreSQL's cannot: NUL, half a surrogate pair, and
    numbers that are infinite in Python."""
    text = json.dumps(payload, ensure_ascii=False).replace("\\u0000", "\\ufffd")
    return json.loads(text.encode(errors="replace"), parse_constant=str)


def forget_old(days: int = 30) -> int:
    """Delete deliveries that were processed long ago; Clerk sends none again after 28 hours."""
    old = timezone.now() - timedelta(days=days)
    return WebhookDelivery.objects.filter(processed_at__lt=old).delete()[0]
