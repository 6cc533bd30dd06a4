"""Decide what an answer from Clerk means.

The decision uses the status, `code` and `meta.param_name`. It never uses texts or the classes of
the SDK, which differ by operation. A 4xx is Clerk's own only if its body has `errors`, a list of
objects that each have a `code`. Every other 4xx comes from a proxy in between, which may have
passed the request on, so its outcome is unknown.

| answer | error |
|---|---|
| 2xx that cannot be read | `ClerkUnreadable`: a write has happened |
| 4xx that is not Clerk's own; 408, 499 | `ClerkUnknown` |
| 404 with the code `resource_not_found` | `ClerkNotFound` |
| 404 with another code | `ClerkUnknown`: the address is wrong |
| 401, 402 | `ClerkDeniedToAll` |
| 403 | `ClerkDenied`, or `ClerkDeniedToAll` by its code |
| 429 | `ClerkRateLimited` |
| any other 4xx | the class of its code in `REFUSALS`, else `ClerkRefused` |
| 1xx, 3xx, 5xx | `ClerkUnknown` |
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypedDict

from django.utils.translation import gettext as _

from users.errors import (
    ClerkAlreadyInvited,
    ClerkBusy,
    ClerkDenied,
    ClerkDeniedToAll,
    ClerkEmailTaken,
    ClerkError,
    ClerkInvitationAccepted,
    ClerkInvitationClosed,
    ClerkInvitationRevoked,
    ClerkNotFound,
    ClerkRateLimited,
    ClerkRefused,
    ClerkUnknown,
    ClerkUnreadable,
    Problem,
)

TEXT_LENGTH = 300
LONGEST_WAIT = 86_400.0
"""Seconds. Clerk's own longest limit is an hour; a longer `Retry-After` is a mistake."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_NOT_CLERKS = {408, 499}

NOT_FOUND = "resource_not_found"
REFUSALS: Mapping[str, type[ClerkRefused]] = {
    "form_identifier_exists": ClerkEmailTaken,
    "authorization_invalid": ClerkDeniedToAll,
    "feature_not_enabled": ClerkDeniedToAll,
    "conflict": ClerkBusy,
    "resource_locked": ClerkBusy,
    "duplicate_record": ClerkAlreadyInvited,
    "invitation_already_accepted": ClerkInvitationAccepted,
    "invitation_already_revoked": ClerkInvitationRevoked,
    "invitation_already_expired": ClerkInvitationClosed,
}
"""Clerk's codes that this application decides by. Of several problems, the first row counts."""


class _Details(TypedDict):
    status: int
    problems: tuple[Problem, ...]
    trace_id: str
    retry_after: float | None


def error_of(status: int, body: str | bytes, headers: Mapping[str, str]) -> ClerkError:
    """Return the error for an answer. `headers` is a case-insensitive mapping."""
    data = _json(body)
    details: _Details = {
        "status": status,
        "problems": _problems(data),
        "trace_id": _trace_id(data, headers),
        "retry_after": _retry_after(headers.get("retry-after")) if status == 429 else None,
    }
    if 200 <= status < 300:
        summary = _("Clerk answered that it did it, but the answer cannot be read")
        return ClerkUnreadable(summary, **details)
    if not details["problems"] or not 400 <= status < 500 or status in _NOT_CLERKS:
        return ClerkUnknown(_summary(status), **details)
    return _refusal(status, details)


def _refusal(status: int, details: _Details) -> ClerkError:
    """Return the error for a 4xx of Clerk's own."""
    by_code = _class_of(details["problems"])
    denied = ClerkDeniedToAll if by_code is ClerkDeniedToAll else ClerkDenied
    match status:
        case 401 | 402:
            return ClerkDeniedToAll(
                _("Clerk does not allow it ({status})").format(status=status), **details
            )
        case 403:
            return denied(_("Clerk does not allow it ({status})").format(status=status), **details)
        case 404 if details["problems"][0].code == NOT_FOUND:
            return ClerkNotFound(_("Clerk does not have it"), **details)
        case 404:
            return ClerkUnknown(_summary(status), **details)
        case 429:
            return ClerkRateLimited(_("Clerk takes no more requests now"), **details)
        case _:
            return by_code(_("Clerk refused it ({status})").format(status=status), **details)


def _class_of(problems: tuple[Problem, ...]) -> type[ClerkRefused]:
    codes = {problem.code for problem in problems}
    return next((kind for code, kind in REFUSALS.items() if code in codes), ClerkRefused)


def _summary(status: int) -> str:
    if status >= 500:
        return _("Clerk has a problem of its own ({status})").format(status=status)
    return _("Something other than Clerk answered ({status})").format(status=status)


def _json(body: str | bytes) -> object:
    try:
        data: object = json.loads(body)
        return data
    except (ValueError, RecursionError):
        return None


def _problems(data: object) -> tuple[Problem, ...]:
    """Return Clerk's `errors[]`, or nothing if any entry is malformed."""
    errors = data.get("errors") if isinstance(data, dict) else None
    if not isinstance(errors, list):
        return ()
    problems = [_problem(entry) for entry in errors]
    return tuple(problem for problem in problems if problem) if all(problems) else ()


def _problem(entry: object) -> Problem | None:
    if not isinstance(entry, dict) or not (code := _text(entry.get("code"))):
        return None
    meta = entry.get("meta")
    param = meta.get("param_name") if isinstance(meta, dict) else None
    text = _text(entry.get("long_message")) or _text(entry.get("message"))
    return Problem(code=code, message=text or code, param=_text(param) or None)


def _text(value: object) -> str:
    """Return a text from Clerk that is safe to show, log and store."""
    if not isinstance(value, str):
        return ""
    readable = _CONTROL.sub(" ", value).encode("utf-8", "replace").decode()
    return readable.strip()[:TEXT_LENGTH]


def _trace_id(data: object, headers: Mapping[str, str]) -> str:
    trace_id = data.get("clerk_trace_id") if isinstance(data, dict) else None
    return (_text(trace_id) or _text(headers.get("cf-ray")))[:100]


def _retry_after(value: str | None) -> float:
    """Return the seconds of `Retry-After`, a number or a date, at most `LONGEST_WAIT`.

    A missing or unreadable header means one second.
    """
    text = (value or "").strip()
    if text.isdecimal():
        return min(float(text), LONGEST_WAIT)
    moment = http_date(text)
    if moment is None:
        return 1.0
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), LONGEST_WAIT)


def http_date(text: str) -> datetime | None:
    """Parse a date of an HTTP header. Return None if the text is not a date."""
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
