"""Sessions: who is signed in."""

from __future__ import annotations

from sandbox.errors import Refusal, missing, not_found
from sandbox.requests import Request
from sandbox.state import Json, State


def list_sessions(state: State, request: Request) -> list[Json]:
    user_id, status = request.one("user_id"), request.one("status")
    if not user_id and not request.one("client_id"):
        raise Refusal(422, missing("user_id"))
    limit, offset = request.number("limit", 10) or 10, request.number("offset", 0) or 0
    found = [
        session
        for session in state.sessions.values()
        if session["user_id"] == user_id and (not status or session["status"] == status)
    ]
    return found[offset : offset + limit]


def get_session(state: State, request: Request, session_id: str) -> Json:
    return _find(state, session_id)


def revoke_session(state: State, request: Request, session_id: str) -> Json:
    session = _find(state, session_id)
    session |= {"status": "revoked", "updated_at": state.now()}
    return session


def sign_in(state: State, user_id: str) -> Json:
    """The person signs in."""
    user = state.user(user_id)
    now = state.now()
    session: Json = {
        "object": "session",
        "id": state.new_id("sess"),
        "user_id": user_id,
        "client_id": state.new_id("client"),
        "status": "active",
        "last_active_at": now,
        "expire_at": now + 7 * 86_400_000,
        "abandon_at": now + 30 * 86_400_000,
        "created_at": now,
        "updated_at": now,
    }
    state.sessions[session["id"]] = session
    user |= {"last_sign_in_at": now, "last_active_at": now}
    state.touch(user)
    state.emit("session.created", session | {"user": user})
    return session


def _find(state: State, session_id: str) -> Json:
    try:
        return state.sessions[session_id]
    except KeyError:
        raise not_found("session", session_id) from None
