"""Change an account as its person does, outside the Backend API."""

from __future__ import annotations

from typing import Any

from sandbox.errors import Refusal, problem, taken, too_long
from sandbox.requests import email_address
from sandbox.sessions import end_sessions
from sandbox.state import Json, State
from sandbox.users import NAME_LENGTH, new_email

GOOGLE = "oauth_google"


def edit(state: State, user_id: str, *, email: str | None = None, **fields: Any) -> Json:
    """Change fields of a user, and emit the event.

    `email` is a new address that the person verified. It replaces all addresses except those that a
    connected account holds. A ban ends the sessions.
    """
    user = state.user(user_id)
    if email:
        kept = [entry for entry in user["email_addresses"] if entry["linked_to"]]
        entry = new_email(state, email, strategy="email_code")
        user["email_addresses"] = [*kept, entry]
        user["primary_email_address_id"] = entry["id"]
    changed = state.changed(user | fields)
    if changed["banned"]:
        end_sessions(state, user_id, "revoked")
    return changed


def edit_checked(
    state: State, user_id: str, *, first_name: str, last_name: str, email: str = ""
) -> Json:
    """Change names and email with the checks of Clerk's own profile page.

    Raises `Refusal` for a name that is too long and for an address that another user has.
    """
    for name, value in (("first_name", first_name), ("last_name", last_name)):
        if len(value) > NAME_LENGTH:
            raise Refusal(422, too_long(name, NAME_LENGTH))
    if email:
        email = email_address(email.strip())
        if any(other != user_id for other in state.ids_by_address(email)):
            raise Refusal(422, taken())
    names = {"first_name": first_name.strip() or None, "last_name": last_name.strip() or None}
    return edit(state, user_id, email=email or None, **names)


def link_google(state: State, user_id: str) -> Json:
    """Connect a Google account with the person's primary address.

    Raises `Refusal` if one is connected already, or if there is no address.
    """
    user = state.user(user_id)
    email = _primary(user)
    if any(link["type"] == GOOGLE for link in email["linked_to"]):
        raise Refusal(400, problem("oauth_account_already_connected", "Already connected."))
    now, identification_id = state.now(), state.new_id("idn")
    email["linked_to"].append({"type": GOOGLE, "id": identification_id})
    user["external_accounts"].append(
        {
            "object": "external_account",
            "id": state.new_id("eac"),
            "provider": GOOGLE,
            "identification_id": identification_id,
            "provider_user_id": state.new_id("google"),
            "approved_scopes": "email openid profile",
            "email_address": email["email_address"],
            "email_address_verified": True,
            "first_name": user["first_name"] or "",
            "last_name": user["last_name"] or "",
            "avatar_url": "",
            "image_url": "https://img.clerk.com/preview.png",
            "username": None,
            "phone_number": None,
            "public_metadata": {},
            "label": None,
            "created_at": now,
            "updated_at": now,
            "verification": {
                "object": "verification_oauth",
                "status": "verified",
                "strategy": GOOGLE,
                "attempts": None,
                "expire_at": now + 600_000,
            },
        }
    )
    return state.changed(user)


def unlink_google(state: State, user_id: str) -> Json:
    """Disconnect all Google accounts of the person."""
    user = state.user(user_id)
    user["external_accounts"] = [a for a in user["external_accounts"] if a["provider"] != GOOGLE]
    for email in user["email_addresses"]:
        email["linked_to"] = [link for link in email["linked_to"] if link["type"] != GOOGLE]
    return state.changed(user)


def _primary(user: Json) -> Json:
    for email in user["email_addresses"]:
        if email["id"] == user["primary_email_address_id"]:
            return email
    text = "An account without an email address cannot be connected."
    raise Refusal(422, problem("form_data_missing", "Missing data", text))
