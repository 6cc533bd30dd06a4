"""The guard of linked users: name, email and Clerk id change in Clerk too, or not at all.

The ORM refuses to change these columns, or to delete a linked user, outside of the context
managers of this module. Raw SQL, data migrations and other applications are not stopped;
`clerk_diff` finds what they changed.
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
"""Maps each guarded column of a linked user to the call that changes it on both sides."""


@contextmanager
def synchronized() -> Iterator[None]:
    """Allow writes to linked users as part of a change that Clerk also gets.

    Only `users.sync` may use it.
    """
    with _lifting():
        yield


@contextmanager
def without_clerk() -> Iterator[None]:
    """Allow changes and deletions of linked users in the database alone. Clerk stays as it is.

    For repairs, and for tests that act as another application. The list of users then shows a
    changed user as different from Clerk, and `clerk_push` or `clerk_pull` resolves the difference.
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
    """Return whether the current context may change and delete linked users."""
    return _lifted.get()


def change_refused(columns: Iterable[str]) -> BypassesClerk:
    """Build the error for a change of these columns. It names the right call for each."""
    changed = set(columns)
    wanted = [column for column in GUARDED if column in changed]
    calls = "; ".join(f"{column}: {GUARDED[column]}" for column in wanted)
    return BypassesClerk(
        f"This changes {', '.join(wanted)} of a linked user in the database and not in Clerk. "
        f"Call instead: {calls}. If you mean it, use users.guard.without_clerk()."
    )


def deletion_refused() -> BypassesClerk:
    """Build the error for the deletion of a linked user. It names the right call."""
    return BypassesClerk(
        "This deletes a linked user in the database and not in Clerk: the person could still "
        f"sign in. Call instead: {_SERVICES}.users.delete_user(). If you mean it, use "
        "users.guard.without_clerk()."
    )
