"""The endpoints. Each reads its request and calls one function of `services.front_end`."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from users.api.answers import Rejected, answer, rejection_of
from users.api.endpoint import Asked, endpoint
from users.errors import ChangeFailed, EmailGuarded
from users.models import BuilderUser
from users.sync import messages
from users.sync.services import front_end

INVALID = "Invalid update data: "
FAILED = "Failed to update user: "
REINVITE = (
    "Email changes for existing users require re-invitation for security. Nothing was saved. "
    "Ask a staff member to use Change email."
)
KNOWN_TEXTS = (400, 401, 403, 404, 500)
"""Statuses whose texts get no prefix."""
NAMES = {"firstName": "first_name", "lastName": "last_name"}
COLUMNS = {"name": "name", "email": "email", "builderGroupId": "builder_group"}


@endpoint("POST")
def update_clerk_user(asked: Asked) -> Mapping[str, object]:
    """Change the names of a Clerk account and of its row, and merge into its public metadata."""
    clerk_id = asked.body.get("clerkId")
    if not isinstance(clerk_id, str) or not clerk_id:
        raise Rejected(400, "clerkId is required")
    _require_known(asked.body, {"clerkId", "updates"})
    updates = _object(asked.body, "updates")
    _require_known(updates, {*NAMES, "publicMetadata"})
    given = {NAMES[key]: _text(updates, key) or "" for key in NAMES if key in updates}
    metadata = _object(updates, "publicMetadata")
    try:
        names = front_end.update_account(asked.caller, clerk_id, given=given, metadata=metadata)
    except ChangeFailed as failure:
        raise _named(rejection_of(failure)) from None
    user = {"id": clerk_id, "firstName": names.first or None, "lastName": names.last or None}
    return {"success": True, "user": user}


@endpoint("PATCH", failed={"success": False})
def update_user(asked: Asked, *, user_id: str) -> Mapping[str, object]:
    """Change name, email and group of a row, and the name of its account."""
    _require_known(asked.body, COLUMNS)
    values = {COLUMNS[key]: _text(asked.body, key) for key in COLUMNS if key in asked.body}
    try:
        front_end.update_user(asked.caller, _id(user_id), values=values)
    except EmailGuarded:
        raise Rejected(422, REINVITE, more={"requiresInvitation": True}) from None
    return {"success": True}


@endpoint("POST", failed={"success": False})
def sync_user(asked: Asked) -> Mapping[str, object]:
    """Link the row of the person who asks with their account, and return the row."""
    _require_known(asked.body, ())
    return {"success": True, "user": _shown(front_end.sync(asked.caller))}


@csrf_exempt  # it does nothing
def no_such_endpoint(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Answer 404 in JSON for any other address."""
    return answer({"error": "There is no such endpoint."}, status=404)


def _shown(user: BuilderUser) -> Mapping[str, object]:
    account = getattr(user, "account", None)
    return {
        "id": str(user.pk),
        "clerkId": user.clerk_id,
        "name": user.name,
        "email": user.email,
        "role": user.role,
        "internalRole": user.internal_role,
        "builderGroupId": str(user.builder_group_id) if user.builder_group_id else None,
        "imageUrl": (account.image_url if account else "") or None,
    }


def _named(rejected: Rejected) -> Rejected:
    """Add the prefix that the front end expects to the text."""
    if rejected.status not in KNOWN_TEXTS and not rejected.text.startswith(
        (INVALID, str(messages.INVALID))
    ):
        rejected.text = f"{FAILED}{rejected.text}"
    return rejected


# --- What was sent -------------------------------------------------------------------------------


def _require_known(body: Mapping[str, object], known: Collection[str]) -> None:
    if unknown := sorted(body.keys() - set(known)):
        raise _invalid(f"{unknown[0][:100]} is not a field of this request.")


def _text(body: Mapping[str, object], key: str) -> str | None:
    if isinstance(value := body[key], str | None):
        return value
    raise _invalid(f"{key} must be a text or null.")


def _object(body: Mapping[str, object], key: str) -> Mapping[str, object]:
    """Return the object under a key. Null, or no value, counts as an empty one."""
    value = body.get(key)
    if isinstance(value, dict | None):
        return value or {}
    raise _invalid(f"{key} must be an object.")


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Rejected(404, str(front_end.NO_ROW)) from None


def _invalid(text: str) -> Rejected:
    return Rejected(422, f"{INVALID}{text}")
