"""Identify the person who sends a request, by a session token that Clerk signed.

Clerk's public key verifies the token, so Clerk is not asked. The token lives for a minute. So it
takes up to a minute until a ban, which ends the sessions, takes effect here.
"""

from __future__ import annotations

from typing import TypedDict, cast

from clerk_backend_api.security.authenticaterequest import authenticate_request
from clerk_backend_api.security.types import AuthenticateRequestOptions
from django.conf import settings

from users.ids import SESSION_ID, USER_ID

EXPIRED = "token-expired"
LONGEST = 600
"""The longest accepted lifetime of a token, in seconds.

Clerk's session tokens live for a minute. Tokens of its JWT templates are for third parties and can
live much longer."""


class NotSignedIn(Exception):
    """The request proves no person. The text is for the person; `reason` is safe to log."""

    def __init__(self, text: str, *, reason: str) -> None:
        super().__init__(text)
        self.reason = reason


def configured() -> bool:
    """Return whether tokens can be verified, and the pages that may send them are known."""
    return bool(settings.CLERK_JWT_KEY and settings.CORS_ALLOWED_ORIGINS)


def clerk_id_of(authorization: str) -> str:
    """Return the Clerk id of the person whose token the header `Authorization` holds.

    A session cookie does not count, because browsers send cookies unasked.

    Raises `NotSignedIn`.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotSignedIn("Sign in first.", reason="no token")
    claims = _claims(token.strip())
    if refusal := _refusal(claims):
        raise NotSignedIn("This session does not allow this. Sign in again.", reason=refusal)
    return str(claims["sub"])


class _Claims(TypedDict, total=False):
    """The claims of a session token that are read here."""

    sid: object
    sub: object
    sts: object
    act: object
    iat: float
    exp: float


def _claims(token: str) -> _Claims:
    """Verify the signature, the times and the origin, and return the claims.

    Raises `NotSignedIn`.
    """
    options = AuthenticateRequestOptions(
        jwt_key=settings.CLERK_JWT_KEY,
        authorized_parties=settings.CORS_ALLOWED_ORIGINS,
        accepts_token=["session_token"],  # the SDK would ask Clerk about the other types
    )
    try:
        state = authenticate_request(_Headers(token), options)
    except Exception as error:  # a malformed token must not cause a status of 500
        raise NotSignedIn(
            "This session is not valid. Sign in again.", reason=type(error).__name__
        ) from None
    if state.is_signed_in and state.payload is not None:
        return cast(_Claims, state.payload)
    reason = state.reason.value[0] if state.reason else "unknown"
    ended = "has expired" if reason == EXPIRED else "is not valid"
    raise NotSignedIn(f"This session {ended}. Sign in again.", reason=reason)


def _refusal(claims: _Claims) -> str:
    """Say why a token that Clerk signed is refused; "" if it is accepted.

    The SDK does not check these claims.
    """
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
    if not isinstance(subject := claims.get("sub"), str) or not USER_ID.match(subject):
        return "it names no user"
    return ""


class _Headers:
    """A request that shows the SDK only the token."""

    def __init__(self, token: str) -> None:
        self.headers = {"Authorization": f"Bearer {token}"}
