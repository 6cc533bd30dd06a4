"""The pages beside the form: *Change email* and *Set password*."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.timezone import localtime
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from users.admin.again import again_of, typed
from users.admin.base import SafeAdmin
from users.admin.holder import holder_link
from users.admin.one_time import token_of
from users.errors import ChangeFailed
from users.forms import ChangeEmailForm, SetPasswordForm
from users.models import BuilderUser, OperationKind
from users.sync.access import permissions
from users.sync.access.permissions import NOTHING
from users.sync.services import invitations, sign_in, unseen


@dataclass(frozen=True)
class Way:
    """One way to change an email. `effect` says what it does to the person."""

    kind: OperationKind
    label: str
    run: Callable[..., Any]
    effect: str


WAYS = {
    "invite": Way(
        OperationKind.INVITE, "Invite", invitations.invite,
        "Clerk mails an invitation to the new address. The person goes on signing in as before "
        "until they accept it; then they sign in with the new address, and their old sign-in is "
        "switched off. It can be revoked and sent again, and expires after 30 days.",
    ),
    "replace": Way(
        OperationKind.REPLACE_EMAIL, "Replace now", sign_in.replace_email,
        "From this moment the person signs in with the new address: the old address stops working "
        "and Clerk notifies it. Confirm that the new address is theirs.",
    ),
}  # fmt: skip
"""Maps a value of the field `how` to its way. The first way that is allowed is the default."""

CHANGES_OF_EMAIL = tuple(way.kind for way in WAYS.values())


class AccountPages(SafeAdmin):
    """The pages *Change email* and *Set password*, and the helpers of all pages beside the form.

    Each has its own page, as Django does for passwords, so that one save makes at most one write
    at Clerk.
    """

    def account_urls(self) -> list[Any]:
        """List the addresses of the two pages."""
        view = self.admin_site.admin_view
        return [
            path("<path:object_id>/email/", view(self.email_view), name="users_builderuser_email"),
            path(
                "<path:object_id>/password/",
                view(self.password_view),
                name="users_builderuser_password",
            ),
        ]

    @method_decorator(csrf_protect)
    def email_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the page *Change email*, and change the email in the chosen way.

        Raises `PermissionDenied` if no way is allowed, and on POST if the user is not linked.
        """
        user = self.user_of_page(request, object_id, *CHANGES_OF_EMAIL)
        if user is None:
            return self.missing(request, object_id)
        ways = [
            (how, way.label)
            for how, way in WAYS.items()
            if permissions.may(request.user, way.kind, user)
        ]
        form = ChangeEmailForm(request.POST or None, ways=ways, initial=_typed(request, user))
        if request.method == "POST":
            if not user.linked:
                raise PermissionDenied
            if form.is_valid():
                email, how = form.cleaned_data["email"], form.cleaned_data["how"]
                try:
                    result = WAYS[how].run(
                        user, actor=request.user, email=email, token=token_of(request)
                    )
                except ChangeFailed as failure:
                    form.failure = failure
                    form.failure_link = holder_link(request, failure, user)
                    form.show_failure()
                else:
                    done = {
                        "invite": f"{user.name} is invited to {email}, and signs in with "
                        f"{user.email} until they accept.",
                        "replace": f"{user.name} now signs in with {email}.",
                    }
                    self.tell(request, done[how], result)
                    return self.back(user)
        context = {
            "form": form,
            "ways": ways,
            "ways_explained": _explained(form),
            "invitation": invitations.open_of(user),
            "may_invite": permissions.may(request.user, OperationKind.INVITE, user),
            "providers": _providers(user),
        }
        return self.render(request, user, "Change email", "email.html", context)

    @method_decorator([sensitive_post_parameters(), csrf_protect])
    def password_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the page *Set password*, and set the password."""
        user = self.user_of_page(request, object_id, OperationKind.SET_PASSWORD)
        if user is None:
            return self.missing(request, object_id)
        form = SetPasswordForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                result = sign_in.set_password(
                    user,
                    actor=request.user,
                    password=form.cleaned_data["password1"],
                    sign_out=form.cleaned_data["sign_out"],
                    token=token_of(request),
                )
            except ChangeFailed as failure:
                form.failure = failure
                form.show_failure()
            else:
                self.tell(request, f"Clerk has the new password of {user.name}.", result)
                return self.back(user)
        return self.render(request, user, "Set password", "password.html", {"form": form})

        # --- Shared by the pages beside the form -------------------------------------------------

    def user_of_page(
        self,
        request: HttpRequest,
        object_id: str,
        *kinds: OperationKind,
        wanted: Mapping[str, Any] = NOTHING,
    ) -> BuilderUser | None:
        """Return the user of a page that makes these kinds of change, or None if there is none.

        Raises `PermissionDenied`, with the reason, if this person may make none of them.
        """
        user = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, user):
            raise PermissionDenied
        if why := self.why_not(request, user, *kinds, wanted=wanted):
            raise PermissionDenied(why)
        return user

    def why_not(
        self, request: HttpRequest, user: BuilderUser | None, *kinds: OperationKind,
        wanted: Mapping[str, Any] = NOTHING,
    ) -> str:  # fmt: skip
        """Say why this person may make none of these kinds of change; "" if one is allowed."""
        lacking = [permissions.missing(request.user, kind, user, wanted=wanted) for kind in kinds]
        return permissions.explain(lacking[0]) if all(lacking) else ""

    def render(
        self, request: HttpRequest, user: BuilderUser, title: str, template: str,
        context: dict[str, Any],
    ) -> HttpResponse:  # fmt: skip
        """Render a page about a user, with the failure of its form or context."""
        form = context.get("form")
        failure = form.failure if form else context.get("failure")
        return TemplateResponse(
            request,
            f"admin/users/builderuser/{template}",
            {
                **self.admin_site.each_context(request),
                "title": f"{title}: {user.name}",
                "page": title,
                "opts": self.opts,
                "original": user,
                "stored": user,
                "media": self.media,
                **context,
                "failure": failure,
                "failure_link": holder_link(request, failure, user),
            },
        )

    def tell(self, request: HttpRequest, done: str, result: Any) -> None:
        """Report that the change is done, or that it waits, and show the warnings of the result."""
        unseen.mark_answered(request.user, result.attempt, again=again_of(request))
        until = getattr(result, "waits_until", None)
        if until is None:
            messages.success(request, done)
        else:
            messages.warning(
                request,
                "Clerk takes no more invitations for now. This one waits and is sent by itself "
                f"at {localtime(until):%H:%M} UTC.",
            )
        for warning in getattr(result, "warnings", ()):
            messages.warning(request, warning)

    def back(self, user: BuilderUser) -> HttpResponse:
        """Redirect to the form of the user, or to the list if the user is deleted."""
        if not BuilderUser.objects.filter(pk=user.pk).exists():
            return HttpResponseRedirect(reverse("admin:users_builderuser_changelist"))
        return HttpResponseRedirect(user.get_absolute_url())

    def missing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Redirect as Django does for a user that does not exist."""
        return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]


def _typed(request: HttpRequest, user: BuilderUser) -> dict[str, str]:
    """Return the initial values: an email from the form, or from a change that is saved again."""
    again = again_of(request, [OperationKind.REPLACE_EMAIL, OperationKind.INVITE], user_id=user.pk)
    if again is None:
        return {"email": request.GET.get("email", "")}
    values = typed(again)
    how = "replace" if again.operation == OperationKind.REPLACE_EMAIL else "invite"
    return {"email": values.get("email") or values.get("invitation") or "", "how": how}


def _explained(form: ChangeEmailForm) -> list[dict[str, Any]]:
    """List each way with its radio button, or None if this person may not use it."""
    radios = {str(radio.data["value"]): radio for radio in form["how"]}
    return [
        {"radio": radios.get(how), "label": way.label, "effect": way.effect}
        for how, way in WAYS.items()
    ]


def _providers(user: BuilderUser) -> str:
    """Name the sign-in providers that the address may be tied to, for example “Google, Apple”."""
    known = getattr(user, "account", None)
    names = known.providers if known else []
    return ", ".join(name.removeprefix("oauth_").capitalize() for name in names)
