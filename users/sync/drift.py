"""How the two copies of a user stand to one another, in SQL over our copy: nobody asks Clerk."""

from __future__ import annotations

from django.db.models import (
    Case,
    CharField,
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
from django.db.models.functions import Concat, Trim

from users.models import LINKED, BuilderUser, Status, SyncAttempt


class State(TextChoices):
    """What the list shows of a user; the first that fits."""

    OPEN = "open", "Open attempt"
    NOT_LINKED = "not_linked", "Not linked"
    DELETED = "deleted", "Deleted in Clerk"
    BANNED = "banned", "Banned"
    LOCKED = "locked", "Locked"
    UNSEEN = "unseen", "Not seen yet"
    DIFFERS = "differs", "Differs"
    IN_STEP = "in_step", "In step"


def squashed(expression: F | Concat) -> Func:
    """`names.squash` in SQL."""
    spaces = Func(
        expression, Value(r"\s+"), Value(" "), Value("g"), function="regexp_replace",
        output_field=CharField(),
    )  # fmt: skip
    return Trim(spaces)


def clerk_name(prefix: str = "account__") -> Func:
    """`names.join` in SQL."""
    first, last = F(f"{prefix}first_name"), F(f"{prefix}last_name")
    return squashed(Concat(first, Value(" "), last, output_field=CharField()))


# An account without a name or email has none to differ by.
NAME_DIFFERS = ~Q(_clerk_name__in=["", F("_name")])
EMAIL_DIFFERS = ~Q(account__email__in=["", F("email")])


def with_names(users: QuerySet[BuilderUser]) -> QuerySet[BuilderUser]:
    """Users with what `NAME_DIFFERS` compares."""
    return users.alias(_name=squashed(F("name")), _clerk_name=clerk_name())


def with_state(users: QuerySet[BuilderUser]) -> QuerySet[BuilderUser]:
    """Each user with its `clerk_state`, one of `State`."""
    open_attempts = SyncAttempt.objects.filter(user=OuterRef("pk"), status=Status.STARTED)
    return with_names(users).annotate(
        clerk_state=Case(
            When(Exists(open_attempts), then=Value(State.OPEN)),
            When(~LINKED, then=Value(State.NOT_LINKED)),
            When(Q(account=None) | ~Q(account__clerk_id=F("clerk_id")), then=Value(State.UNSEEN)),
            When(account__deleted_at__isnull=False, then=Value(State.DELETED)),
            When(account__banned=True, then=Value(State.BANNED)),
            When(account__locked=True, then=Value(State.LOCKED)),
            When(NAME_DIFFERS | EMAIL_DIFFERS, then=Value(State.DIFFERS)),
            default=Value(State.IN_STEP),
            output_field=CharField(),
        )
    )  # fmt: skip
