"""The admin of staff users and their groups: Django's pages with a rank.

Nobody edits a user or group with more rights than their own, or gives rights that they lack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminPasswordChangeForm, UserChangeForm
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction
from django.db.models import Field, ManyToManyField, Model, QuerySet
from django.forms import Field as FormField
from django.forms import ModelMultipleChoiceField
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from users import authors
from users.admin.base import Deletable, SafeAdmin
from users.sync.access import groups, rank, superusers
from users.sync.actors import SERVICE_USERNAME

admin.site.unregister([User, Group])

POWERS = ("is_superuser", "user_permissions", "email")
"""The fields that only superusers may change: those that give rights beside groups, and the email.

A link for a new password is mailed to the email, and the first sign-in through the company's
provider binds an account by it. An email that was set before its owner got more rights would give
these to whoever set it, and the owner would notice nothing.
"""
SIGN_IN_RIGHTS = ("is_active", "is_staff", "is_superuser")
"""What a superuser needs to sign in, apart from the password."""
OWN = ("is_active", "is_staff", "groups")
"""The fields that only a superuser may change of their own user."""
RESERVED = frozenset({SERVICE_USERNAME, *groups.GROUPS})
"""Names that give rights: of the service user, and of the groups that `staff_groups` and the
company's sign-in provider fill."""


class RankedAdmin(SafeAdmin):
    """Adds the rank to Django's permissions of `auth`."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Also require that the object is below this person."""
        return super().has_change_permission(request, obj) and self.is_below(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Also require that the object is below this person."""
        return super().has_delete_permission(request, obj) and self.is_below(request, obj)

    def is_below(self, request: HttpRequest, obj: Model | None) -> bool:
        """Return whether this person may edit the object by its rank."""
        raise NotImplementedError

    def formfield_for_dbfield(
        self, db_field: Field, request: HttpRequest, **kwargs: object
    ) -> FormField | None:
        """Let only superusers use names that give rights."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field and db_field.name in ("username", "name") and not request.user.is_superuser:
            field.validators = [*field.validators, _is_not_reserved]
        return field

    def formfield_for_manytomany(
        self, db_field: ManyToManyField, request: HttpRequest, **kwargs: object
    ) -> ModelMultipleChoiceField | None:
        """Offer only permissions that mean something here, and that this person has."""
        if db_field.related_model is Permission:
            kwargs["queryset"] = rank.may_give(request.user, _offered())
        elif db_field.related_model is Group:
            kwargs["queryset"] = rank.groups_within(request.user)
        return super().formfield_for_manytomany(db_field, request, **kwargs)


class StaffUserForm(UserChangeForm):
    """Edit a staff user; one superuser with a password must remain."""

    def clean(self) -> dict[str, object]:
        """Refuse to take rights away from the last superuser with a password.

        Raises `ValidationError`.
        """
        cleaned: dict[str, object] = super().clean() or {}
        if not all(cleaned.get(right, getattr(self.instance, right)) for right in SIGN_IN_RIGHTS):
            _refuse_last(self.instance)
        return cleaned


class StaffPasswordForm(AdminPasswordChangeForm):
    """Set a colleague's password, or take it away; one superuser with a password must remain."""

    def clean(self) -> dict[str, object]:
        """Refuse to take the password of the last superuser away.

        Raises `ValidationError`.
        """
        cleaned: dict[str, object] = super().clean() or {}
        if not cleaned.get("set_usable_password", True):
            _refuse_last(self.user, field="usable_password")
        return cleaned


def _refuse_last(user: User, *, field: str = NON_FIELD_ERRORS) -> None:
    if last := superusers.last_among([user]):
        raise ValidationError({field: superusers.why_needed(last)})


@admin.register(User)
class UserAdmin(RankedAdmin, DjangoUserAdmin):
    """Staff users."""

    form = StaffUserForm
    change_password_form = StaffPasswordForm

    def is_below(self, request: HttpRequest, obj: Model | None) -> bool:
        """Return whether this person may edit the staff user by its rank."""
        return not isinstance(obj, User) or rank.may_edit_user(request.user, obj)

    def get_actions(
        self, request: HttpRequest
    ) -> dict[str, tuple[Callable[..., str], str, str] | None]:
        """Remove the deletion of several users: Django's page gives no reason for a refusal."""
        actions = super().get_actions(request)
        return {name: one for name, one in actions.items() if name != "delete_selected"}

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let only superusers delete staff users, and not themselves."""
        allowed = super().has_delete_permission(request, obj)
        return allowed and bool(request.user.is_superuser) and obj != request.user

    def get_deleted_objects(
        self, objs: Sequence[User] | QuerySet[User], request: HttpRequest
    ) -> Deletable:
        """Say why an author, or the last superuser with a password, cannot be deleted."""
        if last := superusers.last_among(objs):
            return [], {}, set(), [superusers.why_needed(last)]
        if kept := [authors.why_kept(user) for user in objs if authors.is_author(user)]:
            return [], {}, set(), kept
        return super().get_deleted_objects(objs, request)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> list[str] | tuple[str, ...]:
        """Make the fields that only superusers may change read-only for all others."""
        fields = super().get_readonly_fields(request, obj)
        if request.user.is_superuser:
            return fields
        return [*fields, *POWERS, *(OWN if obj == request.user else ())]

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        """Set a colleague's password. Redirect for one's own, which needs the old password."""
        # By the user and not by the text: `05` and `+5` name the user with the id 5, too.
        if self.get_object(request, unquote(id)) == request.user:
            return redirect("admin:password_change")
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Remove the password field for people who may not change it: it links to its own page."""
        fieldsets: Any = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [
            (name, {**options, "fields": [one for one in options["fields"] if one != "password"]})
            for name, options in fieldsets
        ]


@admin.register(Group)
class GroupAdmin(RankedAdmin, DjangoGroupAdmin):  # type: ignore[misc]  # its stub has another type
    """Groups of staff users."""

    def is_below(self, request: HttpRequest, obj: Model | None) -> bool:
        """Return whether this person may edit the group by its rank."""
        return not isinstance(obj, Group) or rank.may_edit_group(request.user, obj)

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> list[str] | tuple[str, ...]:
        """Make the name of a reserved group read-only, except for superusers."""
        fields = super().get_readonly_fields(request, obj)
        kept = isinstance(obj, Group) and _is_reserved(obj.name) and not request.user.is_superuser
        return [*fields, "name"] if kept else fields


def _is_reserved(name: str) -> bool:
    return name.casefold() in {one.casefold() for one in RESERVED}


def _is_not_reserved(name: str) -> None:
    if _is_reserved(name):
        raise ValidationError(_("This name is reserved. Ask a superuser."), code="reserved")


def _offered() -> QuerySet[Permission]:
    return groups.of_names(groups.OFFERED).select_related("content_type")
