"""The boxes of the home page: outcomes that this person has not seen, and open doubts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from users.admin.again import again_url
from users.admin.base import opens_users
from users.admin.wanted import groups_of, wanted_of
from users.models import Agreement, ClerkAccount, Status, SyncAttempt
from users.sync.mirror.health import status
from users.sync.outbound import pending
from users.sync.services import unseen

MOST = 20
"""Changes that the home page shows at once. Dismissing one makes room for the next."""


@dataclass(frozen=True)
class Told:
    """The outcome of one change, for its author."""

    attempt: SyncAttempt
    wanted: list[tuple[str, str]]
    user_url: str
    again_url: str

    @property
    def saved(self) -> bool:
        """Return whether the change was applied."""
        return self.attempt.status == Status.APPLIED

    @property
    def certain(self) -> bool:
        """Return whether the outcome is certain."""
        return self.attempt.status != Status.UNPROVEN


def boxes(request: HttpRequest) -> dict[str, Any]:
    """Return what the home page shows above Django's own list. Clerk is not asked."""
    may_view = opens_users(request)
    return {
        "told": _told(request) if may_view else [],
        "mirror": status() if may_view else None,
        "doubts": list(_doubts()[:MOST]) if may_view else [],
        "accounts_in_doubt": (
            ClerkAccount.objects.exclude(note="").count()
            if request.user.has_perm("users.view_clerkaccount")
            else 0
        ),
        "unconfirmed": (
            pending.not_confirmed().count()
            if request.user.has_perm("users.view_syncattempt")
            else 0
        ),
    }


def _doubts() -> QuerySet[Agreement]:
    """Select the rows for which it is in doubt which account belongs to them."""
    return Agreement.objects.exclude(note="").select_related("user").order_by("user__name", "pk")


def _told(request: HttpRequest) -> list[Told]:
    attempts = unseen.of(request.user).select_related("user").order_by("-id")[:MOST]
    groups = groups_of(attempts)
    return [
        Told(
            attempt,
            wanted_of(attempt, groups),
            attempt.user.get_absolute_url() if attempt.user else "",
            again_url(request, attempt) if attempt.status != Status.APPLIED else "",
        )
        for attempt in attempts
    ]
