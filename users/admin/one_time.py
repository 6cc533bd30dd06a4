"""The one-time token that a page sends with its request."""

from __future__ import annotations

import uuid

from django.http import HttpRequest


def token_of(request: HttpRequest) -> uuid.UUID | None:
    """Return the token of a POST, or None if it is missing or not valid."""
    try:
        return uuid.UUID(request.POST.get("token", ""))
    except ValueError:
        return None
