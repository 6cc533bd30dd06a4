"""Load the data of the demo: its people in the database and in the sandbox, and its login."""

from __future__ import annotations

import time
from typing import Any

import requests
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.utils import timezone

from demo.people import ONLY_IN_CLERK, Person, groups, people
from users.clerk import ClerkUser
from users.models import BuilderGroup, BuilderUser
from users.sync.mirror import store

LOGIN = "demo"


def create_login(password: str) -> None:
    """Create the staff user of the demo, unless there is one."""
    users = get_user_model().objects
    if not users.filter(username=LOGIN).exists():
        users.create_superuser(LOGIN, "demo@example.com", password, first_name="Demo")


def load(sandbox: str) -> None:
    """Load about 200 people in 20 groups, unless there are users already.

    Nearly all of them match Clerk. The others give the bulk commands something to do. `sandbox` is
    the base address of the sandbox.
    """
    if BuilderUser.objects.exists():
        return
    everybody = people()
    known = _make_accounts(sandbox, everybody)
    accounts = iter(known)
    with transaction.atomic():
        rows = [BuilderGroup.objects.create(name=name) for name in groups()]
        for person in everybody:
            account = next(accounts) if person.clerk_name else None
            BuilderUser.objects.create(
                name=person.name,
                email=person.email,
                role=person.role,
                internal_role=person.internal_role,
                builder_group=rows[person.group] if person.group is not None else None,
                clerk_id=account.id if account else None,
            )
    store.keep_all(known)
    connection.close()


def _make_accounts(sandbox: str, everybody: list[Person]) -> list[ClerkUser]:
    """Create the Clerk accounts of `everybody` in their order, then those without a user."""
    wanted = [
        _account(person.email, *person.clerk_name, signed_in=person.signed_in)
        for person in everybody
        if person.clerk_name
    ]
    wanted += [_account(email, first, last) for first, last, email in ONLY_IN_CLERK]
    answer = requests.post(f"{sandbox}/_sandbox/users", json=wanted, timeout=60)
    asked_at = timezone.now()
    return [ClerkUser.parse(entry, asked_at=asked_at) for entry in answer.json()]


def _account(
    email: str, first_name: str, last_name: str, *, signed_in: int | None = None
) -> dict[str, Any]:
    return {
        "email": email,
        "first_name": first_name,
        "last_name": last_name,
        "password_enabled": True,
        "last_sign_in_at": _days_ago(signed_in),
    }


def _days_ago(days: int | None) -> int | None:
    """Return a time in milliseconds, as Clerk does. Return None for None."""
    return None if days is None else int((time.time() - days * 86_400) * 1000)
