"""Deliveries of events: each is recorded once, and kept until it has taken effect."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from users.models import WebhookDelivery
from users.sync import locks
from users.sync.inbound.events import EFFECTS, Payload, Unusable

logger = logging.getLogger(__name__)

LOCK_SECONDS = 3
"""How long an event waits for others that are decided at the moment; Clerk waits 15 s."""


@dataclass(frozen=True)
class Received:
    """What became of a delivery: `done`, or kept with `error` for another try."""

    svix_id: str
    done: bool
    error: str = ""


def receive(svix_id: str, payload: Payload) -> Received:
    """Record a delivery and its effect in one transaction; a known one does nothing.

    What fails is kept with its payload and error for `retry`. Raises `Unusable` before anything
    is recorded, and `OperationalError` or `InterfaceError` when the database does not answer:
    Clerk sends it again.
    """
    event = str(payload["type"])
    effect = EFFECTS[event](payload)
    try:
        with transaction.atomic(durable=True):
            if _record(svix_id, event):
                effect.happen()
        return Received(svix_id, done=True)
    except OperationalError as problem:
        locks.raise_unless_locked(problem)
        error = "Others are being decided right now."
    except InterfaceError:  # no connection
        raise
    except Exception as problem:
        error = _named(svix_id, problem)
    _keep(svix_id, event, payload, error)
    return Received(svix_id, done=False, error=error)


def retry(svix_ids: list[str] | None = None) -> list[Received]:
    """Try kept deliveries once more, oldest first: the named ones, else all."""
    waiting = WebhookDelivery.objects.filter(processed_at=None, payload__isnull=False)
    if svix_ids is not None:
        waiting = waiting.filter(pk__in=svix_ids)
    results = []
    for delivery in waiting.order_by("received_at").only("svix_id", "payload"):
        try:
            results.append(receive(delivery.svix_id, delivery.payload))
        except Unusable as error:
            results.append(Received(delivery.svix_id, done=False, error=str(error)))
    return results


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
            WHERE known.processed_at IS NULL
            RETURNING set_config('lock_timeout', %s, true)
            """,
            [svix_id, event, f"{LOCK_SECONDS}s"],
        )
        return cursor.fetchone() is not None


def _keep(svix_id: str, event: str, payload: Payload, error: str) -> None:
    delivery, created = WebhookDelivery.objects.get_or_create(
        pk=svix_id,
        defaults={"type": event, "payload": payload, "error": error, "attempts": 1},
    )
    if not created and delivery.processed_at is None:
        delivery.payload, delivery.error = payload, error
        delivery.attempts += 1
        delivery.save(update_fields=["payload", "error", "attempts"])


def forget_old(days: int = 30) -> int:
    """Delete deliveries that were processed long ago; Clerk sends none again after 28 hours."""
    old = timezone.now() - timedelta(days=days)
    return WebhookDelivery.objects.filter(processed_at__lt=old).delete()[0]
