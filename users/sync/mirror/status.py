"""Define the statuses of a user against its account, and the conditions of them in SQL.

The function `users_refresh_list` in the database stores the status in the user's `ListEntry`.
"""

from __future__ import annotations

from django.db.models import F, Q, TextChoices, TextField, Value
from django.db.models.functions import Concat
from django.utils.translation import gettext_lazy as _

from users.sync.mirror.comparison import NormalizedName, where_email_differs, where_name_differs


class UserStatus(TextChoices):
    """Status of a user in the list; the first one that applies."""

    OPEN = "open", _("Waiting for Clerk")
    INVITED = "invited", _("Invited")
    NOT_LINKED = "not_linked", _("No Clerk account")
    DELETED = "deleted", _("Deleted in Clerk")
    NOT_FOUND = "not_found", _("Not found in Clerk")
    BANNED = "banned", _("Banned")
    LOCKED = "locked", _("Locked")
    UNSEEN = "unseen", _("Not checked yet")
    DIFFERS = "differs", _("Doesn't match Clerk")
    IN_STEP = "in_step", _("Matches Clerk")

    @classmethod
    def _missing_(cls, value: object) -> UserStatus:
        """Return `UNSEEN` for a status of a later version: it migrates before the restart."""
        return cls.UNSEEN


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
