"""Handle invitations: create, list, revoke, accept."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

from sandbox.errors import Refusal, invalid, not_found, problem, taken
from sandbox.requests import Request, email_address, metadata, required
from sandbox.state import Json, State
from sandbox.users import check_password, new_email, new_user

DAY = 86_400_000
QUERY = frozenset({"status", "query", "order_by", "limit", "offset", "paginated"})
KEYS = ("created_at", "email_address", "expires_at")
_TEXT, _FLAG = (str,), (bool,)
_FIELDS = {
    "email_address": _TEXT,
    "public_metadata": (dict,),
    "redirect_url": _TEXT,
    "notify": _FLAG,
    "ignore_existing": _FLAG,
    "expires_in_days": (int,),
    "template_slug": _TEXT,
}


def create_invitation(state: State, request: Request) -> Json:
    """Create an invitation and mail it (`POST /invitations`).

    Raises `Refusal` if a user or a pending invitation has the address, unless `ignore_existing` is
    set.
    """
    fields = request.fields(_FIELDS)
    address = email_address(required(fields, "email_address"))
    days = 30 if fields.get("expires_in_days") is None else fields["expires_in_days"]
    if not 1 <= days <= 365:
        raise Refusal(422, invalid("expires_in_days", "expires_in_days must be 1 to 365."))
    if not fields.get("ignore_existing"):
        if state.ids_by_address(address):
            raise Refusal(422, taken())
        if any(_status(state, other) == "pending" and other["email_address"] == address
               for other in state.invitations.values()):  # fmt: skip
            text = (
                "There are already pending invitations for the following email addresses: "
                f"{address}"
            )
            raise Refusal(
                400,
                problem(
                    "duplicate_record", "duplicate invitation", text, email_addresses=[address]
                ),
            )
    now = state.now()
    invitation: Json = {
        "object": "invitation",
        "id": state.new_id("inv"),
        "email_address": address,
        "public_metadata": metadata(fields, "public_metadata"),
        "revoked": False,
        "status": "pending",
        "url": f"https://sandbox.invalid/v1/tickets/accept?ticket={state.new_id('ticket')}",
        "expires_at": now + days * DAY,
        "created_at": now,
        "updated_at": now,
    }
    state.invitations[invitation["id"]] = invitation
    if fields.get("notify") is not False:
        state.mails.append({"to": address, "slug": "invitation",
                            "invitation_id": invitation["id"], "at": now})  # fmt: skip
    return invitation


def list_invitations(state: State, request: Request) -> Any:
    """Return a page of invitations, newest first (`GET /invitations`).

    Without a `status`, revoked invitations are left out.
    """
    status, query = request.one("status"), (request.one("query") or "").lower()
    order = request.one("order_by") or "-created_at"
    column = order.lstrip("+-")
    if column not in KEYS:
        raise Refusal(422, invalid("order_by", f"order_by must be one of {', '.join(KEYS)}."))
    found = []
    for invitation in state.invitations.values():
        shown = invitation | {"status": _status(state, invitation)}
        if shown["status"] != status if status else shown["status"] == "revoked":
            continue
        if query in shown["email_address"] or query in shown["id"].lower():
            found.append(shown)
    found.sort(key=itemgetter(column, "id"), reverse=order.startswith("-"))
    return request.page(found)


def revoke_invitation(state: State, request: Request, invitation_id: str) -> Json:
    """Revoke an invitation (`POST /invitations/{invitation_id}/revoke`).

    Raises `Refusal` if it is accepted or revoked already.
    """
    invitation = find(state, invitation_id)
    if invitation["status"] in ("accepted", "revoked"):
        more = ", try signing in instead" if invitation["status"] == "accepted" else ""
        text = f"Invitation is already {invitation['status']}{more}."
        raise Refusal(400, problem(f"invitation_already_{invitation['status']}", text))
    invitation |= {"status": "revoked", "revoked": True, "updated_at": state.now()}
    return invitation


def accept(
    state: State,
    invitation_id: str,
    first_name: str | None = None,
    last_name: str | None = None,
    password: str | None = None,
) -> Json:
    """Create the user of an invitation, as when the person follows the link in the mail.

    The user is always new, and the invited address is verified. Raises `Refusal` if the invitation
    is not pending, another user has the address, or the password is too weak.
    """
    invitation = find(state, invitation_id)
    if _status(state, invitation) != "pending":
        raise Refusal(400, problem("invitation_not_pending", "This invitation is not pending."))
    if state.ids_by_address(invitation["email_address"]):
        raise Refusal(422, taken())
    if password:
        check_password(password)
    invitation |= {"status": "accepted", "updated_at": state.now()}
    return new_user(
        state,
        emails=[new_email(state, invitation["email_address"], strategy="ticket")],
        first_name=first_name or None,
        last_name=last_name or None,
        public_metadata=invitation["public_metadata"],
        password_enabled=bool(password),
        password_last_updated_at=state.now() if password else None,
    )


def find(state: State, invitation_id: str) -> Json:
    """Return the stored invitation. Raises the 404 `Refusal` for an unknown id."""
    try:
        return state.invitations[invitation_id]
    except KeyError:
        raise not_found("invitation", invitation_id) from None


def _status(state: State, invitation: Json) -> str:
    if invitation["status"] == "pending" and invitation["expires_at"] <= state.now():
        return "expired"
    return str(invitation["status"])
