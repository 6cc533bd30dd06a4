"""A small OpenID provider over loopback HTTP, with a signing key of its own.

It speaks the code flow with PKCE as the specification has it. A test says what the next ID token
holds, and which key signs it.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client

from tests.support.patience import PATIENCE
from tests.support.sign_in import browser

CLIENT_ID, CLIENT_SECRET = "cascade", "the-secret-of-the-client"
START = "/oidc/start/"
DID_NOT_WORK = "The company's sign-in did not work. Start it again from this page."


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Provider:
    def __init__(self) -> None:
        self._first_key = new_key()
        self.answers = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.reset()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        self.person: dict[str, Any] = {
            "sub": "sub-of-sam",
            "email": "sam@example.com",
            "email_verified": True,
        }
        self.userinfo: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.without: set[str] = set()
        self.published = self._first_key
        self.key: Any = self.published
        self.algorithm, self.kid = "RS256", "first"
        self.named_issuer = self.issuer
        self.secrets = {CLIENT_SECRET}
        self.down = False
        self.answers.set()  # it hangs while this is not set
        self.codes: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def sign_in(self, address: str) -> str:
        """Do what the browser and the person do: agree, and give the address to return to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        assert set(asked["scope"].split()) >= {"openid", "email"}
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def description(self) -> dict[str, Any]:
        return {
            "issuer": self.named_issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
        }

    def keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.published.public_key()))
        return {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "RS256"}]}

    def token(self, sent: dict[str, str]) -> dict[str, Any]:
        asked = self.codes.pop(sent["code"])
        digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
        assert sent["redirect_uri"] == asked["redirect_uri"]
        now = int(time.time())
        claims = {
            "iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], **self.person, **self.claims,
        }  # fmt: skip
        kept = {name: value for name, value in claims.items() if name not in self.without}
        signed = jwt.encode(kept, self.key, algorithm=self.algorithm, headers={"kid": self.kid})
        return {"access_token": "an-access-token", "token_type": "Bearer", "id_token": signed}


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path.startswith("/authorize?"):
                self._ask_the_person()
                return
            if self.path == "/favicon.ico":  # browsers ask for it
                self.send_error(404)
                return
            pages: dict[str, Callable[[], dict[str, Any]]] = {
                "/.well-known/openid-configuration": provider.description,
                "/keys": provider.keys,
                "/userinfo": lambda: {"sub": provider.person.get("sub"), **provider.userinfo},
            }
            self._answer(pages[self.path])

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            sent = {name: values[0] for name, values in parse_qs(body).items()}
            name, _, password = (
                base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic "))
                .decode()
                .partition(":")
            )
            assert name == CLIENT_ID
            if password not in provider.secrets:
                self._answer(lambda: {"error": "invalid_client"}, 401)
            elif sent.get("code") not in provider.codes:
                self._answer(lambda: {"error": "invalid_grant"}, 400)
            else:
                self._answer(lambda: provider.token(sent))

        def _ask_the_person(self) -> None:
            """Show a page of the provider, which leads a browser back."""
            back = html.escape(provider.sign_in(self.path))
            page = f"<!doctype html><title>Provider</title><a href='{back}'>Continue</a>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page.encode())

        def _answer(self, make: Callable[[], dict[str, Any]], status: int = 200) -> None:
            provider.requests.append(f"{self.command} {self.path}")
            provider.answers.wait(PATIENCE)
            body = json.dumps({} if provider.down else make()).encode()
            self.send_response(503 if provider.down else status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def sign_in(company: Provider, client: Client | None = None, **query):
    """Follow the link on the login, agree at the provider, and come back."""
    client = client or browser()
    back = company.sign_in(client.get(START, query)["Location"])
    parts = urlsplit(back)
    return client, client.get(f"{parts.path}?{parts.query}", follow=True)
