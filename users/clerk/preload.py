"""Import what the SDK imports lazily, before the process serves requests.

At the first call of each kind, the SDK imports its modules and pydantic builds their models. That
takes up to 2.8 s, which would count against the deadline of somebody's save.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import httpx

from users.clerk.client import Clerk
from users.clerk.deadline import Deadline
from users.clerk.reads import Reader
from users.clerk.writes import Writer
from users.errors import ClerkError

SECONDS = 600.0
"""Longer than any import takes. Nothing is sent, so nothing can be late."""

USER, INVITATION, SESSION = "user_1", "inv_1", "sess_1"

WRITES: tuple[Callable[[Clerk, Deadline], object], ...] = (
    lambda client, end: client.create_user(
        email="", first_name="", last_name="", public_metadata={}, deadline=end
    ),
    lambda client, end: client.update_user(USER, first_name="", last_name="", deadline=end),
    lambda client, end: client.set_password(USER, password="", sign_out=True, deadline=end),
    lambda client, end: client.replace_email(USER, email="", deadline=end),
    lambda client, end: client.delete_user(USER, deadline=end),
    lambda client, end: client.ban_user(USER, deadline=end),
    lambda client, end: client.unban_user(USER, deadline=end),
    lambda client, end: client.unlock_user(USER, deadline=end),
    lambda client, end: client.disable_mfa(USER, deadline=end),
    lambda client, end: client.merge_metadata(USER, public_metadata={}, deadline=end),
    lambda client, end: client.create_invitation(
        email="", public_metadata={}, expires_in_days=1, deadline=end
    ),
    lambda client, end: client.revoke_invitation(INVITATION, deadline=end),
    lambda client, end: client.revoke_session(SESSION, deadline=end),
)


def warm_up() -> None:
    """Make every write once, with a transport that answers by itself.

    This needs no key, and opens no socket and no thread, so it is safe before a fork.
    """
    for status in (200, 422):  # different models read a success and a refusal
        client = _answered(status)
        for write in WRITES:
            with suppress(ClerkError):
                write(client, Deadline(SECONDS))


def _answered(status: int) -> Clerk:
    """Return a client whose every write is answered with `status`. Nothing leaves the process."""
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json={}))
    return Clerk(
        Reader(url="", key="", version=""),
        Writer(url="https://clerk.invalid", key="", version="", transport=transport),
    )
