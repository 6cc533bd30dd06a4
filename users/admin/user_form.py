"""The form of a builder user: what it offers, its save, and the response."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.contrib import messages
from django.contrib.admin.helpers import AdminForm
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.db.models import Field, QuerySet
from django.db.models.options import Options
from django.forms import Field as FormField
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.admin import again, offers
from users.admin.account_pages import CHANGES_OF_EMAIL
from users.admin.base import SafeAdmin
from users.admin.clerk_panel import account_of, panel
from users.admin.columns import linked_where_allowed, opens_users
from users.admin.holder import holder_link
from users.admin.one_time import token_of
from users.admin.user_context import context_of
from users.admin.user_pages import Result, tell, why_not
from users.errors import ChangeFailed, NothingToChange, NotKnown
from users.forms import FIELDS, AddForm, BuilderUserForm, ChangeForm, FormContext, GroupSelect
from users.models import CREATES, BuilderUser, OperationKind, SignIn, SyncAttempt
from users.sync.access import permissions
from users.sync.display import joined
from users.sync.mirror.sign_in_address import Block, block_of, sign_in_address
from users.sync.outbound import pending
from users.sync.services import invitations, unseen, users

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

SIGN_IN = ("email", "account")
"""The fields of the form that are about the sign-in."""


class UserAdmin(SafeAdmin):
    """What the list and the form of builder users have in common."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[BuilderUser]:
        """Fetch groups and accounts too."""
        return super().get_queryset(request).select_related("builder_group", "account")

    def has_delete_permission(self, request: HttpRequest, obj: BuilderUser | None = None) -> bool:
        """Also require what the service requires, for example to delete an Admin."""
        allowed = super().has_delete_permission(request, obj)
        return allowed and permissions.may(request.user, OperationKind.DELETE, obj)


class UserFormAdmin(UserAdmin):
    """The form of a builder user, for one request.

    Django shares an admin among all requests, and gives `response_change` nothing of what
    `save_model` did. So each request to the form gets its own admin, which holds the result of its
    save, or why it failed.
    """

    failure: ChangeFailed | None = None
    result: Result | None = None
    view_on_site = False
    empty_value_display = "—"
    change_form_template = "admin/users/builderuser/change_form.html"

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Run Django's view without its transaction, as the attempt is committed before the call.

        If the save is refused, the view runs a second time and shows the form with the failure and
        with everything that the person typed.
        """
        # The stubs do not know it.
        view = partial(self._changeform_view, request, object_id, form_url, extra_context)  # type: ignore[attr-defined]
        try:
            return view()
        except ChangeFailed as failure:
            self.failure = failure
        return view()

    def get_form(
        self, request: HttpRequest, obj: BuilderUser | None = None, change: bool = False,
        **kwargs: object,
    ) -> type[ModelForm[BuilderUser]]:  # fmt: skip
        """Use our forms, and give them the failure to show and what this person may not change."""
        if change and not self.has_change_permission(request, obj):
            return super().get_form(request, obj, change=change, **kwargs)
        kwargs["form"] = ChangeForm if change else AddForm
        form = cast(
            "type[BuilderUserForm]", super().get_form(request, obj, change=change, **kwargs)
        )
        # Django only calls it, with the data and the user.
        return cast("type[ModelForm[BuilderUser]]", partial(form, context=self._told(request, obj)))

    def _told(self, request: HttpRequest, user: BuilderUser | None) -> FormContext:
        link = holder_link(request, self.failure, user)
        if user is None:
            return FormContext(offers.of_add(request), self.failure, link)
        return FormContext(
            offers.of_change(request, user),
            self.failure,
            link,
            again=again.typed(_edit_again(request, user)),
            email_refused=why_not(request, user, *CHANGES_OF_EMAIL),
            signs_in=_how_they_sign_in(user),
        )

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, str | list[str]]:
        """Return what this person typed into a new user who was not saved."""
        create = again.again_of(request, CREATES)
        account = {"account": create.details["account"]} if create else {}
        return {**again.typed(create), **account}

    def formfield_for_dbfield(
        self, db_field: Field, request: HttpRequest, **kwargs: object
    ) -> FormField | None:
        """Let people view and add a group beside its field, but not change or delete one."""
        if db_field.name == "builder_group":
            kwargs["widget"] = GroupSelect(db_field, self.admin_site)
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "builder_group" and field:
            widget = field.widget
            assert isinstance(widget, RelatedFieldWidgetWrapper)
            widget.can_change_related = widget.can_delete_related = False
        return field

    def get_fields(self, request: HttpRequest, obj: BuilderUser | None = None) -> Any:
        """Add the choice of a sign-in to a new user, and the edit token to an existing one."""
        if obj is None:
            return [*FIELDS, "account"]
        if self.has_change_permission(request, obj):
            return [*FIELDS, "version"]
        return linked_where_allowed(self, request, FIELDS)

    def get_fieldsets(self, request: HttpRequest, obj: BuilderUser | None = None) -> Any:
        """Show who the person is beside how they sign in."""
        fields = self.get_fields(request, obj)
        sign_in = [name for name in fields if name in SIGN_IN]
        profile = [name for name in fields if name not in SIGN_IN]
        return [(_("Profile"), {"fields": profile}), (_("Sign-in"), {"fields": sign_in})]

    def save_model(
        self, request: HttpRequest, obj: BuilderUser, form: BuilderUserForm, change: bool
    ) -> None:
        """Save through the services, which write to Clerk first and then to the database.

        Raises `ChangeFailed`.
        """
        actor, token = request.user, token_of(request)
        if isinstance(form, ChangeForm):
            self.result = users.save_user(
                form.stored,
                actor=actor,
                changes=form.wanted(),
                version=form.cleaned_data["version"],
                token=token,
            )
        elif form.cleaned_data["account"] == SignIn.INVITE:
            self.result = invitations.create_invited(obj, actor=actor, token=token)
        else:
            self.result = users.create_user(
                obj, actor=actor, account=form.cleaned_data["account"], token=token
            )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, object], add: bool = False,
        change: bool = False, form_url: str = "", obj: BuilderUser | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Add the panel, the pending changes, the conflicts and the failure to the page."""
        admin_form = context["adminform"]
        assert isinstance(admin_form, AdminForm)
        form = admin_form.form
        if change and obj is not None:
            stored = get_object_or_404(self.get_queryset(request), pk=obj.pk)
            context |= {
                **context_of(
                    request,
                    stored,
                    may_change=self.has_change_permission(request, stored),
                    may_delete=self.has_delete_permission(request, stored),
                ),
                "again": _edit_again(request, stored) if request.method == "GET" else None,
                "conflict_rows": form.conflict_rows() if isinstance(form, ChangeForm) else [],
                # The heading shows the stored name, not a typed name that was refused.
                "original": stored,
                "subtitle": str(stored),
            }
        context["failure"] = self.failure
        if add and isinstance(self.failure, NotKnown):
            context["pending_create"] = pending.create_of(form.cleaned_data.get("email", ""))
        return super().render_change_form(request, context, add, change, form_url, obj)

    # --- The response ----------------------------------------------------------------------

    def response_add(
        self, request: HttpRequest, obj: BuilderUser, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Report the stored user: after a repeated POST, the user of the first one."""
        result = self._result()
        user = result.user or obj
        if IS_POPUP_VAR in request.POST:
            return super().response_add(request, user, post_url_continue)
        if isinstance(result, invitations.Invited):
            messages.success(request, _about(request, user, _("Saved here.")))
            tell(request, _("{email} is invited.").format(email=user.email), result)
        else:
            words = _saved_words(user, result.attempt)
            tell(request, _about(request, user, words), result)
        return self._after_saving(request, user)

    def response_change(self, request: HttpRequest, obj: BuilderUser) -> HttpResponse:
        """Say where the change is stored, or that there was nothing to change."""
        if IS_POPUP_VAR in request.POST:
            return super().response_change(request, obj)
        result = self._result()
        user = result.user or obj
        if result.attempt:
            words = _saved_words(user, result.attempt)
            tell(request, _about(request, user, words), result)
        else:
            unseen.mark_answered(request.user, None, again=again.again_of(request))
            _tell_unchanged(request, user)
        return self._after_saving(request, user)

    def _result(self) -> Result:
        assert self.result is not None, "Django responds only after `save_model`."
        return self.result

    def _after_saving(self, request: HttpRequest, user: BuilderUser) -> HttpResponse:
        """Redirect as the pressed button asks, like Django."""
        if "_continue" in request.POST and self.has_view_permission(request, user):
            page = user.get_absolute_url()
        elif "_addanother" in request.POST:
            page = reverse("admin:users_builderuser_add")
        else:
            return self.response_post_save_change(request, user)
        filters: dict[str, Options | str] = {
            "preserved_filters": self.get_preserved_filters(request),
            "opts": self.opts,
        }
        return HttpResponseRedirect(add_preserved_filters(filters, page))

    def log_addition(self, request: HttpRequest, obj: BuilderUser, message: object) -> None:  # type: ignore[override]
        """Write nothing: the save writes the log entry, for all sources of changes."""

    def log_change(self, request: HttpRequest, obj: BuilderUser, message: object) -> None:  # type: ignore[override]
        """Write nothing: the save writes the log entry."""


def _edit_again(request: HttpRequest, user: BuilderUser) -> SyncAttempt | None:
    """Find the edit of this user that the address asks to save again."""
    return again.again_of(request, [OperationKind.UPDATE], user_id=user.pk)


CANNOT_SIGN_IN: Mapping[Block, StrOrPromise] = {
    Block.DELETED: gettext_lazy("They cannot sign in: the account is deleted in Clerk."),
    Block.BANNED: gettext_lazy("They cannot sign in with this email: the account is banned."),
    Block.LOCKED: gettext_lazy("They cannot sign in with this email now: the account is locked."),
}


def _how_they_sign_in(user: BuilderUser) -> str:
    """Say with which email a user signs in, or why they cannot."""
    block = block_of(account_of(user))
    return str(CANNOT_SIGN_IN[block]) if block else sign_in_address(user).sentence


def _saved_words(user: BuilderUser, attempt: SyncAttempt | None) -> str:
    """Say where a change is stored. Clerk stores names and emails, but no groups or roles."""
    if not user.linked:
        return _("Saved here. This person has no Clerk account.")
    if attempt is not None and attempt.changes.keys() & {"name", "email"}:
        return _("Saved here and in Clerk.")
    return _("Saved here. Clerk does not store what you changed.")


STILL_IN_CLERK = {
    "name": gettext_lazy("the name {value}"),
    "email": gettext_lazy("the email {value}"),
}


def _tell_unchanged(request: HttpRequest, user: BuilderUser) -> None:
    """Say that nothing had to be saved, or which values Clerk still has instead."""
    compared = panel(user)
    rows = compared.rows if compared else ()
    others = [STILL_IN_CLERK[row.field].format(value=row.clerks) for row in rows if row.differs]
    if not others:
        messages.info(request, NothingToChange().message)
        return
    words = format_html(
        _(
            "Nothing had to be saved: this is stored here already. But Clerk still has {values}. "
            'Choose which one to use under <a href="{page}#clerk-panel">Here and in Clerk</a>.'
        ),
        values=joined(others),
        page=user.get_absolute_url(),
    )
    messages.warning(request, words)


def _about(request: HttpRequest, user: BuilderUser, words: str) -> str:
    if not opens_users(request):
        return f"{user}: {words}"
    return format_html('<a href="{}">{}</a>: {}', user.get_absolute_url(), user, words)
