"""A request as the handlers see it, and the checks of parameters that many of them share."""

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
    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    body: dict[str, Any] | None = None
    version: str = "2026-05-12"
    status: int | None = None
    """The status that was answered, for the log; None when the connection was broken."""

    def one(self, name: str) -> str | None:
        values = self.many(name)
        return values[-1] if values else None

    def many(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]

    def number(self, name: str, default: int | None = None) -> int | None:
        text = self.one(name)
        if text is None or text == "":
            return default
        if not re.fullmatch(r"-?\d{1,15}", text):
            raise Refusal(422, invalid(name, f"{name} must be an integer."))
        return int(text)

    def flag(self, name: str) -> bool:
        text = self.one(name) or "false"
        if text not in ("true", "false"):
            raise Refusal(422, invalid(name, f"{name} must be true or false."))
        return text == "true"

    def page(self, found: list[dict[str, Any]]) -> Any:
        """The part of a list that is asked for; with `paginated`, and the total count."""
        limit, offset = self.limit_and_offset()
        part = found[offset : offset + limit]
        if self.flag("paginated"):
            return {"data": part, "total_count": len(found)}
        return part

    def limit_and_offset(self) -> tuple[int, int]:
        limit = self.number("limit", PAGE_DEFAULT) or PAGE_DEFAULT
        if not 1 <= limit <= PAGE_MAX:
            limit = PAGE_DEFAULT  # as observed: no error, ten rows
        return limit, max(self.number("offset", 0) or 0, 0)

    def fields(self, allowed: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
        """The body, with every unknown or mistyped field refused at once."""
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
    if fields.get(name) in (None, ""):
        raise Refusal(422, missing(name))
    return fields[name]


def email_address(text: Any, param: str = "email_address") -> str:
    if not isinstance(text, str) or not EMAIL.match(text) or len(text) > 254:
        raise Refusal(422, bad_email(param))
    return text.lower()


def metadata(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name) or {}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode("utf-8", "surrogatepass")) > METADATA_BYTES:
        text = f"{name} exceeds the maximum allowed size of {METADATA_BYTES} bytes."
        raise Refusal(
            422, problem("form_param_exceeds_allowed_size", "is too large", text, param=name)
        )
    return dict(value)
