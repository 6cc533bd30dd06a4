"""Deliveries of events: each is recorded once, and kept until it has taken effect."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from users.models import WebhookDelivery
from users.sync import inbound, locks
from users.sync.inbound import Effect, NotYet, Payload, Unusable

logger = logging.getLogger(__name__)


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
    effect = inbound.EFFECTS[event](payload)
    try:
        with transaction.atomic(durable=True):
            if _record(svix_id, event, effect):
                effect.happen()
        return Received(svix_id, done=True)
    except NotYet as reason:
        error = str(reason)
    except OperationalError as problem:
        locks.raise_unless_locked(problem)
        error = "This user is being saved right now."
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


def _record(svix_id: str, event: str, effect: Effect) -> bool:
    """Note the delivery as processed; False when there is nothing to do: it is known already, or
    our copy is of a later state and its link is decided.

    A copy of the delivery that arrives at the same time waits here for the first one's
    transaction. Other events of the account wait for this one: two first ones at once would
    each miss what the other links. Locks are waited for a while.
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
            RETURNING
                set_config('lock_timeout', %s, true),
                pg_advisory_xact_lock(hashtextextended(%s, 0)),
                NOT EXISTS (
                    SELECT FROM users_clerkaccount
                    WHERE clerk_id = %s AND clerk_updated_at > %s
                        AND (user_id IS NOT NULL OR released_at IS NOT NULL)
                )
            """,
            [
                svix_id,
                event,
                f"{inbound.LOCK_SECONDS}s",
                effect.clerk_id,
                effect.clerk_id,
                effect.at,
            ],
        )
        recorded = cursor.fetchone()
    return recorded is not None and recorded[2]


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
