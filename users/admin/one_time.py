"""The one-time token that a page sends along with what it asks for."""

from __future__ import annotations

import uuid

from django.http import HttpRequest


def token_of(request: HttpRequest) -> uuid.UUID | None:
    """Read the token of a POST; None if it is missing or is none."""
    try:
        return uuid.UUID(request.POST.get("token", ""))
    except ValueError:
        return None
