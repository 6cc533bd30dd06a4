"""Build answers with old values: the object as it was before the request."""

from __future__ import annotations

import copy
from typing import Any

from sandbox import emails, invitations, sessions, users
from sandbox.requests import Request
from sandbox.state import Json, State


def before(state: State, route: str, request: Request, ids: dict[str, str]) -> Any:
    """Return the body of the stale answer to a write; None (null) if the object would be new.

    Raises the 404 `Refusal` for an object that does not exist.
    """
    match route, ids:
        case "POST /users/ban" | "POST /users/unban", _:
            return [state.user(user_id) for user_id in users.bulk_ids(request)]
        case "PUT /users/{user_id}/email_address", {"user_id": user_id}:
            return _primary_address(state.user(user_id))
        case "DELETE /users/{user_id}/mfa", {"user_id": user_id}:
            return {"user_id": state.user(user_id)["id"]}
    found = _object(state, request, ids)
    if found and request.method == "DELETE":
        return {"object": found["object"], "id": found["id"], "deleted": False}
    return found


def _object(state: State, request: Request, ids: dict[str, str]) -> Json | None:
    match ids:
        case {"user_id": user_id}:
            return state.user(user_id)
        case {"email_id": email_id}:
            return emails.get_email(state, request, email_id)
        case {"invitation_id": invitation_id}:
            return copy.copy(invitations.find(state, invitation_id))
        case {"session_id": session_id}:
            return copy.copy(sessions.get_session(state, request, session_id))
    return None


def _primary_address(user: Json) -> Json | None:
    primary_id = user["primary_email_address_id"]
    return next((email for email in user["email_addresses"] if email["id"] == primary_id), None)
