"""What the pages beside the form share: the user, the permission, the page and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from users.admin.again import again_of
from users.admin.holder import holder_link
from users.errors import ChangeFailed
from users.models import BuilderUser, OperationKind
from users.sync.access import permissions
from users.sync.access.permissions import NOTHING
from users.sync.display import joined, time_text
from users.sync.outbound.dual_write import Saved
from users.sync.services import invitations, unseen
from users.sync.services.invitations import Invited

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

Result = Saved | Invited
"""Result of a change that a page makes."""


def why_not(
    request: HttpRequest, user: BuilderUser | None, *kinds: OperationKind,
    wanted: Mapping[str, object] = NOTHING,
) -> str:  # fmt: skip
    """Say why this person may make none of these kinds of change; "" if one is allowed."""
    lacking = [permissions.missing(request.user, kind, user, wanted=wanted) for kind in kinds]
    return permissions.explain(lacking[0]) if all(lacking) else ""


def tell(request: HttpRequest, done: str, result: Result) -> None:
    """Report that the change is done, or that it waits, and show the warnings of the result."""
    unseen.mark_answered(request.user, result.attempt, again=again_of(request))
    if revoked := _revoked(request, result):
        done = format_html("{} {}", done, revoked)
    until = result.waits_until if isinstance(result, Invited) else None
    if until is None:
        messages.success(request, done)
    else:
        messages.warning(
            request,
            _(
                "Clerk takes no more invitations for now. This one waits and is sent by itself at "
                "{until}."
            ).format(until=time_text(until)),
        )
    for warning in result.warnings if isinstance(result, Saved) else ():
        messages.warning(request, warning)


def _revoked(request: HttpRequest, result: Result) -> str:
    """Say which invitation the change has revoked, and whether the person is invited now."""
    emails = invitations.revoked_by(result.attempt)
    user = result.user
    if not emails:
        return ""
    said = _("The invitation to {emails} was revoked.").format(emails=joined(emails))
    if user is None or user.linked or invitations.open_of(user):
        return said
    not_yet = _("{email} is not invited yet.").format(email=user.email)
    said = f"{said} {not_yet}"
    if not permissions.may(request.user, OperationKind.INVITE, user):
        return said
    page = reverse("admin:users_builderuser_invite", args=[user.pk])
    return format_html('{} <a href="{}">{}</a>', said, page, _("Invite"))


def back(user: BuilderUser) -> HttpResponse:
    """Redirect to the form of the user, or to the list if the user is deleted."""
    if not BuilderUser.objects.filter(pk=user.pk).exists():
        return HttpResponseRedirect(reverse("admin:users_builderuser_changelist"))
    return HttpResponseRedirect(user.get_absolute_url())


@dataclass(frozen=True)
class UserPages:
    """The pages about one user, in the name of the admin of builder users."""

    admin: admin.ModelAdmin

    def user(self, request: HttpRequest, object_id: str) -> BuilderUser | None:
        """Return the user that an address names, or None."""
        found = self.admin.get_object(request, unquote(object_id))
        return found if isinstance(found, BuilderUser) else None

    def user_to_change(self, request: HttpRequest, object_id: str) -> BuilderUser | None:
        """Return the user of a page for people who may change users, or None if there is none.

        Raises `PermissionDenied`.
        """
        user = self.user(request, object_id)
        if not self.admin.has_change_permission(request, user):
            raise PermissionDenied
        return user

    def user_of_page(
        self, request: HttpRequest, object_id: str, *kinds: OperationKind,
        wanted: Mapping[str, object] = NOTHING,
    ) -> BuilderUser | None:  # fmt: skip
        """Return the user of a page that makes these kinds of change, or None if there is none.

        Raises `PermissionDenied`, with the reason, if this person may make none of them.
        """
        user = self.user(request, object_id)
        if not self.admin.has_view_permission(request, user):
            raise PermissionDenied
        if why := why_not(request, user, *kinds, wanted=wanted):
            raise PermissionDenied(why)
        return user

    def render(
        self, request: HttpRequest, user: BuilderUser, title: StrOrPromise, template: str,
        context: Mapping[str, object], *, failure: ChangeFailed | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Render a page about a user, with the failure of the change that it asked for."""
        return TemplateResponse(
            request,
            f"admin/users/builderuser/{template}",
            {
                **self.admin.admin_site.each_context(request),
                "title": f"{title}: {user.name}",
                "page": title,
                "opts": self.admin.opts,
                "original": user,
                "stored": user,
                "media": self.admin.media,
                **context,
                "failure": failure,
                "failure_link": holder_link(request, failure, user),
            },
        )

    def missing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Redirect as Django does for a user that does not exist."""
        shown = unquote(object_id)
        messages.warning(
            request,
            _("Builder user with ID “{shown}” doesn’t exist. Perhaps it was deleted?").format(
                shown=shown
            ),
        )
        return HttpResponseRedirect(reverse("admin:index"))
