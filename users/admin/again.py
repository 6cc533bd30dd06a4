"""*Save again*: open a page with what its author typed into a change that was not saved."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from users.models import Invitation, OperationKind, SyncAttempt
from users.sync.access import permissions

PAGES: dict[str, str] = {
    OperationKind.CREATE: "add",
    OperationKind.CREATE_INVITED: "add",
    OperationKind.DELETE: "delete",
    OperationKind.REPLACE_EMAIL: "email",
    OperationKind.SET_PASSWORD: "password",
    OperationKind.INVITE: "invite",
    OperationKind.BAN: "ban",
    OperationKind.UNBAN: "unban",
    OperationKind.UNLOCK: "unlock",
    OperationKind.RESET_MFA: "reset_mfa",
    OperationKind.SIGN_OUT: "sign_out",
    OperationKind.END_SESSION: "sessions",
    OperationKind.CREATE_ACCOUNT: "create_account",
    OperationKind.LINK: "link",
    OperationKind.UNLINK: "unlink",
}
"""Maps a kind of change to its page. All other kinds are made on the form of the user."""


def again_url(request: HttpRequest, attempt: SyncAttempt) -> str:
    """Return the address of the page; "" if this person may not use it, or the user is deleted."""
    page = PAGES.get(attempt.operation, "change")
    if _is_change_of_email(attempt):
        page = "email"
    if not _may_be_made(request, attempt):
        return ""
    if page != "add" and attempt.user is None:
        return ""
    args = [] if page == "add" else [attempt.user_id]
    query = urlencode({"again": attempt.pk})
    return f"{reverse(f'admin:users_builderuser_{page}', args=args)}?{query}"


def _may_be_made(request: HttpRequest, attempt: SyncAttempt) -> bool:
    kind, account = OperationKind(attempt.operation), attempt.details.get("account", "")
    return permissions.may(request.user, kind, attempt.user, wanted=typed(attempt), account=account)


def again_of(
    request: HttpRequest,
    kinds: Iterable[OperationKind] | None = None,
    *,
    user_id: UUID | None = None,
) -> SyncAttempt | None:
    """Find the change that the address names.

    Return None unless this person made it, and it is of one of `kinds` and of this user.
    """
    named = request.GET.get("again", "")
    if not (named.isascii() and named.isdigit() and len(named) < 19):
        return None
    attempts = SyncAttempt.objects.filter(pk=int(named), actor_id=request.user.pk)
    if kinds is not None:
        attempts = attempts.filter(operation__in=list(kinds))
    if user_id is not None:
        attempts = attempts.filter(user_id=user_id)
    return attempts.first()


def typed(attempt: SyncAttempt | None) -> dict[str, str]:
    """Return the values that the author of the attempt wanted, by field."""
    if attempt is None:
        return {}
    return {
        field: "" if after is None else str(after) for field, (_, after) in attempt.changes.items()
    }


def _is_change_of_email(attempt: SyncAttempt) -> bool:
    invitation = attempt.details.get("invitation") or {}
    return (
        attempt.operation == OperationKind.INVITE
        and invitation.get("purpose") == Invitation.Purpose.EMAIL_CHANGE
    )
