"""Who did it, when it was no person at a form."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User

SERVICE_USERNAME = "cascade"

Actor = User | AbstractBaseUser | AnonymousUser | None
"""A person, or None for the service user. Django's types cannot say that staff are signed in."""


def service_user() -> User:
    """The named user behind events, tasks and commands. It cannot sign in."""
    model = get_user_model()
    user, created = model.objects.get_or_create(
        username=SERVICE_USERNAME, defaults={"is_active": False, "first_name": "Cascade"}
    )
    if created:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def name_of(actor: Actor) -> str:
    """How a person is named in a sentence."""
    if actor is None:
        return ""
    full_name = getattr(actor, "get_full_name", lambda: "")()
    return full_name or actor.get_username()
