"""The buttons beside the form that ask Clerk, or take what Clerk has."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from users.admin.base import say, say_result
from users.admin.one_time import token_of
from users.admin.user_context import panel_of
from users.admin.user_pages import UserPages, back
from users.errors import ChangeFailed
from users.models import BuilderUser, OperationKind
from users.sync.display import field_word, joined
from users.sync.outbound import recovery
from users.sync.services import transfer

_DISCARDED = _("The change was discarded.")


@dataclass(frozen=True)
class PendingPages:
    """The buttons for pending changes, and for the mirror of the account."""

    pages: UserPages

    def urls(self) -> list[URLPattern]:
        """List the addresses of the buttons."""
        view = self.pages.admin.admin_site.admin_view
        return [
            path(
                f"<path:object_id>/{slug}/",
                view(button),
                name=f"users_builderuser_{slug.replace('-', '_')}",
            )
            for slug, button in (
                ("check", self.check_view),
                ("take-over", self.take_over_view),
                ("refresh", self.refresh_view),
            )
        ]

    def check_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Recover the pending attempts of this user, for the button *Check with Clerk now*."""
        user = self.pages.user_to_change(request, object_id)
        if user is None:
            return self.pages.missing(request, object_id)
        if request.method == "POST":
            for result in recovery.recover_user(user.pk, send_again=True):
                say_result(request, result)
        return back(user)

    def take_over_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Discard pending changes, for the button *Use Clerk's version and discard this change*.

        Without an account, nothing of Clerk is used. A person can decide what recovery cannot.
        """
        user = self.pages.user_of_page(request, object_id, OperationKind.FOLLOW)
        if user is None:
            return self.pages.missing(request, object_id)
        if request.method == "POST":
            try:
                accepted = recovery.accept_clerks_version(
                    user, actor=request.user, token=token_of(request)
                )
            except ChangeFailed as failure:
                say(request, failure)
            else:
                _tell(request, accepted)
        return back(user)

    @method_decorator(csrf_protect)
    def refresh_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Read the account from Clerk, for the button *Refresh*.

        The page asks in the background and shows the panel in the answer. Without JavaScript the
        button sends a normal form.
        """
        user = self.pages.user_to_change(request, object_id)
        if user is None:
            return self.pages.missing(request, object_id)
        if request.method != "POST":
            return back(user)
        failure = None
        try:
            transfer.refresh(user)
        except ChangeFailed as refused:
            failure = refused
        if request.headers.get("X-Requested-With") != "fetch":
            if failure:
                say(request, failure)
            return back(user)
        stored = get_object_or_404(BuilderUser.objects.select_related("account"), pk=user.pk)
        may_change = self.pages.admin.has_change_permission(request, stored)
        context = {
            **panel_of(request, stored, may_change=may_change),
            "refresh_failure": failure,
        }
        return TemplateResponse(request, "admin/users/builderuser/refreshed.html", context)


def _tell(request: HttpRequest, accepted: recovery.Accepted) -> None:
    """Say what the record here took from Clerk, and what it could not take."""
    taken = accepted.taken
    if taken is not None and not taken.refused:
        messages.success(request, gettext("Clerk's version is used here now."))
        return
    attempt = taken.saved.attempt if taken else None
    words = str(_DISCARDED)
    if attempt:
        fields = joined([field_word(field) for field in attempt.changes])
        words += " " + gettext("The {fields} was copied from Clerk.").format(fields=fields)
    messages.success(request, words)
    for failure in taken.refused if taken else ():
        say(request, failure)
