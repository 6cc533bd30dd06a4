"""Validation of what staff type, and showing a refusal that a form is handed.

No form writes or asks Clerk: the admin hands what it says to `users.sync`, and a refusal of that
back to the form.
"""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from users.errors import ChangeFailed, Conflict, FieldConflict
from users.models import BuilderGroup, BuilderUser, InternalRole, Role

if TYPE_CHECKING:
    UserForm = forms.ModelForm[BuilderUser]
else:  # generic for the type checker alone
    UserForm = forms.ModelForm

CONTROL_CATEGORIES = {"Cc", "Cn", "Co", "Cs"}
DIRECTION_MARKS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn the reading direction of what follows, and so make one name look like another."""

EMAIL_GUARDED = "email_guarded"


class ShowsRefusal(forms.BaseForm):
    """A form that can show why a valid change was refused all the same."""

    def show(self, refusal: ChangeFailed) -> None:
        """Put each message at its field, where the form has that field, else above the form."""
        self.add_error(None, refusal.message)
        for field, messages in refusal.fields.items():
            for message in messages:
                self.add_error(field if field in self.fields else None, message)


class BuilderUserForm(ShowsRefusal, UserForm):
    """What adding and changing a builder user have in common.

    The admin makes a subclass for each request and sets `refusal` on it when it shows the form
    again after one.
    """

    refusal: ClassVar[ChangeFailed | None] = None

    class Meta:
        model = BuilderUser
        fields = ("name", "email", "role", "internal_role", "builder_group")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored = copy.copy(self.instance)
        """The row as it is in the database: validation writes what was typed to `instance`."""
        if self.is_bound:
            self.data = self.data.copy()

    def full_clean(self) -> None:
        super().full_clean()
        if not self.is_bound:
            return
        if "builder_group" in self.errors:
            self._forget("builder_group")
        if self.refusal is not None:
            self.show(self.refusal)

    def clean_name(self) -> str:
        """Whitespace as one space each; a name that differs in nothing else stays as stored."""
        name = " ".join(self.cleaned_data["name"].split())
        if name == " ".join(self.stored.name.split()):
            return self.stored.name
        unusable = [
            character
            for character in name
            if unicodedata.category(character) in CONTROL_CATEGORIES or character in DIRECTION_MARKS
        ]
        if unusable:
            raise ValidationError("The name has a character that cannot be shown. Type it again.")
        if "<" in name or ">" in name:
            raise ValidationError("A name cannot have < or > in it.")
        return name

    def clean_email(self) -> str:
        """In lower case; an address that differs in nothing else stays as stored."""
        email = str(self.cleaned_data["email"]).strip().lower()
        return self.stored.email if email == self.stored.email.lower() else email

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("internal_role") and cleaned.get("role") not in (None, Role.ADMIN):
            self.add_error(
                "internal_role", "Only users with the role Admin have an internal role. Clear it."
            )
        return cleaned

    def validate_constraints(self) -> None:
        """The one constraint that typing can violate is about the email: it is said there."""
        try:
            self.instance.validate_constraints(exclude=self._get_validation_exclusions())
        except ValidationError as error:
            self.add_error("email", error.messages)

    def _forget(self, field: str) -> None:
        """An id that is none cannot be shown again: its widget would look it up."""
        self.data[field] = ""


class BuilderUserAddForm(BuilderUserForm):
    """A new user, and what becomes of their sign-in."""

    ACCOUNTS = (
        ("create", "Create the Clerk account now, without a password"),
        ("none", "No sign-in yet: save the user here alone"),
    )

    account = forms.ChoiceField(
        label="Sign-in", choices=ACCOUNTS, initial="create", widget=forms.RadioSelect, required=False
    )

    def clean_account(self) -> str:
        return self.cleaned_data["account"] or "create"


class BuilderUserChangeForm(BuilderUserForm):
    """An edit, which knows the values that it was opened with by its `version`.

    `opened_version` is the token of the row as it is now; the admin sets it as it sets `refusal`.
    After a conflict the form goes on from what is stored now: a field that this person did not
    touch shows the stored value, a field that both changed keeps what was typed, with a choice
    `take-<field>` ("mine" or "theirs") for the next save.
    """

    opened_version: ClassVar[str] = ""

    version = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["version"].initial = self.opened_version
        self.conflicts: list[ConflictRow] = []
        if "email" in self.fields and self.stored.linked:
            self.fields["email"].help_text = format_html(
                'A linked user signs in with it, so it has a page of its own: '
                '<a href="{}">Change email</a>.',
                self._email_page(),
            )
        if self.is_bound:
            self._take_chosen()
        if isinstance(self.refusal, Conflict):
            self._go_on_from_stored(self.refusal)

    @property
    def wanted(self) -> dict[str, Any]:
        """The value that each field of the form is to have."""
        return {field: self.cleaned_data[field] for field in self.Meta.fields}

    def show(self, refusal: ChangeFailed) -> None:
        super().show(refusal)
        if refusal.code == EMAIL_GUARDED:
            typed = str(self.data.get("email", "")).strip().lower()
            link = format_html(
                '<a href="{}?{}">Change the email to {}</a>',
                self._email_page(),
                urlencode({"email": typed}),
                typed,
            )
            self.add_error("email", link)

    def _email_page(self) -> str:
        return reverse("admin:users_builderuser_email", args=[self.stored.pk])

    def _take_chosen(self) -> None:
        for field in self.Meta.fields:
            if self.data.get(f"take-{field}") == "theirs":
                self.data[field] = _typed(self.initial.get(field))

    def _go_on_from_stored(self, conflict: Conflict) -> None:
        self.data["version"] = conflict.version or self.opened_version
        found = conflict.conflicts or tuple(self._differences())
        for one in found:
            if one.field in self.fields and one.mine == one.base:
                self.data[one.field] = _typed(one.theirs)
        self.conflicts = [ConflictRow.of(one, self) for one in found]

    def _differences(self) -> Iterator[FieldConflict]:
        """Without a readable version: all that is typed otherwise than it is stored."""
        for field in self.Meta.fields:
            theirs, mine = _typed(self.initial.get(field)), str(self.data.get(field, ""))
            if theirs != mine:
                yield FieldConflict(field=field, base="", theirs=theirs, mine=mine)


@dataclass(frozen=True)
class ConflictRow:
    """One field of a conflict, in words. `choice` when both changed it, to different values."""

    field: str
    label: str
    base: str
    theirs: str
    mine: str
    theirs_value: str
    choice: bool

    @classmethod
    def of(cls, conflict: FieldConflict, form: BuilderUserForm) -> ConflictRow:
        field = form.fields.get(conflict.field)
        return cls(
            field=conflict.field,
            label=str(field.label) if field else "Link to Clerk",
            base=_in_words(conflict.field, conflict.base),
            theirs=_in_words(conflict.field, conflict.theirs),
            mine=_in_words(conflict.field, conflict.mine),
            theirs_value=_typed(conflict.theirs),
            choice=field is not None and conflict.mine not in (conflict.base, conflict.theirs),
        )


def _typed(value: Any) -> str:
    """A stored value as a form sends it."""
    return "" if value is None else str(value)


def _in_words(field: str, value: Any) -> str:
    if not value:
        return "none"
    labels: dict[str, Any] = {}
    if field == "role":
        labels = dict(Role.choices)
    elif field == "internal_role":
        labels = dict(InternalRole.choices)
    elif field == "builder_group":
        labels = {value: _group_name(value)}
    return str(labels.get(value, value))


def _group_name(pk: str) -> str:
    try:
        group = BuilderGroup.objects.filter(pk=pk).first()
    except ValidationError:
        group = None
    return group.name if group else "a group that does not exist"


class ChangeEmailForm(ShowsRefusal, forms.Form):
    """The page *Change email* of a linked user.

    `unavailable` maps a way ("invite", "replace") to the reason why it cannot be chosen.
    """

    WAYS = (("invite", "Invite the new address"), ("replace", "Replace now"))

    email = forms.EmailField(label="New email", max_length=254)
    how = forms.ChoiceField(label="How", choices=WAYS, widget=forms.RadioSelect)

    def __init__(self, *args: Any, unavailable: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unavailable = unavailable
        available = [way for way, _ in self.WAYS if way not in unavailable]
        self.fields["how"].initial = available[0] if available else None
        self.fields["email"].widget.attrs.update({"class": "vTextField", "autocomplete": "off"})

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).strip().lower()

    def clean_how(self) -> str:
        how = str(self.cleaned_data["how"])
        if how in self.unavailable:
            raise ValidationError(self.unavailable[how])
        return how


class SetPasswordForm(ShowsRefusal, forms.Form):
    """A new password, for Clerk alone: its policy is Clerk's, and it is never shown again."""

    password1 = forms.CharField(
        label="New password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )
    password2 = forms.CharField(
        label="The same once more",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )
    sign_out = forms.BooleanField(
        label="Sign the person out everywhere else", required=False, initial=True
    )

    def clean_password2(self) -> str:
        password = str(self.cleaned_data["password2"])
        if "password1" in self.cleaned_data and self.cleaned_data["password1"] != password:
            raise ValidationError("The two passwords are not the same.")
        return password
