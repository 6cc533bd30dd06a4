"""Pages of the sign-in beside Django's own login, in the layout of the admin."""

from __future__ import annotations

import logging
from typing import Any, cast
from urllib.parse import urlencode

import segno
from django.contrib import admin, messages
from django.contrib.auth import REDIRECT_FIELD_NAME, login
from django.contrib.auth.decorators import login_not_required, login_required
from django.contrib.auth.forms import PasswordResetForm
from django.contrib.auth.models import User
from django.contrib.auth.views import (
    PasswordResetCompleteView,
    PasswordResetConfirmView,
    PasswordResetDoneView,
    PasswordResetView,
    RedirectURLMixin,
)
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.generic import FormView, View

from cascade.addresses import client_of
from staff import binding, limits, provider, tasks, two_step
from staff.backends import PROVIDER_BACKEND
from staff.forms import CodeForm, TurnOnForm, as_form_error
from staff.models import Outcome, SignInEvent, Step
from staff.sessions import page_of

logger = logging.getLogger("staff.sign_in")

FAILED = gettext_lazy("The company's sign-in did not work. Start it again from this page.")
_guarded: Any = [never_cache, login_required, sensitive_post_parameters("code")]


def _user(request: HttpRequest) -> User:
    """Return the signed-in user. Other people cannot open these pages."""
    return cast(User, request.user)


@method_decorator(_guarded, name="dispatch")
class CodeView(RedirectURLMixin, FormView):
    """Ask for the code of the second step."""

    form_class = CodeForm
    template_name = "admin/staff/code.html"
    next_page = "admin:index"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the form, or skip it if the session needs no code."""
        if two_step.page_due(request) != "staff_code":
            return HttpResponseRedirect(self.get_success_url())
        return super().get(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        """Add the user and the client, whose attempts the form counts."""
        return {
            **super().get_form_kwargs(),
            "user": _user(self.request),
            "client": client_of(self.request),
            "signs_in": True,
        }

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the layout of the admin, without links that the session may not open yet."""
        return {
            **admin.site.each_context(self.request),
            "has_permission": False,  # hides the links, which are closed before the second step
            "title": _("Two-step sign-in"),
            self.redirect_field_name: self.get_redirect_url(),
            **super().get_context_data(**kwargs),
        }

    def form_valid(self, form: CodeForm) -> HttpResponse:
        """Mark the second step as passed, and continue to the page that was requested."""
        two_step.accept(self.request, form.cleaned_data["code"])
        return super().form_valid(form)


@method_decorator(_guarded, name="dispatch")
class TwoStepView(RedirectURLMixin, View):
    """Turn two-step sign-in on or off, or make new recovery codes.

    All changes need a valid code.
    """

    next_page = "admin:index"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the page for the current state."""
        return self._page(request, form=None)

    def post(self, request: HttpRequest) -> HttpResponse:
        """Turn two-step sign-in on, or change it if it is already on."""
        user = _user(request)
        return self._change(request, user) if two_step.is_on(user) else self._turn_on(request, user)

    def _turn_on(self, request: HttpRequest, user: User) -> HttpResponse:
        form = TurnOnForm(request.POST, user=user, key=two_step.new_key(request))
        if not form.is_valid():
            return self._page(request, form=form)
        two_step.accept(request, form.cleaned_data["code"])
        limits.record(Step.TWO_STEP, user=user, reason=_("Turned on."))
        return self._recovery_codes(request, user)

    def _change(self, request: HttpRequest, user: User) -> HttpResponse:
        form = CodeForm(request.POST, user=user, client=client_of(request), signs_in=False)
        if not form.is_valid():
            return self._page(request, form=form)
        if "turn_off" not in request.POST:
            return self._recovery_codes(request, user)
        if two_step.is_required():
            messages.error(request, _("Two-step sign-in is required here. It stays on."))
            return redirect("staff_two_step")
        two_step.turn_off(user)
        limits.record(Step.TWO_STEP, user=user, reason=_("Turned off."))
        messages.success(request, _("Two-step sign-in is off."))
        return redirect("staff_two_step")

    @sensitive_variables()
    def _recovery_codes(self, request: HttpRequest, user: User) -> HttpResponse:
        """Show new recovery codes in the answer itself, because no page can show them again."""
        codes = two_step.new_recovery_codes(user)
        limits.record(Step.TWO_STEP, user=user, reason=_("New recovery codes."))
        return self._answer(
            request,
            "recovery_codes",
            title=_("Your recovery codes"),
            recovery_codes=codes,
            back=self.get_success_url(),
        )

    @sensitive_variables()
    def _page(self, request: HttpRequest, *, form: CodeForm | TurnOnForm | None) -> HttpResponse:
        user = _user(request)
        if two_step.is_on(user):
            form = form or CodeForm(user=user, client=client_of(request), signs_in=False)
            form.fields["code"].widget.attrs.pop("autofocus", None)
            return self._answer(
                request,
                "two_step",
                title=_("Two-step sign-in"),
                form=form,
                on=True,
                required=two_step.is_required(),
                left=two_step.recovery_codes_left(user),
            )
        key = two_step.new_key(request)
        address = two_step.device_with(user, key).config_url
        return self._answer(
            request,
            "two_step",
            title=_("Two-step sign-in"),
            form=form or TurnOnForm(user=user, key=key),
            required=two_step.is_required(),
            picture=segno.make(address, micro=False).svg_data_uri(scale=4, light="white"),
            secret=two_step.shown_key(key),
        )

    def _answer(self, request: HttpRequest, template: str, **context: Any) -> HttpResponse:
        site = admin.site.each_context(request)
        if two_step.page_due(request):
            site["has_permission"] = False
        return TemplateResponse(request, f"admin/staff/{template}.html", {**site, **context})


class _AdminLook:
    """Add the layout of the admin to Django's pages of the password reset."""

    request: HttpRequest

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)  # type: ignore[misc]  # a mixin
        return {**admin.site.each_context(self.request), **context}


class ResetView(_AdminLook, PasswordResetView):
    """Ask for an email, and have the worker mail a link that sets a new password.

    The number of requests is limited, because each request can send a mail. Only the worker looks
    the email up, so the duration of the request does not reveal whether a user has it.
    """

    def form_valid(self, form: PasswordResetForm) -> HttpResponse:
        """Check the limits, and queue the mail."""
        account = limits.account_of_mail(form.cleaned_data["email"])
        try:
            event = limits.begin(Step.RESET, account=account, client=client_of(self.request))
        except limits.Limited as limited:
            form.add_error("email", as_form_error(limited))
            return self.form_invalid(form)
        with transaction.atomic():
            tasks.mail_password_reset.defer(
                event_id=event.pk, host=self.request.get_host(), secure=self.request.is_secure()
            )
            limits.finish(event, Outcome.DONE)
        return HttpResponseRedirect(self.get_success_url())


class ResetDoneView(_AdminLook, PasswordResetDoneView):
    """Show the same text whether a user has the email or not."""


class ResetConfirmView(_AdminLook, PasswordResetConfirmView):
    """Set the new password from the link in the mail.

    The page signs nobody in: a code is still necessary.
    """

    user: User

    def form_valid(self, form: Any) -> HttpResponse:
        """Save the password, and record the change."""
        response = super().form_valid(form)
        limits.record(Step.CHANGE, user=self.user, reason=_("Set by a link that was mailed."))
        return response


class ResetCompleteView(_AdminLook, PasswordResetCompleteView):
    """Confirm the new password, and link to the login."""


@method_decorator([login_not_required, never_cache], name="dispatch")
class CompanyStartView(RedirectURLMixin, View):
    """Start *Sign in with …*: redirect to the company's provider."""

    http_method_names = ["get"]
    next_page = "admin:index"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Redirect to the provider, or to the login with a message if the provider does not answer.

        Raises `Http404` if no provider is configured.
        """
        if not provider.is_configured():
            raise Http404
        try:
            return provider.start(request, back=self.get_success_url())
        except provider.ProviderFailed as error:
            logger.warning("The company's provider cannot be asked: %s", error)
            message = _("The company's sign-in does not answer. Try it later.")
            return _back_to_login(request, message, back=self.get_success_url())


@method_decorator([login_not_required, never_cache], name="dispatch")
class CompanyCallbackView(View):
    """Finish the sign-in when the provider redirects the browser back with a code."""

    http_method_names = ["get"]

    def get(self, request: HttpRequest) -> HttpResponse:
        """Sign the user in, or redirect to the login with a message.

        Raises `Http404` if no provider is configured.
        """
        if not provider.is_configured():
            raise Http404
        try:
            # Check the cookie first: links on foreign pages must not use up a network's attempts.
            kept = provider.remembered(request)
            event = limits.begin(Step.PROVIDER, account="", client=client_of(request))
        except provider.ProviderFailed as error:
            logger.warning("A company sign-in was refused: %s", error)
            return _back_to_login(request, str(FAILED))
        except limits.Limited as limited:
            return _back_to_login(request, limited.message, back=kept["back"])
        return self._finish(request, kept, event)

    @sensitive_variables()
    def _finish(
        self, request: HttpRequest, kept: dict[str, str], event: SignInEvent
    ) -> HttpResponse:
        try:
            user = binding.user_of(provider.identify(kept, code=request.GET.get("code", "")))
        except provider.ProviderFailed as error:
            limits.finish(event, Outcome.REFUSED, str(error))
            return _back_to_login(request, str(FAILED), back=kept["back"])
        except binding.Refused as refused:
            limits.finish(event, Outcome.REFUSED, refused.message, user=refused.user)
            return _back_to_login(request, refused.message, back=kept["back"])
        login(request, user, backend=PROVIDER_BACKEND)
        limits.finish(event, Outcome.SIGNED_IN, user=user)
        return provider.forget(HttpResponseRedirect(kept["back"]))


def _back_to_login(request: HttpRequest, message: str, *, back: str = "") -> HttpResponse:
    """Redirect to the login with a message; `back` is the page that opens after a sign-in."""
    messages.error(request, message)
    query = f"?{urlencode({REDIRECT_FIELD_NAME: back})}" if back else ""
    return provider.forget(HttpResponseRedirect(f"{reverse('admin:login')}{query}"))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Say that a form was not accepted, and link to its page; `reason` is for developers."""
    return render(request, "403_csrf.html", {"page": page_of(request)}, status=403)
