"""System checks of the staff sign-in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import ProgrammingError

from users.sync.access import superusers


@checks.register(checks.Tags.database)
def password_superuser(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Warn if no superuser could sign in while the company's provider is down.

    The check reads the users, so it runs only with `check --database` and before `migrate`.
    """
    if not settings.OIDC_ISSUER or not databases:
        return []
    try:
        if superusers.with_password().exists():
            return []
    except ProgrammingError:  # before the first migration
        return []
    return [
        checks.Warning(
            "Nobody can sign in while the provider of OIDC_ISSUER is down.",
            hint="Give one superuser a password: manage.py changepassword NAME.",
            id="staff.W001",
        )
    ]
