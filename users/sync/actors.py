"""Name the author of a change: a person, or the service user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.utils.translation import gettext_lazy as _

from users.models import Source, SyncAttempt

SERVICE_USERNAME = "cascade"


@dataclass(frozen=True)
class Person:
    """A person who is signed in at the front end, as Clerk names them.

    They have no staff account here, so `pk` is None.
    """

    clerk_id: str
    name: str
    pk: ClassVar[None] = None


Actor = User | AbstractBaseUser | AnonymousUser | Person | None
"""The author of a change; None stands for the service user. Only signed-in users occur."""


def service_user() -> User:
    """Return the service user, the author of events, tasks and commands.

    It cannot sign in. If a staff user already has its name, that user is deactivated and loses
    their password.
    """
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
    """Return the name of an author for a sentence: full name, else user name; "" for None."""
    if actor is None:
        return ""
    if isinstance(actor, Person):
        return actor.name
    full_name = getattr(actor, "get_full_name", lambda: "")()
    return full_name or actor.get_username()


BY_ITSELF = _("By itself")
"""Stands where an author would, for a change that follows from others."""


def author_of(attempt: SyncAttempt) -> str:
    """Return the name of a change's author, or its source if it has no author."""
    return attempt.actor_name or name_of(attempt.actor) or str(Source(attempt.source).label)
