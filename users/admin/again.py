"""*Save again*: a page that opens with what its author had typed into a change that was not
saved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from users.models import Invitation, SyncAttempt
from users.models import Operation as Kind

CREATES = (Kind.CREATE, Kind.CREATE_INVITED)

_FORM = ("change", "users.change_builderuser")

PAGES: dict[str, tuple[str, str]] = {
    Kind.CREATE: ("add", "users.add_builderuser"),
    Kind.CREATE_INVITED: ("add", "users.add_builderuser"),
    Kind.DELETE: ("delete", "users.delete_builderuser"),
    Kind.REPLACE_EMAIL: ("email", "users.replace_email"),
    Kind.SET_PASSWORD: ("password", "users.change_builderuser"),
    Kind.INVITE: ("invite", "users.invite"),
    Kind.BAN: ("ban", "users.ban"),
    Kind.UNBAN: ("unban", "users.ban"),
    Kind.UNLOCK: ("unlock", "users.unlock"),
    Kind.RESET_MFA: ("reset_mfa", "users.reset_mfa"),
    Kind.SIGN_OUT: ("sign_out", "users.sign_out"),
    Kind.LINK: ("link", "users.link"),
    Kind.UNLINK: ("unlink", "users.link"),
}
"""By the kind of change: the page where it is made, and the permission that it needs. All others
are made on the form of the user."""


def again_url(request: HttpRequest, attempt: SyncAttempt) -> str:
    """Give the address of the page; "" if this person may not use it, or the user is gone."""
    page, permission = PAGES.get(attempt.operation, _FORM)
    if _is_change_of_email(attempt):
        page = "email"
    if not request.user.has_perm(permission):
        return ""
    if page != "add" and attempt.user is None:
        return ""
    args = [] if page == "add" else [attempt.user_id]
    query = urlencode({"again": attempt.pk})
    return f"{reverse(f'admin:users_builderuser_{page}', args=args)}?{query}"


def again_of(
    request: HttpRequest, kinds: Iterable[Kind] | None = None, *, user_id: UUID | None = None
) -> SyncAttempt | None:
    """Find the change that the address names, if this person made it, of this user."""
    named = request.GET.get("again", "")
    if not (named.isascii() and named.isdigit() and len(named) < 19):
        return None
    attempts = SyncAttempt.objects.filter(pk=int(named), actor_id=request.user.pk)
    if kinds is not None:
        attempts = attempts.filter(operation__in=list(kinds))
    if user_id is not None:
        attempts = attempts.filter(user_id=user_id)
    return attempts.first()


def typed(attempt: SyncAttempt | None) -> dict[str, Any]:
    """Return the values that its author wanted, by field."""
    if attempt is None:
        return {}
    return {field: after for field, (_, after) in attempt.changes.items()}


def _is_change_of_email(attempt: SyncAttempt) -> bool:
    invitation = attempt.details.get("invitation") or {}
    return (
        attempt.operation == Kind.INVITE
        and invitation.get("purpose") == Invitation.Purpose.EMAIL_CHANGE
    )
