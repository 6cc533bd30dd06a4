"""The users of this Clerk, and what its Backend API does with them (FACTS §1.2)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from sandbox.errors import Refusal, invalid, missing_data, problem, taken, too_long
from sandbox.requests import Request, email_address, metadata, required
from sandbox.state import Json, State

NAME_LENGTH = 256
PAGE_DEFAULT, PAGE_MAX = 10, 500
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
    now = state.now()
    kind = {"admin": "verification_admin", "ticket": "verification_ticket"}
    verification: Json = {
        "object": kind.get(strategy, "verification_otp"),
        "status": "verified" if verified else "unverified",
        "strategy": strategy,
        "attempts": None,
        "expire_at": None,
    }
    return {
        "id": state.new_id("idn"),
        "object": "email_address",
        "email_address": address,
        "reserved": False,
        "verification": verification,
        "linked_to": [],
        "matches_sso_connection": False,
        "created_at": now,
        "updated_at": now,
    }


def new_user(state: State, *, emails: list[Json], **fields: Any) -> Json:
    """A user with everything that Clerk's document requires. Stored; the event goes out."""
    now = state.now()
    user: Json = {
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
    state.users[user["id"]] = user
    state.emit("user.created", user)
    return user


# --- Reading -----------------------------------------------------------------------------------


def list_users(state: State, request: Request) -> list[Json]:
    limit = request.number("limit", PAGE_DEFAULT) or PAGE_DEFAULT
    if not 1 <= limit <= PAGE_MAX:
        limit = PAGE_DEFAULT  # as observed: no error, ten rows
    offset = request.number("offset", 0) or 0
    order = request.one("order_by") or "-created_at"
    cursor = request.one("starting_after")
    found = _ordered(_filtered(state, request), order)
    if cursor:
        if order.lstrip("+-") != "created_at":
            raise Refusal(422, invalid("order_by", "starting_after needs order_by created_at."))
        if offset:
            raise Refusal(422, invalid("offset", "offset cannot be used with starting_after."))
        ids = [user["id"] for user in found]
        if cursor in ids:
            found = found[ids.index(cursor) + 1 :]
        elif cursor_user := state.users.get(cursor):
            key = (cursor_user["created_at"], cursor)
            descending = order.startswith("-")
            found = [
                user for user in found if ((user["created_at"], user["id"]) < key) == descending
            ]
        else:
            raise Refusal(422, invalid("starting_after", "starting_after is no user's id."))
    return copy.deepcopy(found[offset : offset + limit])


def count_users(state: State, request: Request) -> Json:
    return {"object": "total_count", "total_count": len(_filtered(state, request))}


def get_user(state: State, request: Request, user_id: str) -> Json:
    return copy.deepcopy(state.user(user_id))


def _filtered(state: State, request: Request) -> list[Json]:
    users = list(state.users.values())
    for name, values in (
        ("email_address", request.many("email_address")),
        ("user_id", request.many("user_id")),
        ("external_id", request.many("external_id")),
        ("username", request.many("username")),
    ):
        if len(values) > 100:
            raise Refusal(
                422, problem("form_param_array_size_exceeded", "has too many", param=name)
            )
        if values:
            users = [user for user in users if _matches(user, name, values)]
    for name, test in _TEXT_FILTERS.items():
        if wanted := (request.one(name) or "").lower():
            users = [user for user in users if any(wanted in text for text in test(user))]
    if banned := request.one("banned"):
        users = [user for user in users if user["banned"] == (banned == "true")]
    for column in ("created_at", "last_active_at", "last_sign_in_at"):
        before, after = request.number(f"{column}_before"), request.number(f"{column}_after")
        if before is not None:
            users = [user for user in users if (user[column] or 0) < before]
        if after is not None:
            users = [user for user in users if (user[column] or 0) > after]
    return users


def _matches(user: Json, name: str, values: list[str]) -> bool:
    if name == "email_address":
        wanted = {value.lower() for value in values}
        return any(email["email_address"].lower() in wanted for email in user["email_addresses"])
    own = user["id"] if name == "user_id" else user[name]
    included = {value.lstrip("+") for value in values if not value.startswith("-")}
    excluded = {value[1:] for value in values if value.startswith("-")}
    return own not in excluded and (not included or own in included)


def _addresses(user: Json) -> list[str]:
    return [email["email_address"].lower() for email in user["email_addresses"]]


def _names(user: Json) -> list[str]:
    return [f"{user['first_name'] or ''} {user['last_name'] or ''}".lower()]


_TEXT_FILTERS: dict[str, Callable[[Json], list[str]]] = {
    "query": lambda user: [*_addresses(user), *_names(user), user["id"].lower()],
    "email_address_query": _addresses,
    "name_query": _names,
    "username_query": lambda user: [(user["username"] or "").lower()],
}


def _ordered(users: list[Json], order: str) -> list[Json]:
    column = order.lstrip("+-")
    keys = ("created_at", "updated_at", "first_name", "last_name", "username",
            "last_active_at", "last_sign_in_at", "email_address")  # fmt: skip
    if column not in keys:
        raise Refusal(422, invalid("order_by", f"order_by must be one of {', '.join(keys)}."))

    def key(user: Json) -> Any:
        if column == "email_address":
            return ((_addresses(user) or [""])[0], user["id"])
        value = user[column]
        return (
            value is not None,
            value or 0 if column.endswith("_at") else value or "",
            user["id"],
        )

    return sorted(users, key=key, reverse=order.startswith("-"))


# --- Writing -----------------------------------------------------------------------------------


def create_user(state: State, request: Request) -> Json:
    fields = request.fields(CREATABLE)
    addresses = [email_address(text) for text in fields.get("email_address") or []]
    if not addresses:
        raise Refusal(422, missing_data("email_address"))
    for address in addresses:
        if any(state.by_address(address)):
            raise Refusal(422, taken())
    _check_plain(state, fields, None)
    if fields.get("password") is not None:
        _check_password(fields)
    elif not fields.get("skip_password_requirement"):
        raise Refusal(422, missing_data("password"))
    user = new_user(
        state,
        emails=[new_email(state, address) for address in addresses],
        **{name: fields[name] for name in PLAIN if fields.get(name) is not None},
        **{name: metadata(fields, name) for name in METADATA},
        password_enabled=fields.get("password") is not None,
        password_last_updated_at=state.now() if fields.get("password") is not None else None,
    )
    return copy.deepcopy(user)


def update_user(state: State, request: Request, user_id: str) -> Json:
    user = state.user(user_id)
    allowed = UPDATABLE if request.version == "2026-05-12" else UPDATABLE | METADATA
    fields = request.fields(allowed)
    _check_plain(state, fields, user)
    if fields.get("password") is not None:
        _check_password(fields)
    if (primary := fields.get("primary_email_address_id")) is not None:
        _set_primary(user, primary)
    for name in PLAIN:
        if name in fields:
            user[name] = fields[name]
    for name in METADATA:
        if name in fields:  # the older version replaces
            user[name] = metadata(fields, name)
    if fields.get("password") is not None:
        user["password_enabled"] = True
        previous = user["password_last_updated_at"] or 0
        user["password_last_updated_at"] = max(state.now(), previous + 1)
    if fields.get("sign_out_of_other_sessions"):
        end_sessions(state, user_id)
    return state.changed(user)


def _check_plain(state: State, fields: Json, user: Json | None) -> None:
    problems = [
        too_long(name, NAME_LENGTH)
        for name in ("first_name", "last_name", "username")
        if len(fields.get(name) or "") > NAME_LENGTH
    ]
    external_id = fields.get("external_id")
    if external_id and any(
        other["external_id"] == external_id for other in state.users.values() if other is not user
    ):
        problems.append(taken("external_id"))
    if problems:
        raise Refusal(422, *problems)


def _check_password(fields: Json) -> None:
    password = fields["password"]
    if fields.get("skip_password_checks"):
        return
    if len(password) < 8:
        text = "Passwords must be 8 characters or more."
        raise Refusal(422, problem("form_password_length_too_short", text, param="password"))
    if len(password.encode()) > 72:
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
    user = state.user(user_id)
    del state.users[user_id]
    for session_id in [s["id"] for s in state.sessions.values() if s["user_id"] == user_id]:
        del state.sessions[session_id]
    deleted = {"object": "user", "id": user_id, "deleted": True}
    if user["external_id"]:
        deleted["external_id"] = user["external_id"]
    state.emit("user.deleted", deleted)
    return deleted


def ban_user(state: State, request: Request, user_id: str) -> Json:
    user = state.user(user_id)
    user["banned"] = True
    end_sessions(state, user_id)
    return state.changed(user)


def unban_user(state: State, request: Request, user_id: str) -> Json:
    user = state.user(user_id)
    user["banned"] = False
    return state.changed(user)


def lock_user(state: State, request: Request, user_id: str) -> Json:
    user = state.user(user_id)
    user |= {"locked": True, "lockout_expires_in_seconds": 3600}
    return state.changed(user)


def unlock_user(state: State, request: Request, user_id: str) -> Json:
    user = state.user(user_id)
    user |= {"locked": False, "lockout_expires_in_seconds": None}
    return state.changed(user)


def disable_mfa(state: State, request: Request, user_id: str) -> Json:
    user = state.user(user_id)
    user |= {"two_factor_enabled": False, "totp_enabled": False, "backup_code_enabled": False,
             "mfa_disabled_at": state.now()}  # fmt: skip
    state.changed(user)
    return {"user_id": user_id}


def merge_metadata(state: State, request: Request, user_id: str) -> Json:
    user = state.user(user_id)
    fields = request.fields(METADATA)
    merged = {name: _merge(user[name] or {}, fields[name] or {}) for name in fields}
    for name in merged:
        metadata(merged, name)
    user |= merged
    return state.changed(user)


def replace_metadata(state: State, request: Request, user_id: str) -> Json:
    user = state.user(user_id)
    fields = request.fields(METADATA)
    user |= {name: metadata(fields, name) for name in fields}
    return state.changed(user)


def _merge(old: Json, new: Json) -> Json:
    """Deep; a key that is null goes."""
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
    """All addresses of the user become one (PUT /users/{id}/email_address)."""
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
    if any(other is not user for other in state.by_address(address)):
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
    return copy.deepcopy(email)


def end_sessions(state: State, user_id: str) -> None:
    for session in state.sessions.values():
        if session["user_id"] == user_id and session["status"] == "active":
            session |= {"status": "revoked", "updated_at": state.now()}


def bulk_ban(state: State, request: Request, banned: bool = True) -> list[Json]:
    ids = required(request.fields({"user_ids": (list,)}), "user_ids")
    if len(ids) > 50:
        raise Refusal(400, problem("bulk_size_exceeded", "At most 50 users at once."))
    one = ban_user if banned else unban_user
    for user_id in ids:
        state.user(user_id)
    return [one(state, request, user_id) for user_id in ids]


def bulk_unban(state: State, request: Request) -> list[Json]:
    return bulk_ban(state, request, banned=False)
