"""The front end, as tests play it: a page of one origin, whose people have session tokens."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from sandbox import Sandbox
from tests.support.factories import linked
from users.models import BuilderUser

ORIGIN = "https://app.example.com"


def administrator(sandbox: Sandbox, **fields: Any) -> BuilderUser:
    """An active internal Administrator."""
    role = {"role": "ADMIN", "internal_role": "Administrator", "name": "Ann Lee"}
    return linked(sandbox, **(role | fields))


def token_of(sandbox: Sandbox, person: BuilderUser | str, **options: Any) -> str:
    clerk_id = person if isinstance(person, str) else str(person.clerk_id)
    return sandbox.session_token(clerk_id, **({"azp": ORIGIN} | options))


def claims_of(sandbox: Sandbox, person: BuilderUser) -> dict[str, Any]:
    """What a valid token of the person says, to be changed and signed anew."""
    import jwt

    return jwt.decode(token_of(sandbox, person), options={"verify_signature": False})


def ask(
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str = "",
    raw: bytes | None = None,
    content_type: str = "application/json",
    client: Client | None = None,
    **headers: str,
):
    """One request as `fetch` sends it; a repeated word of the headers' names has "_" for "-"."""
    if raw is None:
        raw = b"" if body is None else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    browser = client or Client(enforce_csrf_checks=True)
    return browser.generic(method, f"/api/{path}", raw, content_type=content_type, headers=sent)


def rename(token: str, user: BuilderUser | str, **updates: Any):
    """What the front end sends to change somebody's account."""
    clerk_id = user if isinstance(user, str) else user.clerk_id
    return ask("POST", "update-clerk-user", {"clerkId": clerk_id, "updates": updates}, token=token)


def edit(token: str, user: BuilderUser, **fields: Any):
    return ask("PATCH", f"users/{user.pk}", fields, token=token)
