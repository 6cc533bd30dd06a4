"""A member of staff who signs in with a password, and perhaps a code."""

from __future__ import annotations

import re
from base64 import b32decode

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from django_otp.oath import TOTP

from staff.hashers import Argon2Hasher
from staff.models import SignInEvent

LOGIN = "/admin/login/"
PASSWORD = "correct horse battery staple"
HOME = "203.0.113.7"
hashed: list[str] = []
PAGE, CODE = "/admin/two-step/", "/admin/code/"


class CountingHasher(Argon2Hasher):
    """Argon2 that says how often it was asked, and costs the tests little."""

    time_cost, memory_cost = 1, 64

    def encode(self, password, salt):
        hashed.append("encode")
        return super().encode(password, salt)

    def verify(self, password, encoded):
        hashed.append("verify")
        return super().verify(password, encoded)


def with_password(user: User, password: str = PASSWORD) -> User:
    """The same member of staff, who can sign in with this password."""
    user.set_password(password)
    user.save()
    return user


def browser(address=HOME) -> Client:
    return Client(REMOTE_ADDR=address)


def sign_in(client: Client, username="sam", password=PASSWORD, **extra):
    return client.post(
        LOGIN, {"username": username, "password": password, "next": "/admin/"}, **extra
    )


def text_of(response) -> str:
    return response.content.decode()


def is_signed_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def outcomes(**filters) -> list[str]:
    return list(
        SignInEvent.objects.filter(**filters).order_by("pk").values_list("outcome", flat=True)
    )


class App:
    """An authenticator app that has scanned the page."""

    def __init__(self, page) -> None:
        secret = re.search(r'class="key">([A-Z2-7 ]+)<', text_of(page))[1].replace(" ", "")
        self.totp = TOTP(b32decode(secret))
        self.scanned = timezone.now().timestamp()

    def code(self, *, later: int = 0) -> str:
        """The code of the scan, or of some steps of 30 seconds later: each is accepted once.

        Not of now: if the next step began since then, that would be one more than accepted.
        """
        self.totp.time = self.scanned + 30 * later
        return f"{self.totp.token():06d}"


def codes_on(page) -> list[str]:
    return re.findall(r"<code>([a-z0-9-]+)</code>", text_of(page))


def turn_on(client: Client) -> tuple[App, list[str]]:
    app = App(client.get(PAGE))
    page = client.post(PAGE, {"code": app.code()})
    assert "Keep these codes" in text_of(page)
    return app, codes_on(page)
