"""Handle email addresses of users: create, read, update, delete."""

from __future__ import annotations

from sandbox.errors import Refusal, not_found, problem, taken
from sandbox.requests import Request, email_address, required
from sandbox.state import Json, State
from sandbox.users import new_email

_TEXT, _FLAG = (str,), (bool,)


def create_email(state: State, request: Request) -> Json:
    """Add an address to a user (`POST /email_addresses`).

    The first address becomes the primary one. Raises `Refusal` if a user already has the address.
    """
    fields = request.fields(
        {
            "user_id": _TEXT,
            "email_address": _TEXT,
            "verified": _FLAG,
            "primary": _FLAG,
            "notify_primary_email_address_changed": _FLAG,
        }
    )
    user = state.user(required(fields, "user_id"))
    address = email_address(required(fields, "email_address"))
    if state.ids_by_address(address):
        raise Refusal(422, taken())
    email = new_email(state, address, verified=bool(fields.get("verified")))
    user["email_addresses"].append(email)
    if fields.get("primary") or user["primary_email_address_id"] is None:
        user["primary_email_address_id"] = email["id"]
    state.changed(user)
    return email


def get_email(state: State, request: Request, email_id: str) -> Json:
    """Return an address (`GET /email_addresses/{email_id}`)."""
    return _find(state, email_id)[1]


def update_email(state: State, request: Request, email_id: str) -> Json:
    """Change whether an address is verified or primary (`PATCH /email_addresses/{email_id}`)."""
    fields = request.fields(
        {"verified": _FLAG, "primary": _FLAG, "notify_primary_email_address_changed": _FLAG}
    )
    user, email = _find(state, email_id)
    if fields.get("verified") is not None:
        email["verification"] = new_email(
            state, email["email_address"], verified=fields["verified"]
        )["verification"]
    if fields.get("primary"):
        user["primary_email_address_id"] = email_id
    state.changed(user)
    return email


def delete_email(state: State, request: Request, email_id: str) -> Json:
    """Delete an address (`DELETE /email_addresses/{email_id}`).

    Another address becomes primary if necessary. Raises `Refusal` for the last address of a user
    and for one that a connected account holds.
    """
    user, email = _find(state, email_id)
    if len(user["email_addresses"]) == 1:
        text = "You cannot delete your last identification."
        raise Refusal(400, problem("identification_deletion_failed", "Deletion failed", text))
    if email["linked_to"]:
        text = "You cannot delete an identification that is linked to a connected account."
        raise Refusal(400, problem("delete_linked_identification_disallowed", text))
    user["email_addresses"].remove(email)
    if user["primary_email_address_id"] == email_id:
        user["primary_email_address_id"] = user["email_addresses"][0]["id"]
    state.changed(user)
    return {"object": "email_address", "id": email_id, "deleted": True}


def _find(state: State, email_id: str) -> tuple[Json, Json]:
    for user in state.mentioning(email_id):
        for email in user["email_addresses"]:
            if email["id"] == email_id:
                return user, email
    raise not_found("email address", email_id)
