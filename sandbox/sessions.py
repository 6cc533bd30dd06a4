"""Handle sessions: list, read, revoke, sign in."""

from __future__ import annotations

from typing import Any

from sandbox.errors import Refusal, invalid, missing, not_found
from sandbox.requests import Request
from sandbox.state import Json, State

QUERY = frozenset({"client_id", "user_id", "status", "limit", "offset", "paginated"})

ENDED = ("abandoned", "ended", "expired", "removed", "replaced", "revoked")
STATUSES = ("active", *ENDED)
"""The values of the filter. A session can be "pending" too, but the filter does not know that."""

ACTIVITY: Json = {
    "object": "session_activity",
    "device_type": "Macintosh",
    "is_mobile": False,
    "browser_name": "Chrome",
    "browser_version": "140.0.0.0",
    "ip_address": "203.0.113.7",
    "city": "Denver",
    "country": "US",
}


def list_sessions(state: State, request: Request) -> Any:
    """Return a page of sessions, newest first (`GET /sessions`).

    Raises `Refusal` for an unknown status, and unless the query names a user or a client.
    """
    wanted = {
        name: value for name in ("user_id", "client_id", "status") if (value := request.one(name))
    }
    if not wanted.keys() & {"user_id", "client_id"}:
        raise Refusal(422, missing("user_id"))
    if "status" in wanted and wanted["status"] not in STATUSES:
        raise Refusal(422, invalid("status", f"status must be one of {', '.join(STATUSES)}."))
    found = [
        session
        for session in reversed(state.sessions.values())
        if all(session[name] == value for name, value in wanted.items())
    ]
    return request.page(found)


def get_session(state: State, request: Request, session_id: str) -> Json:
    """Return a session (`GET /sessions/{session_id}`)."""
    try:
        return state.sessions[session_id]
    except KeyError:
        raise not_found("session", session_id) from None


def revoke_session(state: State, request: Request, session_id: str) -> Json:
    """End a session (`POST /sessions/{session_id}/revoke`). An ended session stays as it is."""
    session = get_session(state, request, session_id)
    _end(state, session, "revoked")
    return session


def end_sessions(state: State, user_id: str, status: str) -> None:
    """End all active and pending sessions of a user, with an event for each.

    `status` is "revoked" by Clerk, "ended" after a new password, and "removed" after a sign-out.
    """
    for session in state.sessions.values():
        if session["user_id"] == user_id:
            _end(state, session, status)


def sign_in(state: State, user_id: str, *, pending: bool = False, **activity: Any) -> Json:
    """Sign the person in: create an active session, and emit the event.

    With `pending`, the person has yet to set up a second factor, and is not signed in until then.
    `activity` replaces fields of the session's `latest_activity`: the device and the place.
    """
    user = state.user(user_id)
    now = state.now()
    session: Json = {
        "object": "session",
        "id": state.new_id("sess"),
        "user_id": user_id,
        "client_id": state.new_id("client"),
        "actor": None,
        "status": "pending" if pending else "active",
        "last_active_organization_id": None,
        "last_active_at": now,
        "latest_activity": ACTIVITY | {"id": state.new_id("sess_activity")} | activity,
        "expire_at": now + 7 * 86_400_000,
        "abandon_at": now + 30 * 86_400_000,
        "created_at": now,
        "updated_at": now,
        "tasks": [{"key": "setup-mfa"}] if pending else None,
    }
    state.sessions[session["id"]] = session
    if not pending:
        user |= {"last_sign_in_at": now, "last_active_at": now}
        state.touch(user)
    state.emit("session.pending" if pending else "session.created", session | {"user": user})
    return session


def _end(state: State, session: Json, status: str) -> None:
    if session["status"] not in ENDED:
        session |= {"status": status, "updated_at": state.now()}
        state.emit(f"session.{status}", session | {"user": state.user(session["user_id"])})
