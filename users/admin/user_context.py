"""What the form of a user shows beside its fields: the account, its actions, pending changes."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _

from users.admin.account_pages import CHANGES_OF_EMAIL
from users.admin.actions import PULLS, PUSHES, actions_for, withheld_from
from users.admin.clerk_panel import Panel, doubt_of, not_compared, panel
from users.admin.offers import of_discard
from users.admin.timeline import timeline_of
from users.admin.user_pages import why_not
from users.admin.wanted import groups_of, wanted_of
from users.models import BuilderUser, OperationKind, SyncAttempt
from users.sync.access import permissions
from users.sync.actors import author_of
from users.sync.mirror.overview import state_of
from users.sync.outbound import pending
from users.sync.services import invitations


def context_of(
    request: HttpRequest, user: BuilderUser, *, may_change: bool, may_delete: bool
) -> dict[str, object]:
    """Return the context of the templates beside the form. `user` is as stored now."""
    opens_changes = request.user.has_perm("users.view_syncattempt")
    state = state_of(user)
    return {
        **panel_of(request, user, may_change=may_change),
        "state": state,
        "not_compared": not_compared(user, state),
        "timeline": timeline_of(user, linked=opens_changes),
        "danger_actions": [
            (action, url) for action, url in actions_for(request, user) if action.danger
        ],
        "may_delete": may_delete,
        "show_delete": False,  # the danger zone has the link
        **_pending_of(request, user),
    }


def panel_of(request: HttpRequest, user: BuilderUser, *, may_change: bool) -> dict[str, object]:
    """Return the context of the panel and of the sign-in."""
    compared = panel(user)
    gone = compared is not None and compared.account.deleted_at is not None
    return {
        "stored": user,
        "panel": compared,
        "doubt": doubt_of(user),
        "may_change": may_change,
        "may_push": [
            field
            for field, kind in PUSHES.items()
            if not gone and permissions.may(request.user, kind, user)
        ],
        "may_pull": [
            field
            for field, kind in PULLS.items()
            if permissions.may(request.user, kind, user, wanted={field: None})
        ],
        "may_change_email": not why_not(request, user, *CHANGES_OF_EMAIL),
        "may_set_password": not _why_no_password(request, user),
        "dashboard": settings.CLERK_DASHBOARD_URL,
        "sign_in_actions": [
            (action, url) for action, url in actions_for(request, user) if not action.danger
        ],
        "withheld": [*_withheld(request, user), *_copies_withheld(request, user, compared)],
        "may_link": permissions.may(request.user, OperationKind.LINK, user),
        "invitation": invitations.open_of(user),
        "may_invite": permissions.may(request.user, OperationKind.INVITE, user),
    }


def _withheld(request: HttpRequest, user: BuilderUser) -> list[tuple[str, str]]:
    """List what the sign-in and the danger zone do not offer to this person, and why."""
    own = {
        _("Change email"): why_not(request, user, *CHANGES_OF_EMAIL),
        _("Set password"): _why_no_password(request, user),
        _("Link to a Clerk account"): why_not(request, user, OperationKind.LINK),
        _("Delete"): why_not(request, user, OperationKind.DELETE),
    }
    return [*((label, why) for label, why in own.items() if why), *withheld_from(request, user)]


def _copies_withheld(
    request: HttpRequest, user: BuilderUser, compared: Panel | None
) -> list[tuple[str, str]]:
    """List the copies of values that differ which this person may not make, and why."""
    rows = [row for row in compared.rows if row.can_push] if compared else []
    reasons = [
        (
            _("Copy to Clerk ({field})").format(field=row.label.lower()),
            why_not(request, user, PUSHES[row.field]),
        )
        for row in rows
    ] + [
        (
            _("Copy from Clerk ({field})").format(field=row.label.lower()),
            why_not(request, user, PULLS[row.field], wanted={row.field: None}),
        )
        for row in rows
        if row.differs
    ]
    return [(label, why) for label, why in reasons if why]


def _why_no_password(request: HttpRequest, user: BuilderUser) -> str:
    """Say why this person cannot set a password for a user; "" if they can."""
    if not user.linked:
        return _("Not connected to a Clerk account.")
    return why_not(request, user, OperationKind.SET_PASSWORD)


def _pending_of(request: HttpRequest, user: BuilderUser) -> dict[str, object]:
    """Return the pending changes of a user, and whether this person may discard them.

    Each change has who wanted what, and when Clerk is asked again.
    """
    attempts = SyncAttempt.objects.pending().filter(user=user).select_related("actor")
    checks = pending.next_checks(attempts.order_by("id"))
    groups = groups_of(attempt for attempt, _ in checks)
    shown = [
        {
            "attempt": attempt,
            "who": author_of(attempt),
            "wanted": wanted_of(attempt, groups),
            "checked_at": checked_at,
        }
        for attempt, checked_at in checks
    ]
    return {"pending_attempts": shown, "discard": of_discard(request, user, checks)}
