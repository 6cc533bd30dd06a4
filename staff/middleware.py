"""Close pages to a session that has ended or that still needs its second step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME, logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from structlog.contextvars import bind_contextvars

from cascade.middleware import DOWN, database_down
from staff import sessions, two_step

OPEN = ("admin:logout", "admin:jsi18n")
"""Pages that show no data of builder users. They are open before the second step."""


class SignInMiddleware:
    """Check the session before every view.

    Views with `login_not_required` are exempt. All other views are closed by default, so a new page
    is closed as well.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request; the checks happen in `process_view`."""
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        """Return the answer that replaces the view, or None to continue with the view."""
        if not getattr(view, "login_required", True):  # set by `login_not_required`
            return None
        try:
            return self._instead_of_view(request)
        except DOWN as error:  # Django calls `process_exception` only for errors of views
            return database_down(error)

    def _instead_of_view(self, request: HttpRequest) -> HttpResponse | None:
        if not request.user.is_authenticated:
            return _to("admin:login", request) if _sends_a_form(request) else None
        bind_contextvars(actor=request.user.pk)
        if sessions.has_ended(request):
            logout(request)
            messages.warning(request, _("Your session has ended. Sign in again."))
            return _to("admin:login", request)
        sessions.touch(request)
        page = two_step.page_due(request)
        if page is None or _name(request) in (page, *OPEN):
            return None
        return _to(page, request)


def _name(request: HttpRequest) -> str:
    return request.resolver_match.view_name if request.resolver_match else ""


def _sends_a_form(request: HttpRequest) -> bool:
    """Return whether somebody without a session sends a form of the admin.

    The admin itself redirects all others.
    """
    match = request.resolver_match
    of_admin = match is not None and "admin" in match.namespaces
    open_to_all = (*OPEN, "admin:login")
    return of_admin and request.method == "POST" and _name(request) not in open_to_all


def _to(page: str, request: HttpRequest) -> HttpResponse:
    """Redirect to a page, and return afterwards to the page that was requested."""
    query = urlencode({REDIRECT_FIELD_NAME: sessions.page_of(request)})
    return HttpResponseRedirect(f"{reverse(page)}?{query}")
