"""Sign in through the company's OpenID provider: the protocol (code flow with PKCE).

Authlib checks signature, audience, expiry and nonce of the ID token. This module adds three rules.
The issuer must be the configured one, whatever the provider's metadata says. Signatures must be
asymmetric. Each call has a timeout of `TIMEOUT` seconds.
"""

from __future__ import annotations

import hmac
import threading
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
MOST_WAITING = 4
"""How many threads of a process may wait for the provider at once.

Anybody may start a sign-in. While the provider hangs, the other threads serve who is signed in.
"""
SIGNATURES = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]


_waiting = threading.BoundedSemaphore(MOST_WAITING)


class ProviderFailed(Exception):
    """The provider did not prove who the person is. The text is for the log, not for the page."""


@dataclass(frozen=True)
class Identity:
    """What the provider states about a person.

    Issuer and subject identify the account. The email does not.
    """

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
"""Exceptions that Authlib raises if an answer is missing, incomplete or wrong."""


class _App(DjangoOAuth2App):
    def load_server_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = super().load_server_metadata()
        if metadata.get("issuer") != settings.OIDC_ISSUER:
            raise ProviderFailed("The provider does not call itself OIDC_ISSUER.")
        # A provider may also list "none", or HS256, which signs with the client's secret.
        metadata["id_token_signing_alg_values_supported"] = SIGNATURES
        return metadata


def is_configured() -> bool:
    """Return whether `OIDC_ISSUER` is set."""
    return bool(settings.OIDC_ISSUER)


def start(request: HttpRequest, *, back: str) -> HttpResponse:
    """Redirect the browser to the provider.

    A signed cookie stores the attempt, and no session does: a stranger must not be able to fill the
    table of sessions. `back` is the address to return to after the sign-in.

    Raises `ProviderFailed` if the provider's metadata cannot be read.
    """
    callback = request.build_absolute_uri(reverse("staff_company_callback"))
    with _asking():
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
        samesite="Lax",  # the browser must send it after the provider's redirect
    )
    return response


def forget(response: HttpResponse) -> HttpResponse:
    """Delete the cookie of an attempt, so that it can be used only once."""
    response.delete_cookie(COOKIE, path=reverse("staff_company_callback"), samesite="Lax")
    return response


def remembered(request: HttpRequest) -> dict[str, str]:
    """Return what `start` stored for this browser and this answer of the provider.

    Raises `ProviderFailed` if the browser has no valid cookie or the state does not match.
    """
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
    """Exchange the code for an ID token, and return the identity in it.

    Raises `ProviderFailed` if the provider does not answer or the token is not valid.
    """
    app = _app()
    with _asking():
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
def _asking() -> Iterator[None]:
    """Let few threads wait for the provider, and translate the exceptions of Authlib.

    Raises `ProviderFailed`. Then also the cached metadata are forgotten: the provider may have new
    keys or addresses.
    """
    if not _waiting.acquire(blocking=False):
        raise ProviderFailed(f"{MOST_WAITING} other sign-ins wait for the provider.")
    try:
        yield
    except ProviderFailed:
        _app_of.cache_clear()
        raise
    except _FAILURES as error:
        _app_of.cache_clear()
        raise ProviderFailed(f"{type(error).__name__}: {error}") from error
    finally:
        _waiting.release()


def _app() -> _App:
    return _app_of(settings.OIDC_ISSUER, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET)


@lru_cache(maxsize=8)
def _app_of(issuer: str, client_id: str, client_secret: str) -> _App:
    """Cache the provider's metadata and keys.

    Authlib fetches the keys again if one is missing.
    """
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
    """Add the claims that some providers leave out of the ID token.

    The token decides who the person is. Raises `ProviderFailed` if the userinfo has another
    subject.
    """
    if userinfo.get("sub") != claims["sub"]:
        raise ProviderFailed("The userinfo is about somebody else.")
    return {**userinfo, **claims}


def _identity(claims: dict[str, Any]) -> Identity:
    groups = claims.get(settings.OIDC_GROUPS_CLAIM, []) if settings.OIDC_GROUPS_CLAIM else []
    email = str(claims.get("email") or "").strip()
    return Identity(
        issuer=settings.OIDC_ISSUER,
        subject=str(claims["sub"]),
        # The lower case of the Kelvin sign is an ordinary k, the letter of another mailbox.
        email=email.lower() if email.isascii() else email,
        email_verified=claims.get("email_verified") is True,
        groups=frozenset(map(str, groups if isinstance(groups, list) else [groups])),
    )
