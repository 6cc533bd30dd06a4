"""Sign-in through the company's OpenID provider: the protocol (code flow with PKCE).

Authlib checks signature, audience, expiry and nonce of the ID token. What is added here: the
issuer must be the configured one, whatever the provider says of itself; signatures are
asymmetric; each call has a deadline.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.django_client import DjangoIntegration, DjangoOAuth2App
from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.debug import sensitive_variables
from joserfc.errors import JoseError

COOKIE, COOKIE_SECONDS = "company_sign_in", 600
TIMEOUT = 5.0
SIGNATURES = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]


class ProviderFailed(Exception):
    """The provider did not prove who somebody is. The text is for the log, not for the page."""


@dataclass(frozen=True)
class Identity:
    """What the provider vouches for. Issuer and subject identify the account, not the email."""

    issuer: str
    subject: str
    email: str
    email_verified: bool
    groups: frozenset[str]


_FAILURES = (
    requests.RequestException,
    AuthlibBaseError,
    JoseError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
)
"""What Authlib raises for an answer that is missing, incomplete or wrong."""


class _App(DjangoOAuth2App):
    def load_server_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = super().load_server_metadata()
        if metadata.get("issuer") != settings.OIDC_ISSUER:
            raise ProviderFailed("The provider does not call itself OIDC_ISSUER.")
        # A provider may list "none", and HS256, whose key is the client's secret.
        metadata["id_token_signing_alg_values_supported"] = SIGNATURES
        return metadata


def is_configured() -> bool:
    return bool(settings.OIDC_ISSUER)


def start(request: HttpRequest, *, back: str) -> HttpResponse:
    """Send the browser to the provider. A signed cookie remembers the attempt, not a session:
    nobody must fill a table by asking for this page."""
    callback = request.build_absolute_uri(reverse("staff_company_callback"))
    with _as_provider_failed():
        begun = _app().create_authorization_url(callback)
    response = HttpResponseRedirect(begun["url"])
    kept = {name: begun[name] for name in ("state", "nonce", "code_verifier")}
    response.set_cookie(
        COOKIE,
        signing.dumps({**kept, "callback": callback, "back": back}, salt=COOKIE),
        max_age=COOKIE_SECONDS,
        path=reverse("staff_company_callback"),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",  # the provider's redirect must bring it
    )
    return response


def forget(response: HttpResponse) -> HttpResponse:
    """Let an attempt be used once."""
    response.delete_cookie(COOKIE, path=reverse("staff_company_callback"), samesite="Lax")
    return response


def remembered(request: HttpRequest) -> dict[str, str]:
    """Give what `start` kept for this browser and this answer of the provider."""
    try:
        kept: dict[str, str] = signing.loads(
            request.COOKIES.get(COOKIE, ""), salt=COOKIE, max_age=COOKIE_SECONDS
        )
    except signing.BadSignature:
        raise ProviderFailed("This browser did not start the sign-in.") from None
    if not hmac.compare_digest(kept["state"].encode(), request.GET.get("state", "").encode()):
        raise ProviderFailed("The state is of another sign-in.")
    return kept


@sensitive_variables()
def identify(kept: dict[str, str], *, code: str) -> Identity:
    """Exchange the code for an ID token, and read who it is about."""
    app = _app()
    with _as_provider_failed():
        token = app.fetch_access_token(
            redirect_uri=kept["callback"], code=code, code_verifier=kept["code_verifier"]
        )
        claims = app.parse_id_token(
            token,
            nonce=kept["nonce"],
            claims_options={
                "iss": {"essential": True, "value": settings.OIDC_ISSUER},
                "aud": {"essential": True, "value": settings.OIDC_CLIENT_ID},
                "sub": {"essential": True},
            },
        )
        if not claims:
            raise ProviderFailed("The provider sent no ID token.")
        if _lacks(claims) and "userinfo_endpoint" in app.server_metadata:
            claims = _with_userinfo(claims, app.userinfo(token=token))
    return _identity(claims)


@contextmanager
def _as_provider_failed() -> Iterator[None]:
    """Translate what Authlib raises, and forget what the provider said of itself: it may have new
    keys or addresses."""
    try:
        yield
    except ProviderFailed:
        _app_of.cache_clear()
        raise
    except _FAILURES as error:
        _app_of.cache_clear()
        raise ProviderFailed(f"{type(error).__name__}: {error}") from error


def _app() -> _App:
    return _app_of(settings.OIDC_ISSUER, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET)


@lru_cache(maxsize=8)
def _app_of(issuer: str, client_id: str, client_secret: str) -> _App:
    """Keep the provider's description and keys. Authlib asks again for a key that it misses."""
    return _App(
        DjangoIntegration("company"),
        name="company",
        client_id=client_id,
        client_secret=client_secret,
        server_metadata_url=f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={
            "scope": settings.OIDC_SCOPES,
            "code_challenge_method": "S256",
            "default_timeout": TIMEOUT,
        },
    )


def _lacks(claims: dict[str, Any]) -> bool:
    groups = settings.OIDC_GROUPS_CLAIM
    return "email" not in claims or bool(groups and groups not in claims)


def _with_userinfo(claims: dict[str, Any], userinfo: dict[str, Any]) -> dict[str, Any]:
    """Add what some providers leave out of the ID token. The token decides who it is about."""
    if userinfo.get("sub") != claims["sub"]:
        raise ProviderFailed("The userinfo is about somebody else.")
    return {**userinfo, **claims}


def _identity(claims: dict[str, Any]) -> Identity:
    groups = claims.get(settings.OIDC_GROUPS_CLAIM, []) if settings.OIDC_GROUPS_CLAIM else []
    return Identity(
        issuer=settings.OIDC_ISSUER,
        subject=str(claims["sub"]),
        email=str(claims.get("email") or "").strip().lower(),
        email_verified=claims.get("email_verified") is True,
        groups=frozenset(map(str, groups if isinstance(groups, list) else [groups])),
    )
