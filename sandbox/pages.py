"""Render the sandbox's pages: the templates and their shared filters."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sandbox.person import GOOGLE
from sandbox.state import Json

_HERE = Path(__file__).parent

STYLE = (_HERE / "static" / "style.css").read_bytes()


def render(template: str, /, **context: Any) -> str:
    """Return the rendered page. All values in it are escaped."""
    return _TEMPLATES.get_template(template).render(context)


def _moment(milliseconds: int) -> datetime | None:
    """Return the time in UTC. Return None if it is outside the calendar."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _email(user: Json) -> str:
    for email in user["email_addresses"]:
        if email["id"] == user["primary_email_address_id"]:
            return str(email["email_address"])
    return "no email"


def _name(user: Json) -> str:
    return f"{user['first_name'] or ''} {user['last_name'] or ''}".strip() or _email(user)


def _has_google(user: Json) -> bool:
    return any(account["provider"] == GOOGLE for account in user["external_accounts"])


def _json(data: Json, indent: int | None = None) -> str:
    return json.dumps(data, indent=indent, ensure_ascii=False)


def _step(text: str) -> str:
    """Return `text` quoted for one segment of a path."""
    return quote(text, safe="")


def _words(code: str) -> str:
    return code.replace("_", " ")


_TEMPLATES = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {
    "email": _email,
    "has_google": _has_google,
    "json": _json,
    "moment": _moment,
    "name": _name,
    "step": _step,
    "words": _words,
}
