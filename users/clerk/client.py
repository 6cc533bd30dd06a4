"""The calls of Clerk's API that this application needs, in our types and with our errors."""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

from clerk_backend_api import Clerk as ClerkSDK
from clerk_backend_api.models import CreateInvitationRequestBodyTypedDict, IdentificationStatus
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_variables
from pydantic import BaseModel

from users.clerk import clock, emails
from users.clerk.deadline import Deadline
from users.clerk.pace import Pace, pause_bulk_work
from users.clerk.reads import Params, Reader
from users.clerk.types import (
    ClerkEmail,
    ClerkInstance,
    ClerkInvitation,
    ClerkSession,
    ClerkUser,
    UserPage,
)
from users.clerk.writes import Writer
from users.errors import ClerkError, ClerkInvalidId, ClerkNotConfigured, ClerkUnknown
from users.ids import INVITATION_ID, SESSION_ID, USER_ID

PAGE = 500
"""The largest page of users. If asked for more, Clerk returns only ten."""

T = TypeVar("T")

NOT_CONFIGURED = gettext_lazy("Clerk authentication not configured")


class Clerk:
    """Clerk's Backend API.

    Every method takes a `deadline` for all that it does and raises `ClerkError`. It raises
    `ClerkInvalidId` before anything is sent.

    With `pace`, the rate limiter of bulk work, a read waits for its slot. A write does not wait:
    its caller takes the slot before it locks a row. A 429 makes all bulk work pause, with `pace` or
    without.
    """

    def __init__(self, reader: Reader, writer: Writer, pace: Pace | None = None) -> None:
        self._reader = reader
        self._writer = writer
        self._pace = pace

    def paced(self, pace: Pace) -> Clerk:
        """Return the same client with a rate limiter."""
        return Clerk(self._reader, self._writer, pace)

    # --- The instance ----------------------------------------------------------------------

    def get_instance(self, *, deadline: Deadline) -> ClerkInstance:
        """Return the instance that the secret key belongs to."""
        return _parsed(ClerkInstance.parse, self._get("/instance", deadline=deadline))

    # --- Users, read -----------------------------------------------------------------------

    def get_user(self, clerk_id: str, *, deadline: Deadline) -> ClerkUser:
        """Return the user.

        Raises `ClerkNotFound` if Clerk does not have it.
        """
        path, call = f"/users/{_checked(clerk_id, USER_ID)}", clock.Call()
        data = self._get(path, deadline=deadline)
        user = _parsed(partial(ClerkUser.parse, asked_at=call.asked_at()), data)
        if user.id != clerk_id:
            raise ClerkUnknown("Clerk answered with another user than the one asked for")
        return user

    def find_by_email(self, email: str, *, deadline: Deadline) -> list[ClerkUser]:
        """Return the users that have the address, primary or not, ignoring case.

        The addresses are compared here again.
        """
        wanted = emails.normalized(email)
        if not wanted:
            return []
        params: Params = [("email_address", wanted), ("limit", PAGE)]
        return [
            user
            for user in self._get_page(params, deadline).users
            if any(address.address == wanted for address in user.emails)
        ]

    def search(self, query: str, *, limit: int = 20, deadline: Deadline) -> list[ClerkUser]:
        """Return the users that Clerk finds by a part of their name, address or id."""
        params: Params = [("query", query), ("limit", limit), ("order_by", "-created_at")]
        return list(self._get_page(params, deadline).users)

    def get_users(self, clerk_ids: Sequence[str], *, deadline: Deadline) -> UserPage:
        """Return those of up to 100 users that Clerk has, in no particular order."""
        wanted = {_checked(clerk_id, USER_ID) for clerk_id in clerk_ids}
        if not wanted:  # without a filter Clerk would return any users
            return UserPage()
        params: Params = [*(("user_id", clerk_id) for clerk_id in wanted), ("limit", len(wanted))]
        return self._get_page(params, deadline).only(wanted)

    def list_users(
        self,
        *,
        starting_after: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        newest_first: bool = True,
        limit: int = PAGE,
        deadline: Deadline,
    ) -> UserPage:
        """Return a page of all users by the time of their creation.

        The next page starts after the `last_id` of this one. The bounds are in milliseconds since
        1970.
        """
        order = "-created_at" if newest_first else "+created_at"
        params: list[tuple[str, str | int]] = [("limit", limit), ("order_by", order)]
        if starting_after is not None:
            params.append(("starting_after", _checked(starting_after, USER_ID)))
        if created_after is not None:
            params.append(("created_at_after", created_after))
        if created_before is not None:
            params.append(("created_at_before", created_before))
        return self._get_page(params, deadline)

    def list_changed_users(
        self, *, offset: int = 0, limit: int = PAGE, deadline: Deadline
    ) -> UserPage:
        """Return a page of all users, the last changed ones first.

        Clerk has no cursor for this order, so a change between two pages moves users from one page
        to the next.
        """
        params: Params = [("limit", limit), ("offset", offset), ("order_by", "-updated_at")]
        return self._get_page(params, deadline)

    def count_users(self, *, deadline: Deadline) -> int:
        """Return the number of all users of the instance."""
        data = self._get("/users/count", deadline=deadline)
        count = data.get("total_count") if isinstance(data, dict) else None
        if not isinstance(count, int):
            raise ClerkUnknown(_("Clerk's answer cannot be read"))
        return count

    def time(self, *, deadline: Deadline) -> datetime:
        """Return the time of Clerk's clock, to the second."""
        return self._reader.date("/users/count", deadline=deadline)

    # --- Users, written --------------------------------------------------------------------

    def create_user(
        self,
        *,
        email: str,
        first_name: str,
        last_name: str,
        public_metadata: Mapping[str, object],
        deadline: Deadline,
    ) -> ClerkUser:
        """Create a user with a verified address and without a password."""
        asked = clock.Call()
        return self._write(
            lambda sdk: sdk.users.create(
                email_address=[email],
                first_name=first_name,
                last_name=last_name,
                public_metadata=dict(public_metadata),
                skip_password_requirement=True,
            ),
            lambda data: ClerkUser.parse(data, asked_at=asked.asked_at()),
            deadline,
        )

    def update_user(
        self, clerk_id: str, *, first_name: str, last_name: str, deadline: Deadline
    ) -> ClerkUser:
        """Change Clerk's two names. Nothing else is sent."""
        return self._write_user(
            clerk_id,
            lambda sdk: sdk.users.update(
                user_id=clerk_id, first_name=first_name, last_name=last_name
            ),
            deadline,
        )

    @sensitive_variables()
    def set_password(
        self, clerk_id: str, *, password: str, sign_out: bool, deadline: Deadline
    ) -> ClerkUser:
        """Set the password, and end the user's other sessions if `sign_out`.

        Raises `ClerkRefused` if Clerk's password policy refuses it.
        """
        return self._write_user(
            clerk_id,
            lambda sdk: sdk.users.update(
                user_id=clerk_id, password=password, sign_out_of_other_sessions=sign_out
            ),
            deadline,
        )

    def replace_email(self, clerk_id: str, *, email: str, deadline: Deadline) -> ClerkEmail:
        """Make the address the user's only one, primary and verified, and return it.

        Clerk notifies the previous address.
        """
        _checked(clerk_id, USER_ID)
        return self._write(
            lambda sdk: sdk.email_addresses.replace_for_user(
                user_id=clerk_id,
                email_address=email,
                identification_status=IdentificationStatus.VERIFIED,
                notify_primary_email_address_changed=True,
            ),
            ClerkEmail.parse,
            deadline,
        )

    def delete_user(self, clerk_id: str, *, deadline: Deadline) -> None:
        """Delete the user in Clerk."""
        _checked(clerk_id, USER_ID)
        self._write(
            lambda sdk: sdk.users.delete(user_id=clerk_id),
            _saying(id=clerk_id, deleted=True),
            deadline,
        )

    def ban_user(self, clerk_id: str, *, deadline: Deadline) -> ClerkUser:
        """End all sessions and stop sign-in.

        Raises `ClerkDenied` (402) if our plan does not include bans.
        """
        return self._write_user(clerk_id, lambda sdk: sdk.users.ban(user_id=clerk_id), deadline)

    def unban_user(self, clerk_id: str, *, deadline: Deadline) -> ClerkUser:
        """Allow sign-in again after a ban."""
        return self._write_user(clerk_id, lambda sdk: sdk.users.unban(user_id=clerk_id), deadline)

    def unlock_user(self, clerk_id: str, *, deadline: Deadline) -> ClerkUser:
        """End the lock that Clerk sets after too many wrong passwords."""
        return self._write_user(clerk_id, lambda sdk: sdk.users.unlock(user_id=clerk_id), deadline)

    def disable_mfa(self, clerk_id: str, *, deadline: Deadline) -> None:
        """Remove all second factors."""
        _checked(clerk_id, USER_ID)
        self._write(
            lambda sdk: sdk.users.disable_mfa(user_id=clerk_id),
            _saying(user_id=clerk_id),
            deadline,
        )

    def merge_metadata(
        self, clerk_id: str, *, public_metadata: Mapping[str, object], deadline: Deadline
    ) -> ClerkUser:
        """Merge into the public metadata. Keys that are not named stay as they are."""
        return self._write_user(
            clerk_id,
            lambda sdk: sdk.users.update_metadata(
                user_id=clerk_id, public_metadata=dict(public_metadata)
            ),
            deadline,
        )

    # --- Invitations -----------------------------------------------------------------------

    def create_invitation(
        self,
        *,
        email: str,
        public_metadata: Mapping[str, object],
        expires_in_days: int,
        deadline: Deadline,
    ) -> ClerkInvitation:
        """Create an invitation, which Clerk mails."""
        request: CreateInvitationRequestBodyTypedDict = {
            "email_address": email,
            "public_metadata": dict(public_metadata),
            "expires_in_days": expires_in_days,
        }
        return self._write(
            lambda sdk: sdk.invitations.create(request=request), ClerkInvitation.parse, deadline
        )

    def revoke_invitation(self, invitation_id: str, *, deadline: Deadline) -> ClerkInvitation:
        """Revoke the invitation: its link stops working."""
        _checked(invitation_id, INVITATION_ID)
        return self._write(
            lambda sdk: sdk.invitations.revoke(invitation_id=invitation_id),
            ClerkInvitation.parse,
            deadline,
        )

    def list_invitations(
        self, *, query: str = "", status: str = "", offset: int = 0, deadline: Deadline
    ) -> list[ClerkInvitation]:
        """Return up to 500 invitations. Without a `status`, Clerk leaves out revoked ones."""
        params: list[tuple[str, str | int]] = [("limit", PAGE), ("offset", offset)]
        if query:
            params.append(("query", query))
        if status:
            params.append(("status", status))
        data = self._get("/invitations", params, deadline=deadline)
        if not isinstance(data, list):
            raise ClerkUnknown(_("Clerk's answer cannot be read"))
        return [_parsed(ClerkInvitation.parse, entry) for entry in data]

    # --- Sessions --------------------------------------------------------------------------

    def list_sessions(self, clerk_id: str, *, deadline: Deadline) -> list[ClerkSession]:
        """Return the sessions of a user that have not ended: active and pending ones.

        Clerk filters by one status only, and not by "pending", so all are read.
        """
        known: dict[str, ClerkSession] = {}
        for offset in itertools.count(step=PAGE):
            params: Params = [
                ("user_id", _checked(clerk_id, USER_ID)),
                ("limit", PAGE),
                ("offset", offset),
            ]
            data = self._get("/sessions", params, deadline=deadline)
            if not isinstance(data, list):
                raise ClerkUnknown(_("Clerk's answer cannot be read"))
            sessions = [_parsed(ClerkSession.parse, entry) for entry in data]
            known |= {session.id: session for session in sessions}
            if len(data) < PAGE:
                break
        return [
            session
            for session in known.values()
            if session.user_id == clerk_id and not session.has_ended
        ]

    def revoke_session(self, session_id: str, *, deadline: Deadline) -> ClerkSession:
        """End one session. The rate limiter counts the call, but it does not wait for a slot."""
        _checked(session_id, SESSION_ID)
        if self._pace is not None:  # waiting for each session would keep the row locked
            self._pace.count()

        def parse(data: object) -> ClerkSession:
            session = ClerkSession.parse(data)
            if session.id != session_id:
                raise ValueError("another session than the one that was ended")
            return session

        return self._write(lambda sdk: sdk.sessions.revoke(session_id=session_id), parse, deadline)

    # --- Requests ----------------------------------------------------------------------------

    def _get(self, path: str, params: Params = (), *, deadline: Deadline) -> object:
        return self._reader.get(path, params, deadline=deadline, pace=self._pace)

    def _get_page(self, params: Params, deadline: Deadline) -> UserPage:
        call = clock.Call()
        data = self._get("/users", params, deadline=deadline)
        if not isinstance(data, list):
            raise ClerkUnknown(_("Clerk's answer cannot be read"))
        return UserPage(data, call.asked_at())

    def _write_user(
        self, clerk_id: str, call: Callable[[ClerkSDK], BaseModel], deadline: Deadline
    ) -> ClerkUser:
        _checked(clerk_id, USER_ID)
        asked = clock.Call()

        def parse(data: object) -> ClerkUser:
            user = ClerkUser.parse(data, asked_at=asked.asked_at())
            if user.id != clerk_id:
                raise ValueError("another user than the one that was written")
            return user

        return self._write(call, parse, deadline)

    def _write(
        self,
        call: Callable[[ClerkSDK], BaseModel],
        parse: Callable[[object], T],
        deadline: Deadline,
    ) -> T:
        try:
            return self._writer.write(call, parse, deadline)
        except ClerkError as error:
            if error.retry_after is not None:
                pause_bulk_work(self._pace, error.retry_after)
            raise


def _saying(**wanted: object) -> Callable[[object], None]:
    """Return a parser that checks values of an answer which has no other use.

    A proxy's page with status 200 does not prove that anything was done.
    """

    def parse(data: object) -> None:
        if not isinstance(data, dict) or any(data.get(key) != wanted[key] for key in wanted):
            raise ValueError("not what Clerk answers")

    return parse


def _checked(value: str, pattern: re.Pattern[str]) -> str:
    """Return the id if it is valid. Raises `ClerkInvalidId`.

    The SDK puts ids into paths unescaped: "../organizations/org_1" would be sent as it is.
    """
    if not pattern.match(value):
        raise ClerkInvalidId(_("The id is not a valid Clerk id"))
    return value


def _parsed(parse: Callable[[object], T], data: object) -> T:
    try:
        return parse(data)
    except ValueError:
        raise ClerkUnknown(_("Clerk's answer cannot be read")) from None


# --- The one client of this process ----------------------------------------------------------

_lock = threading.Lock()
_current: tuple[tuple[object, ...], Clerk] | None = None


def clerk() -> Clerk:
    """Return the client of this process.

    It is made at its first use, and again after a fork or when the settings change.

    Raises `ClerkNotConfigured` if CLERK_SECRET_KEY is missing or is not a valid key.
    """
    global _current
    made_for = (
        os.getpid(),
        settings.CLERK_SECRET_KEY,
        settings.CLERK_API_URL,
        settings.CLERK_API_VERSION,
    )
    current = _current
    if current is not None and current[0] == made_for:
        return current[1]
    with _lock:
        if _current is None or _current[0] != made_for:
            _current = (made_for, _make())
        return _current[1]


@sensitive_variables()
def _make() -> Clerk:
    key = (settings.CLERK_SECRET_KEY or "").strip()
    if not key:
        raise ClerkNotConfigured(str(NOT_CONFIGURED))
    if not key.startswith(("sk_test_", "sk_live_")) or not key.isascii() or len(key.split()) > 1:
        raise ClerkNotConfigured(
            _(
                "{problem}: CLERK_SECRET_KEY is not a valid Clerk secret key (sk_test_… or "
                "sk_live_…)"
            ).format(problem=NOT_CONFIGURED)
        )
    url, version = settings.CLERK_API_URL, settings.CLERK_API_VERSION
    return Clerk(
        Reader(url=url, key=key, version=version), Writer(url=url, key=key, version=version)
    )
