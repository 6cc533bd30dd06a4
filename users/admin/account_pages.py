"""The pages beside the form: *Change email* and *Set password*."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from users.admin.again import again_of, typed
from users.admin.clerk_panel import account_of
from users.admin.holder import holder_link
from users.admin.one_time import token_of
from users.admin.user_pages import Result, UserPages, back, tell
from users.errors import ChangeFailed
from users.forms import ChangeEmailForm, SetPasswordForm, show_failure
from users.models import BuilderUser, OperationKind
from users.sync.access import permissions
from users.sync.mirror.sign_in_address import sign_in_address
from users.sync.services import invitations, sign_in

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise


@dataclass(frozen=True)
class Way:
    """One way to change an email. `effect` says what it does to the person, `done` that it did."""

    kind: OperationKind
    label: StrOrPromise
    run: Callable[..., Result]
    effect: StrOrPromise
    done: StrOrPromise


WAYS = {
    "invite": Way(
        OperationKind.INVITE, _("Invite"), invitations.invite,
        _("Clerk mails an invitation to the new address. The person goes on signing in as before "
        "until they accept it; then they sign in with the new address, and their old sign-in is "
        "switched off. It can be revoked and sent again, and expires after 30 days."),
        _("{user.name} is invited to {email}, and signs in with {address} until they accept."),
    ),
    "replace": Way(
        OperationKind.REPLACE_EMAIL, _("Replace now"), sign_in.replace_email,
        _("From this moment the person signs in with the new address: the old address stops "
          "working and Clerk notifies it. Confirm that the new address is theirs."),
        _("{user.name} now signs in with {email}."),
    ),
}  # fmt: skip
"""Maps a value of the field `how` to its way. The first way that is allowed is the default."""

CHANGES_OF_EMAIL = tuple(way.kind for way in WAYS.values())


@dataclass(frozen=True)
class AccountPages:
    """The pages *Change email* and *Set password*.

    Each has its own page, as Django does for passwords, so that one save makes at most one write
    at Clerk.
    """

    pages: UserPages

    def urls(self) -> list[URLPattern]:
        """List the addresses of the two pages."""
        view = self.pages.admin.admin_site.admin_view
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
        user = self.pages.user_of_page(request, object_id, *CHANGES_OF_EMAIL)
        if user is None:
            return self.pages.missing(request, object_id)
        ways = [
            (how, str(way.label))
            for how, way in WAYS.items()
            if permissions.may(request.user, way.kind, user)
        ]
        form = ChangeEmailForm(request.POST or None, ways=ways, initial=_typed(request, user))
        failure, address = None, sign_in_address(user)
        if request.method == "POST":
            if not user.linked:
                raise PermissionDenied
            if form.is_valid():
                email, how = form.cleaned_data["email"], form.cleaned_data["how"]
                try:
                    result = WAYS[how].run(
                        user, actor=request.user, email=email, token=token_of(request)
                    )
                except ChangeFailed as refused:
                    failure = refused
                    show_failure(form, failure, holder_link(request, failure, user))
                else:
                    done = WAYS[how].done.format(user=user, email=email, address=address)
                    tell(request, done, result)
                    return back(user)
        context = {
            "form": form,
            "address": address,
            "ways": ways,
            "ways_explained": _explained(form),
            "invitation": invitations.open_of(user),
            "may_invite": permissions.may(request.user, OperationKind.INVITE, user),
            "providers": _providers(user),
        }
        return self.pages.render(
            request, user, gettext("Change email"), "email.html", context, failure=failure
        )

    @method_decorator([sensitive_post_parameters(), csrf_protect])
    def password_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the page *Set password*, and set the password."""
        user = self.pages.user_of_page(request, object_id, OperationKind.SET_PASSWORD)
        if user is None:
            return self.pages.missing(request, object_id)
        form = SetPasswordForm(request.POST or None)
        failure = None
        if request.method == "POST" and form.is_valid():
            try:
                result = sign_in.set_password(
                    user,
                    actor=request.user,
                    password=form.cleaned_data["password1"],
                    sign_out=form.cleaned_data["sign_out"],
                    token=token_of(request),
                )
            except ChangeFailed as refused:
                failure = refused
                show_failure(form, failure)
            else:
                tell(
                    request,
                    gettext("Clerk has the new password of {name}.").format(name=user.name),
                    result,
                )
                return back(user)
        context = {"form": form}
        return self.pages.render(
            request, user, gettext("Set password"), "password.html", context, failure=failure
        )


def _typed(request: HttpRequest, user: BuilderUser) -> dict[str, str]:
    """Return the initial values: an email from the form, or from a change that is saved again."""
    again = again_of(request, [OperationKind.REPLACE_EMAIL, OperationKind.INVITE], user_id=user.pk)
    if again is None:
        return {"email": request.GET.get("email", "")}
    values = typed(again)
    how = "replace" if again.operation == OperationKind.REPLACE_EMAIL else "invite"
    return {"email": values.get("email") or values.get("invitation") or "", "how": how}


def _explained(form: ChangeEmailForm) -> list[dict[str, object]]:
    """List each way with its radio button, or None if this person may not use it."""
    radios = {str(radio.data["value"]): radio for radio in form["how"]}
    return [
        {"radio": radios.get(how), "label": way.label, "effect": way.effect}
        for how, way in WAYS.items()
    ]


def _providers(user: BuilderUser) -> str:
    """Name the sign-in providers that the address may be tied to, for example “Google, Apple”."""
    known = account_of(user)
    names = known.providers if known else []
    return ", ".join(name.removeprefix("oauth_").capitalize() for name in names)
