"""Mark the sessions that began at the company's provider."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

PROVIDER_BACKEND = "staff.backends.ProviderBackend"


class ProviderBackend(ModelBackend):
    """Load the user of a session, and accept no password.

    `two_step` recognizes a session of the provider by the name of this backend.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **credentials: Any,
    ) -> None:
        """Return None for every password, so that only `ModelBackend` checks passwords."""
        return None  # noqa: RET501 — Django expects a user or None
