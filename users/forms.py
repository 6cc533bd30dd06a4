"""Validation, and showing a refusal that a form is handed. Nothing here stores anything."""

from __future__ import annotations

import copy
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from users.errors import ChangeFailed, Conflict
from users.models import BuilderUser
from users.validation import clean_email, clean_name, clean_roles
from users.version import version_of


class FailureMixin(forms.BaseForm):
    """A form that shows why the change that it asked for was not made."""

    failure: ChangeFailed | None = None
    failure_link: str = ""
    """HTML: where a person who is named in the failure's messages is found."""

    def show_failure(self) -> None:
        """Put the failure's messages at their fields; what has no field here goes on top."""
        failure = self.failure
        if failure is None:
            return
        top = [failure.message]
        for field, messages in failure.fields.items():
            for message in messages:
                if field in self.fields and not self.fields[field].widget.is_hidden:
                    self.add_error(field, ValidationError(message, code=failure.code))
                else:
                    top.append(message)
        for message in top:
            self.add_error(None, ValidationError(message, code=failure.code))
        if self.failure_link:
            self.add_error("email", ValidationError(self.failure_link, code=failure.code))


class BuilderUserForm(FailureMixin, forms.ModelForm):
    class Meta:
        model = BuilderUser
        fields = ["name", "email", "role", "internal_role", "builder_group"]

    def clean_name(self) -> str:
        return clean_name(self.cleaned_data["name"])

    def clean_email(self) -> str:
        return clean_email(self.cleaned_data["email"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        try:
            clean_roles(cleaned.get("role"), cleaned.get("internal_role"))
        except ValidationError as error:
            self.add_error("internal_role", error)
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """Whether an email is taken is left to the database: the save asks it under the lock,
        before Clerk is asked, and puts the answer at the field."""
        return {*super()._get_validation_exclusions(), "email"}  # type: ignore[misc]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if "builder_group" in self.errors:
            # The autocomplete widget asks the database for what was sent, whatever it was.
            self.data = {**dict(self.data.items()), "builder_group": ""}
        self.show_failure()


class ChangeForm(BuilderUserForm):
    """The change form. `version` is what it was opened with; what differs from it is a change.

    After a conflict it carries the version of the row as it is now; a field that this person
    did not touch takes the other's value, so that nothing is overwritten unseen.
    """

    version = forms.CharField(widget=forms.HiddenInput, required=False, max_length=10_000)

    class Meta(BuilderUserForm.Meta):
        fields = [*BuilderUserForm.Meta.fields]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored = copy.copy(self.instance)
        self.fields["version"].initial = version_of(self.instance)
        if isinstance(self.failure, Conflict):
            self._take_theirs(self.failure)

    def _take_theirs(self, conflict: Conflict) -> None:
        data = dict(self.data.items())
        data["version"] = conflict.version or version_of(self.stored)
        for row in conflict.conflicts:
            if row.mine == row.base:
                data[row.field] = row.theirs or ""
        self.data = data

    def wanted(self) -> dict[str, Any]:
        """What the fields say; the save finds out which of them are changes."""
        return {field: self.cleaned_data[field] for field in BuilderUserForm.Meta.fields}

    def conflict_rows(self) -> list[dict[str, Any]]:
        """For the page: each field that somebody else changed, as texts, and as the values that
        a click puts into the field."""
        if not isinstance(self.failure, Conflict):
            return []
        return [
            {
                "field": row.field,
                "label": self.fields[row.field].label if row.field in self.fields else "Clerk id",
                "base": self._text(row.field, row.base),
                "theirs": self._text(row.field, row.theirs),
                "mine": self._text(row.field, row.mine),
                "theirs_value": row.theirs or "",
                "mine_value": row.mine or "",
                "choice": row.field in self.fields and row.mine not in (row.base, row.theirs),
            }
            for row in self.failure.conflicts
        ]

    def _text(self, field: str, value: Any) -> str:
        """A stored value as people read it."""
        if value in (None, ""):
            return "—"
        shown = self.fields.get(field)
        if isinstance(shown, forms.ModelChoiceField):
            group = shown.queryset.filter(pk=value).first() if shown.queryset else None
            return str(group or "a group that was deleted")
        if isinstance(shown, forms.ChoiceField):
            choices: Any = shown.choices
            return str(dict(choices).get(value, value))
        return str(value)

    def show_failure(self) -> None:
        super().show_failure()
        if self.failure is not None and self.failure.code == "email_guarded":
            page = reverse("admin:users_builderuser_email", args=[self.stored.pk])
            link = format_html(
                '<a href="{}?{}">Change email of this user</a>',
                page,
                urlencode({"email": str(self.data.get("email", ""))}),
            )
            self.add_error("email", ValidationError(link))


class AddForm(BuilderUserForm):
    """A new user, and how they come to a sign-in. Without a choice it is the first one."""

    ACCOUNTS = [
        (
            "invite",
            "Invite: Clerk mails an invitation, and the account is made when it is accepted",
        ),
        ("create", "Create the Clerk account now: you vouch for the address, no mail is sent"),
        ("none", "No sign-in yet: only the record here"),
    ]
    may_invite = True
    account = forms.ChoiceField(
        choices=ACCOUNTS, required=False, widget=forms.RadioSelect, label="Sign-in"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        account = self.fields["account"]
        assert isinstance(account, forms.ChoiceField)
        account.choices = self.ACCOUNTS if self.may_invite else self.ACCOUNTS[1:]
        account.initial = account.choices[0][0]

    def clean_account(self) -> str:
        return self.cleaned_data["account"] or str(self.fields["account"].initial)


class ChangeEmailForm(FailureMixin, forms.Form):
    """The page *Change email* of a linked user."""

    email = forms.EmailField(
        max_length=254, label="New email", widget=forms.EmailInput(attrs={"class": "vTextField"})
    )
    how = forms.ChoiceField(choices=[], widget=forms.RadioSelect, required=False)

    def __init__(
        self, *args: Any, user: BuilderUser, ways: list[tuple[str, str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        how = self.fields["how"]
        assert isinstance(how, forms.ChoiceField)
        how.choices = ways
        how.initial = ways[0][0] if ways else None

    def clean_email(self) -> str:
        email = clean_email(self.cleaned_data["email"])
        if email == self.user.email:
            raise ValidationError("This is the email that the user has.")
        return email

    def clean_how(self) -> str:
        return self.cleaned_data["how"] or str(self.fields["how"].initial or "")


class SetPasswordForm(FailureMixin, forms.Form):
    """The page *Set password*. Clerk's policy decides; here only the two must be the same."""

    password1 = forms.CharField(
        label="New password", strip=False, max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )  # fmt: skip
    password2 = forms.CharField(
        label="The same again", strip=False, max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )  # fmt: skip
    sign_out = forms.BooleanField(
        label="Sign the person out everywhere else", required=False, initial=True
    )

    def clean_password2(self) -> str:
        first, second = self.cleaned_data.get("password1"), self.cleaned_data["password2"]
        if first and first != second:
            raise ValidationError("The two passwords are not the same.")
        return str(second)
