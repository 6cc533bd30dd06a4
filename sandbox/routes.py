"""Map requests to the handlers of Clerk's Backend API."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sandbox import emails, instance, invitations, listing, sessions, users
from sandbox.errors import Refusal, lacking, problem

Handler = Callable[..., Any]

ROUTES: dict[str, Handler] = {
    "GET /instance": instance.get_instance,
    "GET /users": listing.list_users,
    "GET /users/count": listing.count_users,
    "POST /users": users.create_user,
    "POST /users/ban": users.bulk_ban,
    "POST /users/unban": users.bulk_unban,
    "GET /users/{user_id}": listing.get_user,
    "PATCH /users/{user_id}": users.update_user,
    "DELETE /users/{user_id}": users.delete_user,
    "POST /users/{user_id}/ban": users.ban_user,
    "POST /users/{user_id}/unban": users.unban_user,
    "POST /users/{user_id}/lock": users.lock_user,
    "POST /users/{user_id}/unlock": users.unlock_user,
    "DELETE /users/{user_id}/mfa": users.disable_mfa,
    "PATCH /users/{user_id}/metadata": users.merge_metadata,
    "PUT /users/{user_id}/metadata": users.replace_metadata,
    "PUT /users/{user_id}/email_address": users.replace_email,
    "POST /email_addresses": emails.create_email,
    "GET /email_addresses/{email_id}": emails.get_email,
    "PATCH /email_addresses/{email_id}": emails.update_email,
    "DELETE /email_addresses/{email_id}": emails.delete_email,
    "POST /invitations": invitations.create_invitation,
    "GET /invitations": invitations.list_invitations,
    "POST /invitations/{invitation_id}/revoke": invitations.revoke_invitation,
    "GET /sessions": sessions.list_sessions,
    "GET /sessions/{session_id}": sessions.get_session,
    "POST /sessions/{session_id}/revoke": sessions.revoke_session,
}


QUERIES: dict[str, frozenset[str]] = {
    "GET /users": listing.FILTERS | listing.PAGES,
    "GET /users/count": listing.FILTERS,
    "GET /invitations": invitations.QUERY,
    "GET /sessions": sessions.QUERY,
}
"""The query parameters of a route. The other routes have none."""

EVERYWHERE = "__clerk_api_version"


def _pattern(route: str, identifier: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", rf"(?P<\1>{identifier})", route) + r"\Z")


_PATTERNS = [(route, _pattern(route, "[^/ ]+")) for route in ROUTES]
_MALFORMED = [_pattern(route, "[^/]*") for route in ROUTES]


def find(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    """Return the route of a request, e.g. "PATCH /users/{user_id}", and the ids in its path.

    Return None if the sandbox has no such route.
    """
    for route, pattern in _PATTERNS:
        if match := pattern.match(f"{method} {path}"):
            return route, match.groupdict()
    return None


def checked(method: str, path: str, query: list[tuple[str, str]]) -> tuple[str, dict[str, str]]:
    """Return the route and the ids of a request that is to be answered.

    Raises the 404 `Refusal` for a malformed id. Raises the 501 `Refusal` for a route or a parameter
    that the sandbox does not have.
    """
    request = f"{method} {path}"
    found = find(method, path)
    if found is None:
        if any(pattern.match(request) for pattern in _MALFORMED):
            raise Refusal(404, problem("resource_not_found", "not found", "Resource not found"))
        raise lacking(f"the route {request}")
    route, _ = found
    known = QUERIES.get(route, frozenset())
    for name, _ in query:
        if name not in known and name != EVERYWHERE:
            raise lacking(f"the parameter {name} of {route}")
    return found
