"""Represent a request to the API, with the checks of parameters that many handlers share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.errors import Refusal, bad_email, invalid, missing, problem, unknown_param, wrong_type

PAGE_DEFAULT, PAGE_MAX = 10, 500
METADATA_BYTES = 8192
EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+\Z")


@dataclass
class Request:
    """A request to the Backend API. `path` starts after "/v1".

    The methods for parameters raise a 422 `Refusal` for a wrong value.
    """

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    body: dict[str, Any] | None = None
    version: str = "2026-05-12"
    status: int | None = None
    """The status of the answer, for the log. None if the connection was broken."""

    def one(self, name: str) -> str | None:
        """Return the last value of a query parameter, or None."""
        values = self.many(name)
        return values[-1] if values else None

    def many(self, name: str) -> list[str]:
        """Return all values of a query parameter."""
        return [value for key, value in self.query if key == name]

    def number(self, name: str, default: int | None = None) -> int | None:
        """Return an integer of the query. Raises `Refusal` for another text."""
        text = self.one(name)
        if text is None or text == "":
            return default
        if not re.fullmatch(r"-?\d{1,15}", text):
            raise Refusal(422, invalid(name, f"{name} must be an integer."))
        return int(text)

    def flag(self, name: str) -> bool:
        """Return a boolean of the query, false by default. Raises `Refusal` for another text."""
        text = self.one(name) or "false"
        if text not in ("true", "false"):
            raise Refusal(422, invalid(name, f"{name} must be true or false."))
        return text == "true"

    def page(self, found: list[dict[str, Any]]) -> Any:
        """Return the requested part of a list; with `paginated`, also the total count."""
        limit, offset = self.limit_and_offset()
        part = found[offset : offset + limit]
        if self.flag("paginated"):
            return {"data": part, "total_count": len(found)}
        return part

    def limit_and_offset(self) -> tuple[int, int]:
        """Return the size and the start of the page."""
        limit = self.number("limit", PAGE_DEFAULT) or PAGE_DEFAULT
        if not 1 <= limit <= PAGE_MAX:
            limit = PAGE_DEFAULT  # observed in Clerk: ten rows instead of an error
        return limit, max(self.number("offset", 0) or 0, 0)

    def fields(self, allowed: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
        """Return the body. Raises one `Refusal` for all unknown or mistyped fields."""
        body = self.body or {}
        problems = [unknown_param(name) for name in body if name not in allowed]
        problems += [
            wrong_type(name)
            for name, value in body.items()
            if name in allowed and value is not None and not isinstance(value, allowed[name])
        ]
        if problems:
            raise Refusal(422, *problems)
        return dict(body)


def required(fields: dict[str, Any], name: str) -> Any:
    """Return a field of the body. Raises `Refusal` if it is missing or empty."""
    if fields.get(name) in (None, ""):
        raise Refusal(422, missing(name))
    return fields[name]


def email_address(text: Any, param: str = "email_address") -> str:
    """Return an address in lower case. Raises `Refusal` if it is malformed."""
    if not isinstance(text, str) or not EMAIL.match(text) or len(text) > 254:
        raise Refusal(422, bad_email(param))
    return text.lower()


def metadata(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Return metadata of the body. Raises `Refusal` if it is larger than `METADATA_BYTES`."""
    value = fields.get(name) or {}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode("utf-8", "surrogatepass")) > METADATA_BYTES:
        text = f"{name} exceeds the maximum allowed size of {METADATA_BYTES} bytes."
        raise Refusal(
            422, problem("form_param_exceeds_allowed_size", "is too large", text, param=name)
        )
    return dict(value)
