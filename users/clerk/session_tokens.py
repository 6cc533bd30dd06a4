"""Who sends a request: Clerk signs a token for the session of each person, and its public key
proves that without asking Clerk.

The token lives for a minute. So a ban, which ends the sessions, takes that long to show here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clerk_backend_api.security.authenticaterequest import authenticate_request
from clerk_backend_api.security.types import AuthenticateRequestOptions
from django.conf import settings

from users.ids import SESSION_ID, USER_ID

EXPIRED = "token-expired"
LONGEST = 600
"""Seconds that a session token may live. Clerk's live for a minute; those of its JWT templates,
which are for third parties, for as long as somebody has set."""


class NotSignedIn(Exception):
    """The request proves nobody. The text is for the person; `reason` is safe to log."""

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


def configured() -> bool:
    """Whether tokens can be verified, and the pages that may ask for them are known."""
    return bool(settings.CLERK_JWT_KEY and settings.CORS_ALLOWED_ORIGINS)


def clerk_id_of(authorization: str) -> str:
    """Give the Clerk id of the person whose token the header `Authorization` holds.

    Raises `NotSignedIn`. A session cookie counts for nothing: browsers send cookies unasked.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotSignedIn("Sign in first.", reason="no token")
    claims = _claims(token.strip())
    if refusal := _refusal(claims):
        raise NotSignedIn("This session does not allow this. Sign in again.", reason=refusal)
    return str(claims["sub"])


def _claims(token: str) -> Mapping[str, Any]:
    """Verify signature, times and origin. Raises `NotSignedIn`."""
    options = AuthenticateRequestOptions(
        jwt_key=settings.CLERK_JWT_KEY,
        authorized_parties=settings.CORS_ALLOWED_ORIGINS,
        accepts_token=["session_token"],  # the SDK would ask Clerk about the other types
    )
    try:
        state = authenticate_request(_Headers(token), options)
    except Exception as error:  # a malformed token must not become an error of the server
        raise NotSignedIn(
            "This session is not valid. Sign in again.", reason=type(error).__name__
        ) from None
    if state.is_signed_in and state.payload is not None:
        return state.payload
    reason = state.reason.value[0] if state.reason else "unknown"
    ended = "has expired" if reason == EXPIRED else "is not valid"
    raise NotSignedIn(f"This session {ended}. Sign in again.", reason=reason)


def _refusal(claims: Mapping[str, Any]) -> str:
    """Say why a token that Clerk signed is not taken, which the SDK does not look at; "" if it
    is."""
    if not SESSION_ID.match(str(claims.get("sid", ""))):
        return "it is of no session"
    if "exp" not in claims:
        return "it never expires"
    if "iat" not in claims or claims["exp"] - claims["iat"] > LONGEST:
        return "it lives too long"
    if claims.get("sts", "active") != "active":
        return "the sign-in is not finished"
    if "act" in claims:
        return "somebody else acts as this person"
    if not isinstance(claims.get("sub"), str) or not USER_ID.match(claims["sub"]):
        return "it names no user"
    return ""


class _Headers:
    """A request of which the SDK sees the token alone."""

    def __init__(self, token: str) -> None:
        self.headers = {"Authorization": f"Bearer {token}"}
