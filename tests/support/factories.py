"""People who do not exist."""

from __future__ import annotations

import factory
from django.contrib.auth import get_user_model
from django.utils import timezone
from factory.django import DjangoModelFactory

from sandbox import Sandbox
from users.clerk import ClerkUser, names
from users.guard import without_clerk
from users.models import BuilderGroup, BuilderUser, SyncAttempt
from users.sync.mirror import instance, store


class StaffFactory(DjangoModelFactory):
    class Meta:
        model = get_user_model()

    username = factory.Sequence(lambda n: f"staff{n}")
    is_staff = True
    is_superuser = True


class BuilderGroupFactory(DjangoModelFactory):
    class Meta:
        model = BuilderGroup

    name = factory.Sequence(lambda n: f"Oak Hill Homes {n}")


class BuilderUserFactory(DjangoModelFactory):
    class Meta:
        model = BuilderUser

    name = "Mary Ann Smith"
    email = factory.Sequence(lambda n: f"builder{n}@example.com")


class SyncAttemptFactory(DjangoModelFactory):
    class Meta:
        model = SyncAttempt

    operation = "update"
    source = "admin"
    label = factory.LazyAttribute(lambda attempt: str(getattr(attempt, "user", "")))
    clerk_id = factory.LazyAttribute(
        lambda attempt: getattr(getattr(attempt, "user", None), "clerk_id", "") or ""
    )


def change_here(user: BuilderUser, **columns) -> None:
    """Change columns of the row and not in Clerk, as another application does."""
    with without_clerk():
        BuilderUser.objects.filter(pk=user.pk).update(**columns)


def delete_here(*users: BuilderUser) -> None:
    """Delete the rows and not in Clerk, as another application does; all rows without `users`."""
    rows = BuilderUser.objects.all()
    with without_clerk():
        (rows.filter(pk__in=[user.pk for user in users]) if users else rows).delete()


def linked(
    sandbox: Sandbox,
    *,
    name: str = "Mary Ann Smith",
    first_name: str | None = None,
    last_name: str | None = None,
    email: str | None = None,
    clerk: dict | None = None,
    **fields,
) -> BuilderUser:
    """A user who lives in Clerk and in the database, in step, with our copy of Clerk's side."""
    user = BuilderUserFactory.build(name=name, **({"email": email} if email else {}), **fields)
    if first_name is None:
        first_name, last_name = names.split(name, first="Mary Ann")
    account = sandbox.add_user(
        email=user.email, first_name=first_name, last_name=last_name, **(clerk or {})
    )
    user.clerk_id = account["id"]
    user.save()
    store.keep(ClerkUser.parse(account, asked_at=timezone.now()))
    instance.remember(sandbox.instance_id, "development")
    sandbox.clear_requests()
    return user
