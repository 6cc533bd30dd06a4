"""Answers in JSON. The front end knows their texts and statuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from math import ceil

from django.http import HttpResponse

from users.errors import (
    BusyInClerk,
    ChangeFailed,
    Denied,
    Gone,
    NotAllowed,
    NotConfigured,
    NotFoundInClerk,
    NotKnown,
    NotSaved,
    Refused,
)

NOT_CONFIGURED = "Clerk authentication not configured. Contact administrator."
NOT_FOUND_IN_CLERK = "User not found in Clerk. They may have been deleted."


class Rejected(Exception):
    """A request that is answered with this status and text.

    The text is `error` in the JSON; `more` is merged into the JSON.
    """

    def __init__(
        self,
        status: int,
        text: str,
        *,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}
        self.more = more or {}


def answer(
    body: Mapping[str, object], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """Return JSON as JavaScript writes it, with a header that forbids caching."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return HttpResponse(
        text,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def rejection_of(failure: ChangeFailed) -> Rejected:
    """Turn a change that failed into a status and a text."""
    headers = {}
    if failure.retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(failure.retry_after)))
    return Rejected(_status_of(failure), _text_of(failure), headers=headers)


def _status_of(failure: ChangeFailed) -> int:
    match failure:
        case NotAllowed():
            return 403
        case NotConfigured():
            return 500
        case NotKnown():
            return 504
        case Denied():  # our key or plan is refused, which the person cannot change
            return 502
        case _ if failure.retry_after is not None or isinstance(failure, NotSaved):
            return 503
        case Gone() | NotFoundInClerk():
            return 404
        case BusyInClerk():
            return 409
        case Refused():
            return 422
        case _:  # a conflict, or another change that is under way
            return 409


def _text_of(failure: ChangeFailed) -> str:
    if isinstance(failure, NotConfigured):
        return NOT_CONFIGURED
    if isinstance(failure, NotFoundInClerk):
        return NOT_FOUND_IN_CLERK
    return " ".join([*chain.from_iterable(failure.fields.values()), failure.message])
