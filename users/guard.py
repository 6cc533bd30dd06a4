"""The guard of linked users: name, email and Clerk id change in Clerk too, or not at all.

The ORM refuses to change them, or to delete a linked user, outside a context of this module.
Raw SQL, data migrations and other applications are not stopped: `clerk_diff` finds what they did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from users.errors import BypassesClerk

_lifted: ContextVar[bool] = ContextVar("users.guard", default=False)

_SERVICES = "users.sync.services"
GUARDED = {
    "name": f"{_SERVICES}.users.save_user()",
    "email": f"{_SERVICES}.sign_in.replace_email() or {_SERVICES}.invitations.invite()",
    "clerk_id": f"{_SERVICES}.linking.link() or unlink()",
}
"""Columns of a linked user → the call that changes them on both sides."""


@contextmanager
def synchronized() -> Iterator[None]:
    """Write a linked user as part of a change that Clerk is told, or has told. For users.sync."""
    with _lifting():
        yield


@contextmanager
def without_clerk() -> Iterator[None]:
    """Change or delete linked users in the database alone. Clerk keeps what it has.

    For repairs, and for tests that act as another application. The list shows a changed user
    as different from Clerk afterwards, and `clerk_push` or `clerk_pull` brings the two together.
    """
    with _lifting():
        yield


@contextmanager
def _lifting() -> Iterator[None]:
    token = _lifted.set(True)
    try:
        yield
    finally:
        _lifted.reset(token)


def lifted() -> bool:
    return _lifted.get()


def change_refused(columns: Iterable[str]) -> BypassesClerk:
    changed = set(columns)
    wanted = [column for column in GUARDED if column in changed]
    calls = "; ".join(f"{column}: {GUARDED[column]}" for column in wanted)
    return BypassesClerk(
        f"This changes {', '.join(wanted)} of a linked user in the database and not in Clerk. "
        f"Call instead: {calls}. If you mean it, use users.guard.without_clerk()."
    )


def deletion_refused() -> BypassesClerk:
    return BypassesClerk(
        "This deletes a linked user in the database and not in Clerk: the person could still "
        f"sign in. Call instead: {_SERVICES}.users.delete_user(). If you mean it, use "
        "users.guard.without_clerk()."
    )
