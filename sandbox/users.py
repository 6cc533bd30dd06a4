"""Handle the users of this Clerk: create, update, delete, ban, lock, metadata."""

from __future__ import annotations

from typing import Any

from sandbox.errors import (
    Refusal,
    invalid,
    missing_data,
    problem,
    required_name,
    taken,
    too_long,
    unknown_param,
    without_param,
    wrong_type,
)
from sandbox.requests import Request, email_address, metadata, required
from sandbox.sessions import end_sessions
from sandbox.state import Json, State

NAME_LENGTH = 256
NAMES = ("first_name", "last_name")
PWNED = {"password", "12345678", "password123", "qwertyuiop", "letmein123"}

_TEXT, _FLAG, _MAP = (str,), (bool,), (dict,)
UPDATABLE: dict[str, Any] = {
    "external_id": _TEXT,
    "first_name": _TEXT,
    "last_name": _TEXT,
    "locale": _TEXT,
    "primary_email_address_id": _TEXT,
    "notify_primary_email_address_changed": _FLAG,
    "primary_phone_number_id": _TEXT,
    "primary_web3_wallet_id": _TEXT,
    "username": _TEXT,
    "profile_image_id": _TEXT,
    "password": _TEXT,
    "password_digest": _TEXT,
    "password_hasher": _TEXT,
    "skip_password_checks": _FLAG,
    "sign_out_of_other_sessions": _FLAG,
    "totp_secret": _TEXT,
    "backup_codes": (list,),
    "delete_self_enabled": _FLAG,
    "create_organization_enabled": _FLAG,
    "legal_accepted_at": _TEXT,
    "skip_legal_checks": _FLAG,
    "create_organizations_limit": (int,),
    "created_at": _TEXT,
    "bypass_client_trust": _FLAG,
}
METADATA: dict[str, Any] = {
    "public_metadata": _MAP,
    "private_metadata": _MAP,
    "unsafe_metadata": _MAP,
}
CREATABLE: dict[str, Any] = {
    **UPDATABLE,
    **METADATA,
    "email_address": (list,),
    "phone_number": (list,),
    "web3_wallet": (list,),
    "skip_password_requirement": _FLAG,
    "skip_user_requirement": _FLAG,
}
PLAIN = (
    "external_id",
    "first_name",
    "last_name",
    "locale",
    "username",
    "delete_self_enabled",
    "create_organization_enabled",
    "create_organizations_limit",
    "bypass_client_trust",
)


def new_email(
    state: State, address: str, *, strategy: str = "admin", verified: bool = True
) -> Json:
    """Return a new email address, which no user has yet."""
    now = state.now()
    kind = {"admin": "verification_admin", "ticket": "verification_ticket"}
    verification: Json = {
        "object": kind.get(strategy, "verification_otp"),
        "status": "verified",
        "strategy": strategy,
        "attempts": None,
        "expire_at": None,
    }
    return {
        "id": state.new_id("idn"),
        "object": "email_address",
        "email_address": address,
        "reserved": False,
        "verification": verification if verified else None,
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": now,
        "updated_at": now,
    }


def built(state: State, *, emails: list[Json], **fields: Any) -> Json:
    """Return an unsaved user with all fields that Clerk's specification requires."""
    now = state.now()
    return {
        "id": state.new_id("user"),
        "object": "user",
        "external_id": None,
        "primary_email_address_id": emails[0]["id"] if emails else None,
        "primary_phone_number_id": None,
        "primary_web3_wallet_id": None,
        "username": None,
        "first_name": None,
        "last_name": None,
        "locale": None,
        "image_url": "https://img.clerk.com/preview.png",
        "profile_image_url": "https://img.clerk.com/preview.png",
        "has_image": False,
        "public_metadata": {},
        "private_metadata": {},
        "unsafe_metadata": {},
        "email_addresses": emails,
        "phone_numbers": [],
        "web3_wallets": [],
        "passkeys": [],
        "password_enabled": False,
        "password_last_updated_at": None,
        "two_factor_enabled": False,
        "totp_enabled": False,
        "backup_code_enabled": False,
        "mfa_enabled_at": None,
        "mfa_disabled_at": None,
        "external_accounts": [],
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": None,
        "banned": False,
        "locked": False,
        "lockout_expires_in_seconds": None,
        "verification_attempts_remaining": 100,
        "created_at": now,
        "updated_at": now,
        "delete_self_enabled": True,
        "create_organization_enabled": True,
        "create_organizations_limit": None,
        "last_active_at": None,
        "legal_accepted_at": None,
        "deprovisioned": False,
        "bypass_client_trust": False,
    } | fields


def person(state: State, *, email: str | None = None, verified: bool = True, **fields: Any) -> Json:
    """Return an unsaved user with one address or none."""
    emails = [new_email(state, email, verified=verified)] if email else []
    return built(state, emails=emails, **fields)


def new_user(state: State, **fields: Any) -> Json:
    """Store a user with the fields of `built`, and emit the event."""
    user = built(state, **fields)
    state.save(user)
    state.emit("user.created", user)
    return user


# --- Writing -----------------------------------------------------------------------------------


def create_user(state: State, request: Request) -> Json:
    """Create a user (`POST /users`).

    Raises `Refusal` without an address or a password, and for values that Clerk does not accept.
    """
    fields = request.fields(CREATABLE)
    addresses = [email_address(text) for text in fields.get("email_address") or []]
    if not addresses:
        raise Refusal(422, missing_data("email_address"))
    for address in addresses:
        if state.ids_by_address(address):
            raise Refusal(422, taken())
    _check_names(state, fields, new=True)
    _check_plain(state, fields, None)
    if fields.get("password") is not None and not fields.get("skip_password_checks"):
        check_password(fields["password"])
    elif fields.get("password") is None and not fields.get("skip_password_requirement"):
        raise Refusal(422, missing_data("password"))
    return new_user(
        state,
        emails=[new_email(state, address) for address in addresses],
        **{name: fields[name] for name in PLAIN if fields.get(name) is not None},
        **{name: metadata(fields, name) for name in METADATA},
        password_enabled=fields.get("password") is not None,
        password_last_updated_at=state.now() if fields.get("password") is not None else None,
    )


def update_user(state: State, request: Request, user_id: str) -> Json:
    """Change a user (`PATCH /users/{user_id}`).

    A new password gets a new time. With `sign_out_of_other_sessions`, all sessions end.

    Raises `Refusal` for values that Clerk does not accept.
    """
    user = state.user(user_id)
    allowed = UPDATABLE if request.version == "2026-05-12" else UPDATABLE | METADATA
    fields = request.fields(allowed)
    _check_names(state, fields, new=False)
    _check_plain(state, fields, user)
    if fields.get("password") is not None and not fields.get("skip_password_checks"):
        check_password(fields["password"])
    if (primary := fields.get("primary_email_address_id")) is not None:
        _set_primary(user, primary)
    for name in PLAIN:
        if name in fields:
            user[name] = fields[name]
    for name in METADATA:
        if name in fields:  # the older API version replaces metadata
            user[name] = metadata(fields, name)
    if fields.get("password") is not None:
        user["password_enabled"] = True
        previous = user["password_last_updated_at"] or 0
        user["password_last_updated_at"] = max(state.now(), previous + 1)
    state.changed(user)
    if fields.get("sign_out_of_other_sessions"):
        end_sessions(state, user_id, "ended")
    return user


def _check_names(state: State, fields: Json, *, new: bool) -> None:
    """Raise the `Refusal` of names that the instance does not accept; see `Instance.names`."""
    sent = [name for name in NAMES if name in fields]
    problems = []
    match state.instance.names:
        case "off":
            problems = [unknown_param(name) for name in sent]
        case "off_without_param":
            problems = [without_param(unknown_param(name)) for name in sent]
        case "both_required":
            wanted = NAMES if new else sent
            problems = [required_name(name) for name in wanted if not fields.get(name)]
    if problems:
        raise Refusal(422, *problems)


def _check_plain(state: State, fields: Json, user: Json | None) -> None:
    problems = [
        too_long(name, NAME_LENGTH)
        for name in ("first_name", "last_name", "username")
        if len(fields.get(name) or "") > NAME_LENGTH
    ]
    external_id = fields.get("external_id")
    if external_id and any(
        other["external_id"] == external_id and other["id"] != (user or {}).get("id")
        for other in state.mentioning(external_id)
    ):
        problems.append(taken("external_id"))
    if problems:
        raise Refusal(422, *problems)


def check_password(password: str) -> None:
    """Check a password against Clerk's policy. Raises `Refusal` if it is too weak or too long."""
    if len(password) < 8:
        text = "Passwords must be 8 characters or more."
        raise Refusal(422, problem("form_password_length_too_short", text, param="password"))
    if len(password.encode("utf-8", "surrogatepass")) > 72:
        text = "Passwords must be 72 bytes or less."
        raise Refusal(422, problem("form_password_size_in_bytes_exceeded", text, param="password"))
    if password.lower() in PWNED:
        text = (
            "Password has been found in an online data breach. "
            "For account safety, please use a different password."
        )
        raise Refusal(422, problem("form_password_pwned", text, param="password"))


def _set_primary(user: Json, email_id: str) -> None:
    for email in user["email_addresses"]:
        verification = email["verification"] or {}
        if email["id"] == email_id and verification.get("status") == "verified":
            user["primary_email_address_id"] = email_id
            return
    text = "primary_email_address_id must be a verified address of the user."
    raise Refusal(422, invalid("primary_email_address_id", text))


def delete_user(state: State, request: Request, user_id: str) -> Json:
    """Delete a user and their sessions, and emit the event (`DELETE /users/{user_id}`)."""
    user = state.user(user_id)
    state.remove(user)
    for session_id in [s["id"] for s in state.sessions.values() if s["user_id"] == user_id]:
        del state.sessions[session_id]
    deleted = {"object": "user", "id": user_id, "deleted": True}
    if user["external_id"]:
        deleted["external_id"] = user["external_id"]
    state.emit("user.deleted", deleted)
    return deleted


def ban_user(state: State, request: Request, user_id: str) -> Json:
    """Ban a user and end their sessions (`POST /users/{user_id}/ban`)."""
    user = state.user(user_id)
    user["banned"] = True
    state.changed(user)
    end_sessions(state, user_id, "revoked")
    return user


def unban_user(state: State, request: Request, user_id: str) -> Json:
    """Lift the ban of a user (`POST /users/{user_id}/unban`)."""
    user = state.user(user_id)
    user["banned"] = False
    return state.changed(user)


def lock_user(state: State, request: Request, user_id: str) -> Json:
    """Lock a user (`POST /users/{user_id}/lock`). The lock does not expire by itself."""
    user = state.user(user_id)
    user |= {"locked": True, "lockout_expires_in_seconds": 3600}
    return state.changed(user)


def unlock_user(state: State, request: Request, user_id: str) -> Json:
    """Unlock a user (`POST /users/{user_id}/unlock`)."""
    user = state.user(user_id)
    user |= {"locked": False, "lockout_expires_in_seconds": None}
    return state.changed(user)


def disable_mfa(state: State, request: Request, user_id: str) -> Json:
    """Turn off all second factors of a user (`DELETE /users/{user_id}/mfa`)."""
    user = state.user(user_id)
    user |= {"two_factor_enabled": False, "totp_enabled": False, "backup_code_enabled": False,
             "mfa_disabled_at": state.now()}  # fmt: skip
    state.changed(user)
    return {"user_id": user_id}


def merge_metadata(state: State, request: Request, user_id: str) -> Json:
    """Merge metadata into that of the user (`PATCH /users/{user_id}/metadata`).

    Raises `Refusal` if the merged metadata is too large.
    """
    user = state.user(user_id)
    fields = request.fields(METADATA)
    merged = {name: _merge(user[name] or {}, fields[name] or {}) for name in fields}
    for name in merged:
        metadata(merged, name)
    user |= merged
    return state.changed(user)


def replace_metadata(state: State, request: Request, user_id: str) -> Json:
    """Replace the metadata that the body names (`PUT /users/{user_id}/metadata`)."""
    user = state.user(user_id)
    fields = request.fields(METADATA)
    user |= {name: metadata(fields, name) for name in fields}
    return state.changed(user)


def _merge(old: Json, new: Json) -> Json:
    """Merge nested objects. A null value deletes its key."""
    merged = dict(old)
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def replace_email(state: State, request: Request, user_id: str) -> Json:
    """Replace all addresses of a user by one (`PUT /users/{user_id}/email_address`).

    Raises `Refusal` if another user has the address, or a connected account holds an old one.
    """
    user = state.user(user_id)
    fields = request.fields(
        {
            "email_address": _TEXT,
            "identification_status": _TEXT,
            "notify_primary_email_address_changed": _FLAG,
        }
    )
    address = email_address(required(fields, "email_address"))
    status = fields.get("identification_status") or "verified"
    if status not in ("verified", "reserved", "unverified"):
        raise Refusal(422, invalid("identification_status", "identification_status is not valid."))
    if any(other != user_id for other in state.ids_by_address(address)):
        raise Refusal(422, taken())
    if any(email["linked_to"] for email in user["email_addresses"]):
        text = "You cannot delete an identification that is linked to a connected account."
        raise Refusal(400, problem("delete_linked_identification_disallowed", text))
    previous = [email["email_address"] for email in user["email_addresses"]]
    email = new_email(state, address, verified=status == "verified")
    email["reserved"] = status == "reserved"
    user["email_addresses"] = [email]
    user["primary_email_address_id"] = email["id"]
    if fields.get("notify_primary_email_address_changed") and previous:
        state.mails.append({"to": previous[0], "slug": "primary_email_address_changed",
                            "user_id": user_id, "at": state.now()})  # fmt: skip
    state.changed(user)
    return email


def bulk_ban(state: State, request: Request, banned: bool = True) -> list[Json]:
    """Ban or unban up to 50 users (`POST /users/ban`).

    Raises `Refusal` for an unknown id before any user is changed.
    """
    ids = bulk_ids(request)
    one = ban_user if banned else unban_user
    for user_id in ids:
        state.user(user_id)
    return [one(state, request, user_id) for user_id in ids]


def bulk_ids(request: Request) -> list[str]:
    """Return the user ids of a bulk request. Raises `Refusal` for more than 50."""
    ids: list[str] = required(request.fields({"user_ids": (list,)}), "user_ids")
    if not all(isinstance(user_id, str) for user_id in ids):
        raise Refusal(422, wrong_type("user_ids"))
    if len(ids) > 50:
        raise Refusal(400, problem("bulk_size_exceeded", "At most 50 users at once."))
    return ids


def bulk_unban(state: State, request: Request) -> list[Json]:
    """Lift the ban of up to 50 users (`POST /users/unban`)."""
    return bulk_ban(state, request, banned=False)
