"""The one function that says what an answer of Clerk means (DESIGN, "Errors").

It dispatches on the status, `code` and `meta.param_name`, never on text or on the SDK's
classes, which differ by operation (FACTS §3.1). Not understood means unknown outcome.

| answer | error |
|---|---|
| 2xx that cannot be read | `ClerkUnreadable`: a write did happen |
| 404 with the code `resource_not_found` | `ClerkNotFound` |
| 401, 402, 403 | `ClerkDenied` |
| 429 | `ClerkRateLimited` |
| 408, 499, a 404 that is not Clerk's | `ClerkUnknown`: something in between answered |
| any other 4xx | `ClerkRefused` |
| 1xx, 3xx, 5xx | `ClerkUnknown` |
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from users.errors import (
    ClerkDenied,
    ClerkError,
    ClerkNotFound,
    ClerkRateLimited,
    ClerkRefused,
    ClerkUnknown,
    ClerkUnreadable,
    Problem,
)

TEXT_LENGTH = 300
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_NOT_CLERKS = {408, 499}


def error_of(status: int, body: str | bytes, headers: Mapping[str, str]) -> ClerkError:
    """The error that an answer stands for. `headers` is a case-insensitive mapping."""
    data = _json(body)
    problems = _problems(data)
    trace_id = _trace_id(data, headers)
    if 200 <= status < 300:
        summary = "Clerk answered that it did it, but the answer cannot be read"
        return ClerkUnreadable(summary, status=status, trace_id=trace_id)
    if not 400 <= status < 500 or status in _NOT_CLERKS:
        return ClerkUnknown(_summary(status), status=status, problems=problems, trace_id=trace_id)
    details: dict[str, Any] = {"status": status, "problems": problems, "trace_id": trace_id}
    if status == 404:
        if problems and problems[0].code == "resource_not_found":
            return ClerkNotFound("Clerk does not have it", **details)
        return ClerkUnknown("Something other than Clerk answered with 404", **details)
    if status == 429:
        retry_after = _retry_after(headers.get("retry-after"))
        return ClerkRateLimited(
            "Clerk takes no more requests now", retry_after=retry_after, **details
        )
    if status in (401, 402, 403):
        return ClerkDenied(f"Clerk does not allow it ({status})", **details)
    return ClerkRefused(f"Clerk refused it ({status})", **details)


def _summary(status: int) -> str:
    if status >= 500:
        return f"Clerk has a problem of its own ({status})"
    return f"Something other than Clerk answered ({status})"


def _json(body: str | bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _problems(data: Any) -> tuple[Problem, ...]:
    errors = data.get("errors") if isinstance(data, dict) else None
    if not isinstance(errors, list):
        return ()
    return tuple(_problem(entry) for entry in errors if isinstance(entry, dict))


def _problem(entry: dict[str, Any]) -> Problem:
    meta = entry.get("meta")
    param = meta.get("param_name") if isinstance(meta, dict) else None
    text = _text(entry.get("long_message")) or _text(entry.get("message"))
    code = _text(entry.get("code")) or "unknown"
    return Problem(code=code, message=text or code, param=_text(param) or None)


def _text(value: Any) -> str:
    """A text of Clerk's that is safe to show, log and store."""
    if not isinstance(value, str):
        return ""
    readable = _CONTROL.sub(" ", value).encode("utf-8", "replace").decode()
    return readable.strip()[:TEXT_LENGTH]


def _trace_id(data: Any, headers: Mapping[str, str]) -> str:
    trace_id = data.get("clerk_trace_id") if isinstance(data, dict) else None
    return (_text(trace_id) or _text(headers.get("cf-ray")))[:100]


def _retry_after(value: str | None) -> float:
    """`Retry-After`: seconds or a date. Unreadable or missing: one second."""
    text = (value or "").strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 1.0
