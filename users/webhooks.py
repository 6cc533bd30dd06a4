"""Clerk's events, sent through Svix: verify, record, hand to `users.sync.deliveries`.

| answer | when |
|---|---|
| 200 | taken, known already, of a type that we do not read, or kept for another try |
| 400 | not signed by Clerk, out of time, or no event |
| 405, 413 | not POST; more than 1 MiB |
| 503 | the database does not answer: Clerk sends it again |
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from standardwebhooks.webhooks import Webhook

from users.sync import deliveries
from users.sync.inbound import events

logger = logging.getLogger(__name__)

MAX_BODY = 2**20
HEADERS = ("id", "timestamp", "signature")
MAX_ID = 200


class NotAnEvent(Exception):
    """Not signed by Clerk, or not of the shape of an event. The text is ours, and safe to log."""


@csrf_exempt  # the signature is what proves the sender
@require_POST
def clerk_webhook(request: HttpRequest) -> HttpResponse:
    try:
        payload = _verified(request)
        if payload["type"] not in events.EFFECTS:
            return _answer("not read", 200)
        received = deliveries.receive(request.headers["svix-id"], payload)
    except (NotAnEvent, events.Unusable) as error:
        logger.warning("A webhook was refused: %s", error)
        return _answer(str(error), 400)
    except RequestDataTooBig:
        return _answer("more than 1 MiB", 413)
    except (DatabaseError, InterfaceError) as error:
        logger.error("A webhook was not taken: %s", type(error).__name__)
        connection.close()
        return _answer("the database does not answer; send it again", 503)
    return _answer("ok" if received.done else "kept for another try", 200)


def _verified(request: HttpRequest) -> Mapping[str, Any]:
    """The event of a request that Clerk signed within the last five minutes."""
    try:
        if int(request.headers.get("Content-Length") or 0) > MAX_BODY:
            raise RequestDataTooBig
        # The library reads the headers of the standard; Svix calls them by its own name.
        headers = {f"webhook-{name}": request.headers[f"svix-{name}"] for name in HEADERS}
        payload = Webhook(settings.CLERK_WEBHOOK_SIGNING_SECRET).verify(request.body, headers)
    except (RequestDataTooBig, UnreadablePostError):
        raise
    except Exception as error:  # ValueError, TypeError, RecursionError among others (FACTS §4)
        raise NotAnEvent(
            f"no valid signature ({type(error).__name__}). "
            "Is CLERK_WEBHOOK_SIGNING_SECRET that of the endpoint, and the clock right?"
        ) from None
    if not isinstance(payload, dict) or not isinstance(payload.get("data"), dict):
        raise NotAnEvent("not an event")
    if not isinstance(payload.get("type"), str) or len(headers["webhook-id"]) > MAX_ID:
        raise NotAnEvent("not an event")
    return payload


def _answer(text: str, status: int) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain")
