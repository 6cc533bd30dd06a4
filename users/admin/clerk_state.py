"""How a user stands with Clerk: one definition, in SQL, for badges and the filter alike.

It is told from our copies (`ClerkAccount`) and the open attempts, so that no list asks Clerk.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import (
    BooleanField,
    Case,
    Exists,
    F,
    Func,
    OuterRef,
    Q,
    QuerySet,
    TextChoices,
    Value,
    When,
)
from django.db.models.functions import Concat, Lower, Trim
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from users.models import BuilderUser, Status, SyncAttempt


class ClerkState(TextChoices):
    OPEN = "open", "Open attempt"
    UNLINKED = "unlinked", "Not linked"
    UNSEEN = "unseen", "Not seen yet"
    DELETED = "deleted", "Deleted in Clerk"
    BANNED = "banned", "Banned"
    LOCKED = "locked", "Locked"
    DIFFERS = "differs", "Differs"
    IN_STEP = "in_step", "In step"


def _squashed(name: Any) -> Trim:
    """As `users.clerk.names.squash` does it."""
    spaces = Func(name, Value(r"\s+"), Value(" "), Value("g"), function="regexp_replace")
    return Trim(spaces)


_NAMES = {
    "own_name": _squashed(F("name")),
    "clerk_name": _squashed(Concat("account__first_name", Value(" "), "account__last_name")),
}

_SEEN = Q(clerk_id__isnull=False, account__isnull=False)
_ALIVE = _SEEN & Q(account__deleted_at=None)

# A name or an email that Clerk does not have is no difference: the row's stays.
_DIFFERS = (~Q(clerk_name="") & ~Q(clerk_name=F("own_name"))) | (
    ~Q(account__email="") & ~Q(account__email=Lower("email"))
)

_CONDITIONS: dict[ClerkState, Q] = {
    ClerkState.OPEN: Q(
        Exists(SyncAttempt.objects.filter(user=OuterRef("pk"), status=Status.STARTED))
    ),
    ClerkState.UNLINKED: Q(clerk_id=None),
    ClerkState.UNSEEN: Q(clerk_id__isnull=False, account=None),
    ClerkState.DELETED: _SEEN & Q(account__deleted_at__isnull=False),
    ClerkState.BANNED: _ALIVE & Q(account__banned=True),
    ClerkState.LOCKED: _ALIVE & Q(account__locked=True),
    ClerkState.DIFFERS: _ALIVE & _DIFFERS,
    ClerkState.IN_STEP: _ALIVE
    & ~_DIFFERS
    & Q(account__banned=False, account__locked=False),
}


def with_clerk_state(users: QuerySet[BuilderUser]) -> QuerySet[BuilderUser]:
    """Users that know their state: `clerk_<state>` is a boolean on each."""
    states = {
        f"clerk_{state}": Case(
            When(condition, then=True), default=False, output_field=BooleanField()
        )
        for state, condition in _CONDITIONS.items()
    }
    return users.alias(**_NAMES).annotate(**states)


def badges(user: BuilderUser) -> SafeString:
    """The states of a user that `with_clerk_state` gave, in words."""
    states = [state for state in ClerkState if getattr(user, f"clerk_{state}")]
    return format_html_join(
        " ", '<span class="badge badge-{}">{}</span>', ((state, state.label) for state in states)
    )


class ClerkStateFilter(admin.SimpleListFilter):
    title = "Clerk"
    parameter_name = "clerk"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(ClerkState.choices)

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> QuerySet[BuilderUser]:
        value = self.value()
        return queryset.filter(_CONDITIONS[ClerkState(value)]) if value in ClerkState else queryset
