"""The backend that marks a session as begun by the company's provider."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

PROVIDER_BACKEND = "staff.backends.ProviderBackend"


class ProviderBackend(ModelBackend):
    """Loads the user of a session, and accepts no password."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **credentials: Any,
    ) -> None:
        return None
