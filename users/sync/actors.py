"""Who did it, when it was no person at a form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User

from users.models import Source, SyncAttempt

SERVICE_USERNAME = "cascade"


@dataclass(frozen=True)
class Person:
    """Somebody who is signed in at the front end, as Clerk knows them. They have no account of
    staff here."""

    clerk_id: str
    name: str
    pk: ClassVar[None] = None


Actor = User | AbstractBaseUser | AnonymousUser | Person | None
"""A person, or None for the service user. Django's types cannot say that staff are signed in."""


def service_user() -> User:
    """Return the named user behind events, tasks and commands. It cannot sign in, also where
    somebody had taken its name before."""
    model = get_user_model()
    user, _ = model.objects.get_or_create(
        username=SERVICE_USERNAME, defaults={"is_active": False, "first_name": "Cascade"}
    )
    if user.is_active or user.has_usable_password():
        user.is_active = False
        user.set_unusable_password()
        user.save(update_fields=["is_active", "password"])
    return user


def name_of(actor: Actor) -> str:
    """How a person is named in a sentence."""
    if actor is None:
        return ""
    if isinstance(actor, Person):
        return actor.name
    full_name = getattr(actor, "get_full_name", lambda: "")()
    return full_name or actor.get_username()


def author_of(attempt: SyncAttempt) -> str:
    """How the author of a change is named in a sentence; without one, where it came from."""
    return attempt.actor_name or name_of(attempt.actor) or str(Source(attempt.source).label)
