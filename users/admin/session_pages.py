"""The page *Sessions and devices*: where a person is signed in, and all that they sign in with."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.admin.utils import quote
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from users.admin.one_time import token_of
from users.admin.user_pages import UserPages, tell, why_not
from users.errors import ChangeFailed
from users.models import BuilderUser, OperationKind
from users.sync.outbound.dual_write import Saved
from users.sync.services import sign_in

TITLE = _("Sessions and devices")


@dataclass(frozen=True)
class SessionPages:
    """The page asks Clerk each time it is opened, because sessions are not stored here."""

    pages: UserPages

    def urls(self) -> list[URLPattern]:
        """List the address of the page."""
        view = self.pages.admin.admin_site.admin_view(self.sessions_view)
        return [path("<path:object_id>/sessions/", view, name="users_builderuser_sessions")]

    @method_decorator(csrf_protect)
    def sessions_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """List the sessions, emails and phones of the account. On POST, end one session.

        After a failure the page does not ask Clerk a second time.
        """
        if request.method == "POST":
            user = self.pages.user_of_page(request, object_id, OperationKind.END_SESSION)
        else:
            user = self.pages.user_to_change(request, object_id)
        if user is None:
            return self.pages.missing(request, object_id)
        now, failure = None, None
        try:
            if request.method == "POST":
                return self._end(request, user)
            if user.linked:
                now = sign_in.read_now(user)
        except ChangeFailed as refused:
            failure = refused
        context = {"now": now, "why_not": why_not(request, user, OperationKind.END_SESSION)}
        return self.pages.render(request, user, TITLE, "sessions.html", context, failure=failure)

    def _end(self, request: HttpRequest, user: BuilderUser) -> HttpResponse:
        saved = sign_in.end_session(
            user,
            actor=request.user,
            session_id=request.POST.get("session", ""),
            token=token_of(request),
        )
        tell(
            request,
            gettext("{user} is signed out on one device: {device}.").format(
                user=user, device=_device(saved)
            ),
            saved,
        )
        page = reverse("admin:users_builderuser_sessions", args=[quote(user.pk)])
        return HttpResponseRedirect(page)


def _device(saved: Saved) -> str:
    """Return the device of the session that was ended."""
    assert saved.attempt is not None, "The end of a session is always recorded."
    return str(saved.attempt.changes["session"][0])
