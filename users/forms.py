"""Validation, and the display of a refusal that a form gets. Nothing here stores anything."""

from __future__ import annotations

import copy
import dataclasses
import uuid
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from django import forms
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.urls import reverse
from django.utils.datastructures import MultiValueDict
from django.utils.encoding import punycode
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from users.errors import ChangeFailed, Conflict, EmailGuarded, FieldConflict
from users.models import BuilderUser, SignIn
from users.validation import clean_email, clean_name, clean_roles
from users.version import UnreadableToken, base_of, same, value_of, values_of, version_of

FIELDS = ("name", "email", "role", "internal_role", "builder_group")
GONE_GROUP = _("a group that was deleted")
CHANGE_EMAIL = _("To change it, use “Change email” below.")
NO_ROLE = _("none")
_NO_LINE_BREAKS = str.maketrans("", "", "\r\n")


def _as_sent(field: str, value: object) -> str:
    """Return a value as a browser would send it back.

    Text fields lose line breaks and spaces at the ends. Some browsers send the domain of an email
    in ASCII.
    """
    text = ("" if value is None else str(value)).translate(_NO_LINE_BREAKS).strip()
    if field != "email":
        return text
    mailbox, at, domain = text.rpartition("@")
    try:
        return mailbox + at + punycode(domain)
    except UnicodeError:
        return text  # it is not an email


def _choices_of(field: forms.ChoiceField) -> list[tuple[object, object]]:
    """Return the choices that a field accepts: values and labels."""
    choices = field.choices
    assert isinstance(choices, Iterable)
    return list(choices)


def _is_id(value: str) -> bool:
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True


@dataclass
class Offers:
    """What a form offers to one person.

    `locked` are the fields that they may not change. `withheld` are the choices that are not shown,
    by field; the form still accepts such a value, so that the service can refuse it with the
    reason. `notes` are help texts that give the reasons, by field.
    """

    locked: set[str] = dataclasses.field(default_factory=set)
    withheld: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)

    def lock(self, name: str, why: str) -> None:
        """Lock a field if there is a reason."""
        if why:
            self.locked.add(name)
            self.notes[name] = why

    def withhold(self, name: str, choice: str, why: str) -> None:
        """Withhold a choice if there is a reason, unless the field is locked."""
        if why and name not in self.locked:
            self.withheld.setdefault(name, []).append(choice)
            self.notes[name] = gettext("Some choices are not offered. {why}").format(why=why)


@dataclass(frozen=True)
class FormContext:
    """What the page tells the form of a user.

    `failure` is why the change was not made, and `failure_link` the HTML of a link to the person
    whom its messages name. `again` holds the values that the author typed into a change that was
    not saved, by field. `email_refused` says why this person may not open *Change email*, and
    `signs_in` with which address the user signs in, or why they cannot.
    """

    offers: Offers = dataclasses.field(default_factory=Offers)
    failure: ChangeFailed | None = None
    failure_link: str = ""
    again: Mapping[str, object] = dataclasses.field(default_factory=dict)
    email_refused: str = ""
    signs_in: str = ""


def show_failure(form: forms.BaseForm, failure: ChangeFailed, link: str = "") -> None:
    """Add a failure's messages to their fields, or on top if they have no visible field.

    `link` is HTML, and is shown at the email.
    """
    top = [failure.message]
    for name, messages in failure.fields.items():
        for message in messages:
            if name in form.fields and not form.fields[name].widget.is_hidden:
                form.add_error(name, ValidationError(message, code=failure.code))
            else:
                top.append(message)
    for message in top:
        form.add_error(None, ValidationError(message, code=failure.code))
    if link:
        form.add_error("email", ValidationError(link, code=failure.code))


_Group = tuple[str | None, list[dict[str, object]], int | None]
"""A group of options: its name, its options and its number."""


class GroupSelect(AutocompleteSelect):
    """The autocomplete of groups. It also offers the selected group if that was deleted."""

    def optgroups(
        self, name: str, value: Sequence[str], attr: dict[str, object] | None = None
    ) -> list[_Group]:
        """Add an option for each selected group that does not exist any more."""
        groups = super().optgroups(name, list(filter(_is_id, value)), attr)
        options = groups[0][1]
        offered = {str(option["value"]) for option in options}
        for gone in value:
            if gone not in offered:
                options.append(
                    self.create_option(name, gone, GONE_GROUP.capitalize(), True, len(options))
                )
        return groups


class BuilderUserForm(forms.ModelForm):
    """The fields of a user.

    `untouched` maps fields to their stored values. These fields are neither validated nor changed:
    legacy rows hold values that today's rules refuse, and these must not block another edit.
    """

    untouched: Mapping[str, object] = MappingProxyType({})

    def __init__(
        self,
        data: Mapping[str, object] | None = None,
        files: MultiValueDict[str, UploadedFile] | None = None,
        *,
        context: FormContext,
        instance: BuilderUser | None = None,
        initial: MutableMapping[str, object] | None = None,
    ) -> None:
        super().__init__(data, files, instance=instance, initial=initial)
        self.context = context
        for name in context.offers.locked:
            self.fields[name].widget.attrs["disabled"] = True
        for name, why in context.offers.notes.items():
            self.fields[name].help_text = why
        self._withhold()
        self._prepare()

    def _prepare(self) -> None:
        """Adapt the fields to the kind of the form."""

    def _withhold(self) -> None:
        """Remove the withheld choices from the page.

        Call it again after the choices of a field are set.
        """
        for name, values in self.context.offers.withheld.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.widget.choices = [one for one in _choices_of(field) if one[0] not in values]

    class Meta:
        model = BuilderUser
        fields = [*FIELDS]

    def clean_name(self) -> str:
        """Validate and normalize the name."""
        return clean_name(self.cleaned_data["name"])

    def clean_email(self) -> str:
        """Validate and normalize the email."""
        return clean_email(self.cleaned_data["email"])

    def clean(self) -> dict[str, object]:
        """Check that the internal role fits the role, unless neither was touched."""
        cleaned = super().clean() or self.cleaned_data
        if {"role", "internal_role"} <= self.untouched.keys():
            return cleaned
        held = {**self.untouched, **cleaned}
        try:
            clean_roles(held.get("role"), held.get("internal_role"))
        except ValidationError as error:
            self.add_error("internal_role", error)
        return cleaned

    def _clean_fields(self) -> None:
        """Validate only the touched fields."""
        every = self.fields
        self.fields = {name: field for name, field in every.items() if name not in self.untouched}
        try:
            super()._clean_fields()  # type: ignore[misc]
        finally:
            self.fields = every

    def _get_validation_exclusions(self) -> set[str]:
        """Do not check here whether the email is taken.

        The save checks that under the lock, before it asks Clerk, and reports it at the field.
        """
        return {*super()._get_validation_exclusions(), "email", *self.untouched}  # type: ignore[misc]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.context.failure is not None:
            self.show_failure(self.context.failure)

    def show_failure(self, failure: ChangeFailed) -> None:
        """Show why the change was not made."""
        show_failure(self, failure, self.context.failure_link)


class ChangeForm(BuilderUserForm):
    """The change form. `version` is the edit token that it was opened with.

    A field that still holds its opening value is untouched. After a conflict the form carries the
    token of the row as it is stored now, and its untouched fields show the stored values. So the
    next save does not overwrite a value that the person has not seen.
    """

    version = forms.Field(label=_("Version"), widget=forms.HiddenInput, required=False)

    def _prepare(self) -> None:
        """Compare what was sent with what the form was opened with."""
        again = self.context.again
        self.initial.update({name: again[name] for name in FIELDS if name in again})
        self.stored = copy.copy(self.instance)
        self.fields["version"].initial = version_of(self.stored)
        self.opened, self.comparable = self._opened()
        self._fill_in_locked()
        self.conflicts: list[FieldConflict] = []
        if isinstance(self.context.failure, Conflict):
            self.conflicts = self._conflicts(self.context.failure)
            self._show_stored()
        if self.stored.linked:
            self.fields["name"].help_text = gettext("A new name is saved in Clerk too.")
        self._offer_unknown_values()
        self._withhold()
        self.untouched = self._untouched()
        self._guard_email()

    def _guard_email(self) -> None:
        """Make the email of a linked user read-only: it has a page of its own."""
        if not self.stored.linked or (self.is_bound and "email" not in self.untouched):
            return
        email = self.fields["email"]
        email.widget.attrs["readonly"] = True
        told = [self.context.signs_in, self.context.email_refused or CHANGE_EMAIL]
        email.help_text = " ".join(map(str, filter(None, told)))

    def _fill_in_locked(self) -> None:
        """Give locked fields their opening values: a browser does not send a disabled field."""
        if not self.is_bound:
            return
        unsent = {
            self.add_prefix(field): self.opened[field] or ""
            for field in self.context.offers.locked
            if self.add_prefix(field) not in self.data
        }
        if unsent:
            self.data = {**dict(self.data.items()), **unsent}

    def _opened(self) -> tuple[dict[str, object], bool]:
        """Return the values that the form was opened with, and whether they come from its token.

        Without a readable token, return the values that are stored now.
        """
        if not self.is_bound:
            return values_of(self.stored), True
        try:
            return base_of(self.data.get(self.add_prefix("version"), ""), self.stored), True
        except UnreadableToken:
            return values_of(self.stored), False

    def _sent(self, field: str) -> object:
        widget = self.fields[field].widget
        return widget.value_from_datadict(self.data, self.files, self.add_prefix(field))

    def _untouched(self) -> dict[str, object]:
        return {
            field: self.opened[field]
            for field in FIELDS
            if _as_sent(field, self._sent(field)) == _as_sent(field, self.opened[field])
        }

    def _conflicts(self, failure: Conflict) -> list[FieldConflict]:
        """List the fields that somebody else changed.

        If the token cannot be read, list the touched fields.
        """
        untouched = self._untouched()
        conflicts = []
        for field, base in self.opened.items():
            theirs = value_of(self.stored, field)
            touched = field in FIELDS and field not in untouched
            if theirs != base or (touched and not self.comparable):
                mine = self._sent(field) if touched else base
                conflicts.append(
                    FieldConflict(field, base if self.comparable else None, theirs, mine)
                )
        listed = {conflict.field for conflict in conflicts}
        elsewhere = [one for one in failure.conflicts if one.field not in listed]
        return [*conflicts, *elsewhere]  # changes in Clerk are not in our row

    def _show_stored(self) -> None:
        """Show the stored values.

        Keep what the person typed only where the list of conflicts compares it.
        """
        kept = set(FIELDS) - self._untouched().keys() if self.comparable else set()
        self.opened = values_of(self.stored)
        stored = {
            self.add_prefix(field): self.opened[field] or ""
            for field in FIELDS
            if field not in kept
        }
        self.data = {
            **dict(self.data.items()),
            **stored,
            self.add_prefix("version"): version_of(self.stored),
        }

    def _offer_unknown_values(self) -> None:
        """Offer the stored value even if it is not among the choices."""
        for name, field in self.fields.items():
            if not isinstance(field, forms.TypedChoiceField):
                continue
            value = self.opened[name] or ""
            choices = _choices_of(field)
            if value not in dict(choices):
                field.choices = [(value, value or NO_ROLE), *choices]

    def clean_version(self) -> str:
        """Treat a missing token as an unreadable one."""
        return self.cleaned_data["version"] or ""

    def wanted(self) -> dict[str, object]:
        """Return the values of the touched fields. The save finds out which of them are changes."""
        return {field: self.cleaned_data[field] for field in FIELDS if field not in self.untouched}

    def conflict_rows(self) -> list[dict[str, object]]:
        """Return one row for each field in conflict.

        A row holds the values as texts, and the values that a click puts into the field.
        """
        return [
            {
                "field": row.field,
                "label": self.fields[row.field].label
                if row.field in self.fields
                else gettext("Clerk id"),
                "base": self._text(row.field, row.base),
                "theirs": self._text(row.field, row.theirs),
                "mine": self._text(row.field, row.mine)
                if row.mine != row.base
                else gettext("Not touched"),
                "theirs_value": row.theirs or "",
                "mine_value": row.mine or "",
                "choice": row.field in self.fields
                and not same(row.field, row.mine, row.theirs)
                and (row.mine != row.base or not self.comparable),
            }
            for row in self.conflicts
        ]

    def _text(self, field: str, value: object) -> str:
        """Return a stored value as people read it."""
        if value in (None, ""):
            return "—"
        shown = self.fields.get(field)
        if isinstance(shown, forms.ModelChoiceField):
            group = shown.queryset.filter(pk=value).first() if shown.queryset else None
            return str(group or GONE_GROUP)
        if isinstance(shown, forms.ChoiceField):
            return str(dict(_choices_of(shown)).get(value, value))
        return str(value)

    def show_failure(self, failure: ChangeFailed) -> None:
        """Also link to the page *Change email* if a new email was typed into this form.

        If this person may not open that page, say why instead.
        """
        super().show_failure(failure)
        if not isinstance(failure, EmailGuarded):
            return
        if self.context.email_refused:
            self.add_error("email", ValidationError(self.context.email_refused))
        else:
            page = reverse("admin:users_builderuser_email", args=[self.stored.pk])
            link = format_html(
                '<a href="{}?{}">{}</a>',
                page,
                urlencode({"email": str(self.data.get("email", ""))}),
                gettext("Change email of this user"),
            )
            self.add_error("email", ValidationError(link))


class AddForm(BuilderUserForm):
    """A new user, and how they get a sign-in. Without a choice, the first offered way is used."""

    account = forms.ChoiceField(
        choices=SignIn.choices, required=False, widget=forms.RadioSelect, label=_("Sign-in")
    )

    def _prepare(self) -> None:
        """Choose the first way to sign in that is offered."""
        account = cast(forms.ChoiceField, self.fields["account"])
        account.initial = next(value for value, _ in account.widget.choices)

    def clean_account(self) -> SignIn:
        """Return the chosen way to sign in, or the default."""
        return SignIn(self.cleaned_data["account"] or self.fields["account"].initial)


class ChangeEmailForm(forms.Form):
    """The page *Change email* of a linked user. `ways` are the choices that the person may use."""

    email = forms.EmailField(
        max_length=254, label=_("New email"), widget=forms.EmailInput(attrs={"class": "vTextField"})
    )
    how = forms.ChoiceField(choices=[], widget=forms.RadioSelect, required=False)

    def __init__(
        self,
        data: Mapping[str, object] | None = None,
        *,
        ways: list[tuple[str, str]],
        initial: dict[str, str] | None = None,
    ) -> None:
        super().__init__(data, initial=initial)
        how = self.fields["how"]
        assert isinstance(how, forms.ChoiceField)
        how.choices = ways
        how.initial = ways[0][0] if ways else None

    def clean_email(self) -> str:
        """Validate and normalize the email."""
        return clean_email(self.cleaned_data["email"])

    def clean_how(self) -> str:
        """Return the chosen way, or the default."""
        return self.cleaned_data["how"] or str(self.fields["how"].initial or "")


class SetPasswordForm(forms.Form):
    """The page *Set password*. Clerk applies its policy; this form only compares the two inputs."""

    password1 = forms.CharField(
        label=_("New password"), strip=False, max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )  # fmt: skip
    password2 = forms.CharField(
        label=_("Confirm password"), strip=False, max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )  # fmt: skip
    sign_out = forms.BooleanField(
        label=_("Sign them out on all devices"), required=False, initial=True
    )

    def clean_password2(self) -> str:
        """Refuse two passwords that differ."""
        first, second = self.cleaned_data.get("password1"), self.cleaned_data["password2"]
        if first and first != second:
            raise ValidationError(gettext("The two passwords are not the same."))
        return str(second)
