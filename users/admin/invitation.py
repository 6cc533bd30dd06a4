"""The admin of invitations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from users.admin.base import ReadOnlyAdmin
from users.admin.columns import Column, Shown, opens_users, time_of, user_column
from users.admin.holder import holder_link
from users.admin.one_time import token_of
from users.errors import ChangeFailed
from users.models import Invitation, InvitationStatus, OperationKind
from users.sync.access import permissions
from users.sync.outbound.dual_write import Saved
from users.sync.services import invitations, unseen

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

ACTIONS: dict[
    str,
    tuple[StrOrPromise, Callable[..., Saved | invitations.Invited], StrOrPromise, StrOrPromise],
] = {
    "resend": (
        _("Send again"),
        invitations.resend,
        _(
            "The invitation that was sent is revoked, and Clerk mails a new one to the same "
            "address."
        ),
        _("A new invitation is on its way."),
    ),
    "revoke": (
        _("Revoke"),
        invitations.revoke,
        _("The link in the mail stops working. Nothing else changes for the person."),
        _("The invitation is revoked."),
    ),
}


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin[Invitation]):
    """Invitations that we sent, read-only, with the actions *Send again* and *Revoke*."""

    list_display = ["email", "user", "purpose", "state", "sent", "expires", "invited_by"]
    list_filter = ["status", "purpose", "created_at"]
    list_select_related = ["user", "invited_by"]
    search_fields = ["email", "user__name"]
    search_help_text = _("Email or name")
    fields = ["email", "user", "purpose", "state", "sent_at", "expires_at", "send_after",
              "invited_by", "created_at"]  # fmt: skip
    readonly_fields = ["state"]
    exported = MappingProxyType({
        "email": attrgetter("email"),
        "user_id": attrgetter("user_id"),
        "purpose": Invitation.get_purpose_display,
        "status": Invitation.get_status_display,
        "sent_at": attrgetter("sent_at"),
        "expires_at": attrgetter("expires_at"),
        "invited_by": attrgetter("invited_by"),
        "created_at": attrgetter("created_at"),
    })  # fmt: skip

    class Media:
        css = {"all": ["users/cascade.css"]}

    def viewed_by(self, request: HttpRequest) -> Mapping[str, Column[Invitation]]:
        """Link the invited user."""
        return {"user": user_column(request, lambda invitation: str(invitation.user))}

    @admin.display(description=_("sent"), ordering="sent_at")
    def sent(self, invitation: Invitation) -> str:
        """Return when the invitation was sent."""
        return time_of(invitation.sent_at)

    @admin.display(description=_("expires"), ordering="expires_at")
    def expires(self, invitation: Invitation) -> str:
        """Return when the invitation expires."""
        return time_of(invitation.expires_at)

    @admin.display(description=_("status"), ordering="status")
    def state(self, invitation: Invitation) -> str:
        """Render the status. A waiting invitation shows the time until which it waits."""
        text = invitation.get_status_display()
        if invitation.status == InvitationStatus.WAITING and invitation.send_after:
            text = format_html(gettext("Waits until {}"), time_of(invitation.send_after))
        return format_html('<span class="state state-{}">{}</span>', invitation.status, text)

    def get_list_display(self, request: HttpRequest) -> tuple[str | Shown[Invitation], ...]:
        """Add a column with the actions that this person may use."""

        @admin.display(description="")
        def what_now(invitation: Invitation) -> str:
            may = permissions.may(request.user, OperationKind.INVITE, invitation.user)
            return _links(invitation) if may and opens_users(request) else ""

        return (*super().get_list_display(request), what_now)

    def get_urls(self) -> list[URLPattern]:
        """Add the pages of the actions."""
        view = self.admin_site.admin_view(self.action_view)
        return [
            path(f"<int:pk>/{slug}/", view, {"slug": slug}, name=f"users_invitation_{slug}")
            for slug in ACTIONS
        ] + super().get_urls()

    def action_view(self, request: HttpRequest, pk: int, slug: str) -> HttpResponse:
        """Show what the action does, and do it on POST.

        Raises `PermissionDenied`.
        """
        invitation = get_object_or_404(Invitation.objects.select_related("user"), pk=pk)
        lacking = permissions.missing(request.user, OperationKind.INVITE, invitation.user)
        if lacking or not opens_users(request):
            raise PermissionDenied(permissions.explain(lacking))
        label, run, effect, done = ACTIONS[slug]
        failure = None
        if request.method == "POST":
            try:
                result = run(invitation, actor=request.user, token=token_of(request))
            except ChangeFailed as refused:
                failure = refused
            else:
                unseen.mark_answered(request.user, result.attempt)
                messages.success(request, done)
                return HttpResponseRedirect(invitation.user.get_absolute_url())
        context = {
            **self.admin_site.each_context(request),
            "title": f"{label}: {invitation.email}",
            "opts": self.opts,
            "media": self.media,
            "label": label,
            "effect": effect,
            "invitation": invitation,
            "failure": failure,
            "failure_link": holder_link(request, failure, invitation.user),
            "has_view_permission": self.has_view_permission(request),
        }
        return TemplateResponse(request, "admin/users/invitation/action.html", context)


def _links(invitation: Invitation) -> str:
    """Link the actions that are still possible."""
    if invitation.status in (InvitationStatus.ACCEPTED, InvitationStatus.REVOKED):
        return ""
    links = [
        format_html('<a href="{}">{}</a>', _url(invitation, slug), label)
        for slug, (label, *_) in ACTIONS.items()
        if slug == "resend" or invitation.open
    ]
    return format_html(" · ".join(["{}"] * len(links)), *links)


def _url(invitation: Invitation, slug: str) -> str:
    return reverse(f"admin:users_invitation_{slug}", args=[invitation.pk])
