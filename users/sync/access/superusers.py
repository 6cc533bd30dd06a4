"""Keep one superuser who can sign in with a password.

That person gets in on the day on which the company's sign-in provider is down.
"""

from __future__ import annotations

from collections.abc import Collection

from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _


def with_password() -> QuerySet[User]:
    """Select the superusers who can sign in to the admin with a password."""
    usable = ~Q(password="") & ~Q(password__startswith=UNUSABLE_PASSWORD_PREFIX)
    return User.objects.filter(usable, is_active=True, is_staff=True, is_superuser=True)


def last_among(leaving: Collection[User]) -> User | None:
    """Return one of the users if no superuser with a password remains without them.

    The superusers stay locked until the caller's transaction ends, so that two people cannot take
    each other's rights away at the same time.
    """
    with transaction.atomic():
        superusers = list(with_password().select_for_update().order_by("pk"))
    staying = [user for user in superusers if user not in leaving]
    return superusers[0] if superusers and not staying else None


def why_needed(user: User) -> str:
    """Say why a user must stay a superuser with a password, and what to do first."""
    return _(
        "{username} is the last active superuser with a password. Nothing was "
        "changed. First give a password to another active superuser with staff status: open "
        "that user and use the button under “Password”. Otherwise nobody can sign in as a "
        "superuser while the company's sign-in provider is down."
    ).format(username=user.get_username())
