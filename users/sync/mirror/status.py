"""Compute the status of each user against its account, in SQL over the mirror without Clerk."""

from __future__ import annotations

from django.db.models import (
    Case,
    CharField,
    Exists,
    F,
    OuterRef,
    Q,
    QuerySet,
    TextChoices,
    TextField,
    Value,
    When,
)
from django.db.models.functions import Concat

from users.models import LINKED, BuilderUser, Status, SyncAttempt
from users.sync.mirror.comparison import NormalizedName, where_email_differs, where_name_differs


class UserStatus(TextChoices):
    """Status of a user in the list; the first one that applies."""

    OPEN = "open", "Open attempt"
    NOT_LINKED = "not_linked", "Not linked"
    DELETED = "deleted", "Deleted in Clerk"
    NOT_FOUND = "not_found", "Not found in Clerk"
    BANNED = "banned", "Banned"
    LOCKED = "locked", "Locked"
    UNSEEN = "unseen", "Not seen yet"
    DIFFERS = "differs", "Differs"
    IN_STEP = "in_step", "In step"


def _joined(prefix: str) -> Concat:
    first, last = F(f"{prefix}first_name"), F(f"{prefix}last_name")
    return Concat(first, Value(" "), last, output_field=TextField())


def clerk_name(prefix: str = "account__") -> NormalizedName:
    """Build Clerk's first and last name as one name."""
    return NormalizedName(_joined(prefix))


# Another application may have given a row another id: then the record is not of its account.
HAS_COPY = Q(account__clerk_id=F("clerk_id"))
HAS_NO_COPY = Q(account=None) | ~HAS_COPY

NAME_DIFFERS = where_name_differs(F("name"), _joined("account__"))
EMAIL_DIFFERS = where_email_differs(F("email"), F("account__email"))


def with_state(users: QuerySet[BuilderUser]) -> QuerySet[BuilderUser]:
    """Annotate each user with its `clerk_state`, one of `UserStatus`."""
    open_attempts = SyncAttempt.objects.filter(user=OuterRef("pk"), status=Status.STARTED)
    return users.annotate(
        clerk_state=Case(
            When(Exists(open_attempts), then=Value(UserStatus.OPEN)),
            When(~LINKED, then=Value(UserStatus.NOT_LINKED)),
            When(HAS_NO_COPY, then=Value(UserStatus.UNSEEN)),
            When(account__deleted_at__isnull=False, then=Value(UserStatus.DELETED)),
            When(account__not_found_at__isnull=False, then=Value(UserStatus.NOT_FOUND)),
            When(account__banned=True, then=Value(UserStatus.BANNED)),
            When(account__locked=True, then=Value(UserStatus.LOCKED)),
            When(NAME_DIFFERS | EMAIL_DIFFERS, then=Value(UserStatus.DIFFERS)),
            default=Value(UserStatus.IN_STEP),
            output_field=CharField(),
        )
    )  # fmt: skip
