"""The pages beside the form: *Change email* and *Set password*."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from users.admin.base import SafeAdmin
from users.errors import ChangeFailed
from users.forms import ChangeEmailForm, SetPasswordForm
from users.models import BuilderUser
from users.sync import account

REPLACE = ("replace", "Replace now")


class AccountPages(SafeAdmin):
    """A new email and a new password have a page of their own, as Django does for passwords:
    one save makes at most one write at Clerk."""

    def account_urls(self) -> list[Any]:
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
        user = self.user_to_change(request, object_id)  # type: ignore[attr-defined]
        if user is None:
            return self._missing(request, object_id)
        ways = [REPLACE] if request.user.has_perm("users.replace_email") else []
        initial = {"email": request.GET.get("email", "")}
        form = ChangeEmailForm(request.POST or None, user=user, ways=ways, initial=initial)
        if request.method == "POST":
            if not ways or not user.linked:
                raise PermissionDenied
            if form.is_valid():
                try:
                    saved = account.replace_email(
                        user, actor=request.user, email=form.cleaned_data["email"]
                    )
                except ChangeFailed as failure:
                    form.failure = failure
                    form.show_failure()
                else:
                    messages.success(
                        request, f"{user.name} now signs in with {form.cleaned_data['email']}."
                    )
                    for warning in saved.warnings:
                        messages.warning(request, warning)
                    return self._back(user)
        context = {"form": form, "ways": ways, "way_names": [name for name, _ in ways]}
        return self._render(request, user, "Change email", "email.html", context)

    @method_decorator([sensitive_post_parameters(), csrf_protect])
    def password_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = self.user_to_change(request, object_id)  # type: ignore[attr-defined]
        if user is None:
            return self._missing(request, object_id)
        form = SetPasswordForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                account.set_password(
                    user,
                    actor=request.user,
                    password=form.cleaned_data["password1"],
                    sign_out=form.cleaned_data["sign_out"],
                )
            except ChangeFailed as failure:
                form.failure = failure
                form.show_failure()
            else:
                messages.success(request, f"Clerk has the new password of {user.name}.")
                return self._back(user)
        return self._render(request, user, "Set password", "password.html", {"form": form})

    def _render(
        self, request: HttpRequest, user: BuilderUser, title: str, template: str,
        context: dict[str, Any],
    ) -> HttpResponse:  # fmt: skip
        return TemplateResponse(
            request,
            f"admin/users/builderuser/{template}",
            {
                **self.admin_site.each_context(request),
                "title": f"{title}: {user.name}",
                "opts": self.opts,
                "original": user,
                "stored": user,
                "media": self.media,
                "failure": context["form"].failure,
                **context,
            },
        )

    def _back(self, user: BuilderUser) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:users_builderuser_change", args=[user.pk]))

    def _missing(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined]
