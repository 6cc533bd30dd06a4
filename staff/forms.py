"""Forms of the sign-in.

Each form checks the limits before it looks at a password or code.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cascade.addresses import Client, client_of
from staff import limits, two_step
from staff.models import Outcome, Step


def as_form_error(limited: limits.Limited) -> ValidationError:
    """Return a reached limit as an error that a form can show."""
    return ValidationError(limited.message, code="limited")


class SignInForm(AdminAuthenticationForm):
    """Check a username and password on the admin's login page."""

    request: HttpRequest

    def clean(self) -> dict[str, Any]:
        """Check the password, and record the attempt before and after the check.

        Raises `ValidationError` if a limit is reached or the password is wrong.
        """
        username = self.cleaned_data.get("username")
        if username is None or not self.cleaned_data.get("password"):
            return super().clean()
        user, account = limits.account_of(username)
        try:
            event = limits.begin(
                Step.PASSWORD, account=account, client=client_of(self.request), user=user
            )
        except limits.Limited as limited:
            raise as_form_error(limited) from None
        try:
            cleaned = super().clean()
        except ValidationError:
            limits.finish(event, Outcome.REFUSED, _("Wrong username or password."))
            raise
        more = two_step.is_required() or two_step.is_on(self.get_user())
        limits.finish(event, Outcome.CONTINUED if more else Outcome.SIGNED_IN)
        return cleaned


class CodeForm(forms.Form):
    """Check a code of a user whose password was already correct.

    The code is one of the authenticator app or a recovery code.
    """

    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=40,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "autocapitalize": "none"}
        ),
    )

    def __init__(
        self, *args: Any, user: User, client: Client, signs_in: bool, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.user, self.client, self.signs_in = user, client, signs_in

    def clean_code(self) -> Any:
        """Use the code up, and return the device that it belongs to.

        Raises `ValidationError` if a limit is reached or the code is wrong.
        """
        try:
            event = limits.begin(
                Step.CODE, account=self.user.username, client=self.client, user=self.user
            )
        except limits.Limited as limited:
            raise as_form_error(limited) from None
        device = two_step.verify(self.user, self.cleaned_data["code"])
        if device is None:
            limits.finish(event, Outcome.REFUSED, _("Wrong code."))
            raise ValidationError(
                _(
                    "This code is wrong or was used before. Wait for the next code of your app, or "
                    "use a recovery code."
                )
            )
        limits.finish(event, Outcome.SIGNED_IN if self.signs_in else Outcome.DONE, device.name)
        return device


class TurnOnForm(forms.Form):
    """Check the first code of an app, which proves that the app has the key."""

    code = forms.CharField(
        label=gettext_lazy("Code"),
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )

    def __init__(self, *args: Any, user: User, key: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user, self.key = user, key

    def clean_code(self) -> Any:
        """Turn two-step sign-in on, and return the new device.

        Raises `ValidationError` if the code is wrong, or if two-step sign-in is already on.
        """
        device = two_step.turn_on(self.user, key=self.key, code=self.cleaned_data["code"])
        if device is None:
            raise ValidationError(
                _("This is not the code that the app shows now. Try the next one.")
            )
        return device


class StaffPasswordChangeForm(AdminPasswordChangeForm):
    """Change the user's own password, with a limit on wrong old passwords.

    Without the limit, somebody with a stolen session could guess the password.
    """

    def clean_old_password(self) -> str:
        """Check the old password, and record the attempt before and after the check.

        Raises `ValidationError` if a limit is reached or the password is wrong.
        """
        try:
            event = limits.begin(Step.CHANGE, account=self.user.username, user=self.user)
        except limits.Limited as limited:
            raise as_form_error(limited) from None
        try:
            password = super().clean_old_password()
        except ValidationError:
            limits.finish(event, Outcome.REFUSED, _("Wrong old password."))
            raise
        limits.finish(event, Outcome.DONE)
        return password
