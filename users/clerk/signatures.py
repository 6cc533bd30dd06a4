"""Verify that Clerk sent a delivery. Svix signs it, by the scheme of Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from math import floor

from django.conf import settings
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

HEADERS = ("id", "timestamp", "signature")
MAX_ID = 200


class NotSigned(Exception):
    """The delivery is not signed by Clerk within the last five minutes. The text is safe to log.

    `claimed` is False if the sender did not even send a signature.
    """

    def __init__(self, text: str, *, claimed: bool) -> None:
        super().__init__(text)
        self.claimed = claimed


def secrets() -> list[str]:
    """Return the secrets that may sign a delivery: several while an endpoint changes."""
    return [secret.strip() for secret in settings.CLERK_WEBHOOK_SIGNING_SECRET.split(",")]


def check(body: bytes, headers: Mapping[str, str]) -> str:
    """Return the id of a delivery that one of our secrets has signed.

    Raises `NotSigned`.
    """
    # The library reads the standard's headers; Svix uses other names for them.
    named = {f"webhook-{name}": headers.get(f"svix-{name}", "") for name in HEADERS}
    if not all(named.values()):
        raise NotSigned("it has no signature", claimed=False)
    if len(named["webhook-id"]) > MAX_ID:
        raise NotSigned("its svix-id is too long", claimed=False)
    reasons = [_reason(secret, body, named) for secret in secrets()]
    if all(reasons):
        raise NotSigned(
            f"no valid signature ({reasons[0]}). Is CLERK_WEBHOOK_SIGNING_SECRET that of the "
            "endpoint, and the clock right?",
            claimed=True,
        )
    return named["webhook-id"]


class _SignedBytes(Webhook):
    """Verify the bytes as they were sent; the library decodes a body before it verifies it."""

    def __init__(self, secret: str, body: bytes) -> None:
        super().__init__(secret)
        self._body = body

    def sign(self, msg_id: str, timestamp: datetime, data: str) -> str:
        """Return the signature of the body; `data` is not used."""
        signed = f"{msg_id}.{floor(timestamp.timestamp())}.".encode() + self._body
        digest = hmac.new(self._whsecret, signed, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(digest).decode()}"


def _reason(secret: str, body: bytes, headers: dict[str, str]) -> str:
    """Say why this secret has not signed the body; "" if it has."""
    try:
        _SignedBytes(secret, body).verify("", headers, json_parse=False)
    except WebhookVerificationError as error:
        return str(error)
    except Exception as error:  # ValueError and TypeError among others, for malformed headers
        return type(error).__name__
    return ""
