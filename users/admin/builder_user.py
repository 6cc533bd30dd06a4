"""The admin of builder users: the list, the form and its save."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.timezone import localtime
from django.views.decorators.csrf import csrf_protect

from users.admin import again, offers
from users.admin.account_pages import CHANGES_OF_EMAIL
from users.admin.actions import PULLS, PUSHES, AccountActions
from users.admin.base import (
    CappedPaginator,
    linked_where_allowed,
    opens_users,
    say,
    say_result,
)
from users.admin.clerk_panel import doubt_of, panel
from users.admin.holder import holder_link
from users.admin.one_time import token_of
from users.admin.wanted import wanted_of
from users.errors import ChangeFailed, NothingToChange, NotKnown, NotSaved
from users.forms import FIELDS, NO_ROLE, AddForm, BuilderUserForm, ChangeForm, GroupSelect
from users.models import BuilderUser, ClerkAccount, Invitation, OperationKind, Role, SyncAttempt
from users.sync.access import permissions
from users.sync.actors import author_of
from users.sync.mirror.health import is_stale, where_stale
from users.sync.mirror.status import UserStatus, with_state
from users.sync.operations import from_attempt, references
from users.sync.outbound import pending, recovery, repeats
from users.sync.services import invitations, transfer, unseen, users

csrf_protect_m = method_decorator(csrf_protect)

EMPTY = "—"
NOT_LATELY = "Not checked lately"
MOST_AT_ONCE = 100
"""Users that one request may delete: it waits for Clerk once for each."""


class RoleFilter(admin.ChoicesFieldListFilter):
    """Filter by role, or by none. The column may be an enum that refuses an unknown value."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        """Select nobody for an unknown role."""
        if set(self.lookup_val or ()) - set(Role.values):
            return queryset.none()
        return super().queryset(request, queryset)

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Offer none too."""
        yield from super().choices(changelist)
        yield {
            "selected": bool(self.lookup_val_isnull),
            "query_string": changelist.get_query_string(
                {self.lookup_kwarg_isnull: "True"}, [self.lookup_kwarg]
            ),
            "display": NO_ROLE,
        }


class StateFilter(admin.SimpleListFilter):
    """Filter by how the user compares with Clerk."""

    title = "Clerk"
    parameter_name = "clerk"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List all statuses of a user."""
        return list(UserStatus.choices)

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> QuerySet[BuilderUser]:
        """Select the users with the chosen status. Ignore an unknown value."""
        if self.value() in UserStatus.values:
            return queryset.filter(Q(clerk_state=self.value()))
        return queryset


class CheckedFilter(admin.SimpleListFilter):
    """Filter by whether the mirror of the user's account was checked with Clerk lately."""

    title = "last checked"
    parameter_name = "checked"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the accounts that were not checked lately."""
        return [("not_lately", NOT_LATELY)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> QuerySet[BuilderUser]:
        """Select the users whose account was not checked lately. Ignore an unknown value."""
        if self.value() == "not_lately":
            return queryset.filter(where_stale("account__"))
        return queryset


@admin.register(BuilderUser)
class BuilderUserAdmin(AccountActions):
    """The list and the form of builder users, with all pages beside the form."""

    list_display = [
        "name",
        "email",
        "clerk",
        "builder_group",
        "shown_role",
        "last_sign_in",
        "updated",
    ]
    list_filter = [("role", RoleFilter), StateFilter, CheckedFilter]
    list_select_related = ["builder_group", "account"]
    list_per_page = 50
    view_on_site = False
    empty_value_display = EMPTY
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    linked_lookups = ("builder_group__id__exact",)
    search_fields = ["name", "email", "=id", "=clerk_id"]
    search_help_text = "Name, email, id or Clerk id"
    actions = ["delete_users"]
    fields = FIELDS
    change_form_template = "admin/users/builderuser/change_form.html"

    # --- The list --------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[BuilderUser]:
        """Fetch groups and accounts too. Add the status only to the list, because it costs time."""
        users = super().get_queryset(request).select_related("builder_group", "account")
        return with_state(users) if _is_list(request) else users

    @admin.display(description="Clerk", ordering="clerk_state")
    def clerk(self, user: BuilderUser) -> str:
        """Render the status of the user, and a second badge if it may be out of date."""
        state = UserStatus(user.clerk_state)  # type: ignore[attr-defined]
        badge = format_html('<span class="state state-{}">{}</span>', state.value, state.label)
        clerk_account = getattr(user, "account", None)
        if clerk_account is None or not is_stale(clerk_account):
            return badge
        return badge + _not_lately(clerk_account)

    @admin.display(description="role", ordering="role")
    def shown_role(self, user: BuilderUser) -> str:
        """Return the role in words. Tables of another application allow none."""
        return user.get_role_display() or NO_ROLE

    @admin.display(description="last sign-in", ordering="account__last_sign_in_at")
    def last_sign_in(self, user: BuilderUser) -> Any:
        """Return the day of the last sign-in that the mirror knows."""
        clerk_account = getattr(user, "account", None)
        return _day(clerk_account.last_sign_in_at) if clerk_account else None

    @admin.display(description="updated", ordering="updated_at")
    def updated(self, user: BuilderUser) -> str:
        """Return the day of the last update of the row."""
        return _day(user.updated_at)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Add the number of changes that are not confirmed by Clerk."""
        unconfirmed = pending.not_confirmed().count()
        context = {**(extra_context or {}), "unconfirmed": unconfirmed}
        return super().changelist_view(request, context)

    # --- The form --------------------------------------------------------------------------

    def get_form(
        self, request: HttpRequest, obj: BuilderUser | None = None, change: bool = False,
        **kwargs: Any,
    ) -> type[ModelForm[BuilderUser]]:  # fmt: skip
        """Use our forms, and give them the failure to show and what this person may not change."""
        if self.has_change_permission(request, obj) if change else True:
            kwargs["form"] = ChangeForm if change else AddForm
        form = super().get_form(request, obj, change=change, **kwargs)
        form.failure = getattr(request, "failure", None)  # type: ignore[attr-defined]
        form.failure_link = holder_link(request, form.failure, obj)  # type: ignore[attr-defined]
        if issubclass(form, BuilderUserForm):
            offered = offers.of_add(request) if obj is None else offers.of_change(request, obj)
            form.locked, form.withheld, form.notes = (
                offered.locked, offered.withheld, offered.notes,
            )  # fmt: skip
        if obj is not None and issubclass(form, ChangeForm):
            form.again = again.typed(_edit_again(request, obj))
            form.email_refused = self.why_not(request, obj, *CHANGES_OF_EMAIL)
        return form

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Return what this person typed into a new user who was not saved."""
        create = again.again_of(request, again.CREATES)
        return again.typed(create) | ({"account": create.details["account"]} if create else {})

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Let people view and add a group beside its field, but not change or delete one."""
        if db_field.name == "builder_group":
            kwargs["widget"] = GroupSelect(db_field, self.admin_site)
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if db_field.name == "builder_group" and field:
            widget: Any = field.widget
            widget.can_change_related = widget.can_delete_related = False
        return field

    def get_fields(self, request: HttpRequest, obj: BuilderUser | None = None) -> Any:
        """Add the choice of a sign-in to a new user, and the edit token to an existing one."""
        if obj is None:
            return [*FIELDS, "account"]
        if self.has_change_permission(request, obj):
            return [*FIELDS, "version"]
        return linked_where_allowed(self, request, FIELDS)

    @csrf_protect_m
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Run Django's view without the transaction that Django wraps around it.

        The attempt must be committed before Clerk is asked. If the save is refused, the view runs a
        second time and shows the form with the failure and with everything that the person typed.
        """
        try:
            return self._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[attr-defined]
        except ChangeFailed as failure:
            request.failure = failure  # type: ignore[attr-defined]
        return self._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: BuilderUser, form: Any, change: bool) -> None:
        """Save through the services, which write to Clerk first and then to the database.

        Raises `ChangeFailed`.
        """
        if change:
            request.saved = users.save_user(  # type: ignore[attr-defined]
                form.stored,
                actor=request.user,
                changes=form.wanted(),
                version=form.cleaned_data["version"],
                token=token_of(request),
            )
        elif form.cleaned_data["account"] == "invite":
            request.saved = invitations.create_invited(  # type: ignore[attr-defined]
                obj, actor=request.user, token=token_of(request)
            )
        else:
            request.saved = users.create_user(  # type: ignore[attr-defined]
                obj,
                actor=request.user,
                account=form.cleaned_data["account"],
                token=token_of(request),
            )

    def response_add(
        self, request: HttpRequest, obj: BuilderUser, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Report the stored user: after a repeated POST, the user of the first one."""
        result = request.saved  # type: ignore[attr-defined]
        user = result.user or obj
        if IS_POPUP_VAR in request.POST:
            return super().response_add(request, user, post_url_continue)
        if isinstance(result, invitations.Invited):
            messages.success(request, _about(request, user, "Saved here."))
            self.tell(request, f"{user.email} is invited.", result)
        else:
            words = _saved_words(user, result.attempt)
            self.tell(request, _about(request, user, words), result)
        return self._after_saving(request, user)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], add: bool = False,
        change: bool = False, form_url: str = "", obj: BuilderUser | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Add the panel, the pending changes, the conflicts and the failure to the page."""
        if change and obj is not None:
            stored = _with_account(obj)
            form = context["adminform"].form
            context |= {
                **self._panel(request, stored),
                "pending_attempts": _pending_of(stored),
                "why_not_discard": _why_not_discard(request, stored),
                "again": _edit_again(request, stored) if request.method == "GET" else None,
                "conflict_rows": form.conflict_rows() if isinstance(form, ChangeForm) else [],
                # The heading shows the stored name, not a typed name that was refused.
                "original": stored,
                "subtitle": str(stored),
            }
        context["failure"] = getattr(request, "failure", None)
        if add and isinstance(context["failure"], NotKnown):
            typed = context["adminform"].form.cleaned_data
            context["pending_create"] = pending.create_of(typed.get("email", ""))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _panel(self, request: HttpRequest, stored: BuilderUser) -> dict[str, Any]:
        return {
            "stored": stored,
            "panel": panel(stored),
            "doubt": doubt_of(stored),
            "may_change": self.has_change_permission(request, stored),
            "may_push": [
                field
                for field, kind in PUSHES.items()
                if permissions.may(request.user, kind, stored)
            ],
            "may_pull": [
                field
                for field, kind in PULLS.items()
                if permissions.may(request.user, kind, stored, wanted={field: None})
            ],
            "may_change_email": not self.why_not(request, stored, *CHANGES_OF_EMAIL),
            "may_set_password": permissions.may(request.user, OperationKind.SET_PASSWORD, stored),
            "dashboard": settings.CLERK_DASHBOARD_URL,
            "account_actions": self.actions_for(request, stored),
            "may_link": permissions.may(request.user, OperationKind.LINK, stored),
            "invitation": invitations.open_of(stored),
            "may_invite": permissions.may(request.user, OperationKind.INVITE, stored),
        }

    def response_change(self, request: HttpRequest, obj: BuilderUser) -> HttpResponse:
        """Say where the change is stored, or that there was nothing to change."""
        if IS_POPUP_VAR in request.POST:
            return super().response_change(request, obj)
        result = request.saved  # type: ignore[attr-defined]
        user = result.user or obj
        if result.changed:
            words = _saved_words(user, result.attempt)
            self.tell(request, _about(request, user, words), result)
        else:
            unseen.mark_answered(request.user, None, again=again.again_of(request))
            messages.info(request, NothingToChange().message)
        return self._after_saving(request, user)

    def _after_saving(self, request: HttpRequest, user: BuilderUser) -> HttpResponse:
        """Redirect as the pressed button asks, like Django."""
        if "_continue" in request.POST and self.has_view_permission(request, user):
            page = user.get_absolute_url()
        elif "_addanother" in request.POST:
            page = reverse("admin:users_builderuser_add")
        else:
            return self.response_post_save_change(request, user)
        filters: Any = {"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}
        return HttpResponseRedirect(add_preserved_filters(filters, page))

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Write nothing: the save writes the log entry, for all sources of changes."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Write nothing: the save writes the log entry."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Write nothing: the deletion writes the log entry."""

    # --- Deleting --------------------------------------------------------------------------

    @csrf_protect_m
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Run Django's view without its transaction. Show a refusal on the same page."""
        if deletion := self._deleted_before(request, unquote(object_id)):
            return self.response_delete(request, deletion.label, object_id)  # type: ignore[arg-type]
        try:
            return self._delete_view(request, object_id, extra_context)  # type: ignore[attr-defined]
        except ChangeFailed as failure:
            say(request, failure)
        return HttpResponseRedirect(request.get_full_path())

    def _deleted_before(self, request: HttpRequest, user_id: str) -> SyncAttempt | None:
        """Find the deletion that this page has already made, for a repeated POST.

        The user does not exist any more then.
        """
        if not self.has_delete_permission(request):
            return None
        return repeats.deletion_by(token_of(request), user_id)

    def has_delete_permission(self, request: HttpRequest, obj: BuilderUser | None = None) -> bool:
        """Also require what the service requires, for example to delete an Admin."""
        allowed = super().has_delete_permission(request, obj)
        return allowed and permissions.may(request.user, OperationKind.DELETE, obj)

    def delete_model(self, request: HttpRequest, obj: BuilderUser) -> None:
        """Delete the user in Clerk and here.

        Raises `ChangeFailed`.
        """
        deleted = users.delete_user(obj, actor=request.user, token=token_of(request))
        unseen.mark_answered(request.user, deleted.attempt, again=again.again_of(request))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Require no permission for the user's invitations. Name what still refers to the user."""
        found, count, perms_needed, protected = super().get_deleted_objects(objs, request)
        referring = [*filter(None, (references.to_user(user.pk) for user in objs))]
        perms_needed -= {Invitation._meta.verbose_name}
        return found, count, perms_needed, [*protected, *referring]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Remove Django's own deletion of several users."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)  # it deletes here and not in Clerk
        return actions

    @admin.action(description="Delete the selected users, in Clerk too", permissions=["delete"])
    def delete_users(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> HttpResponse | None:
        """Ask for confirmation, then delete user by user and report each result."""
        if queryset.count() > MOST_AT_ONCE:
            messages.error(request, f"Choose at most {MOST_AT_ONCE} users. Nobody was deleted.")
            return None
        if request.POST.get("confirmed"):
            self._delete_each(request, queryset)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": "Delete these users?",
            "users": queryset,
            "opts": self.opts,
            "media": self.media,
        }
        return TemplateResponse(request, "admin/users/builderuser/delete_users.html", context)

    def _delete_each(self, request: HttpRequest, chosen_users: QuerySet[BuilderUser]) -> None:
        """Delete user by user. After Clerk did not answer, skip all other linked users.

        Each of them would wait as long. A repeated POST also reports the users that the first one
        deleted.
        """
        silent, token, found = False, token_of(request), list(chosen_users)
        for chosen in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if deletion := repeats.deletion_by(repeats.part_of(token, chosen), chosen):
                _tell_deleted(request, deletion.label, in_clerk=bool(deletion.clerk_id))
        for user in found:
            name = str(user)
            if silent and user.linked:
                messages.warning(request, f"{name}: not tried, as Clerk takes no more now.")
                continue
            try:
                users.delete_user(
                    user, actor=request.user, token=repeats.part_of(token, str(user.pk))
                )
            except ChangeFailed as failure:
                say(request, failure, name)
                silent = isinstance(failure, NotSaved | NotKnown) or bool(failure.retry_after)
            else:
                _tell_deleted(request, name, in_clerk=user.linked)

    # --- Pending changes -------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        """Add the pages beside the form."""
        check = self.admin_site.admin_view(self.check_view)
        take_over = self.admin_site.admin_view(self.take_over_view)
        refresh = self.admin_site.admin_view(self.refresh_view)
        return [
            *self.copy_urls(),  # must come first: …/push/email/ also matches …/email/
            path("<path:object_id>/check/", check, name="users_builderuser_check"),
            path("<path:object_id>/take-over/", take_over, name="users_builderuser_take_over"),
            path("<path:object_id>/refresh/", refresh, name="users_builderuser_refresh"),
            *self.account_urls(),
            *self.action_urls(),
            *super().get_urls(),
        ]

    def check_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Recover the pending attempts of this user, for the button *Check with Clerk now*."""
        user = self.user_to_change(request, object_id)
        if user is None:
            return self.missing(request, object_id)
        if request.method == "POST":
            for result in recovery.recover_user(user.pk, send_again=True):
                say_result(request, result)
        return self.back(user)

    def take_over_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Discard pending changes, for the button *Use Clerk's version and discard this change*.

        A person can decide what recovery cannot.
        """
        user = self.user_of_page(request, object_id, OperationKind.FOLLOW)
        if user is None:
            return self.missing(request, object_id)
        if request.method == "POST":
            try:
                recovery.take_over(user, actor=request.user, token=token_of(request))
            except ChangeFailed as failure:
                say(request, failure)
            else:
                messages.success(request, "Clerk's version is used here now.")
        return self.back(user)

    @csrf_protect_m
    def refresh_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Read the account from Clerk, for the button *Refresh*.

        The page asks in the background and shows the panel in the answer. Without JavaScript the
        button sends a normal form.
        """
        user = self.user_to_change(request, object_id)
        if user is None:
            return self.missing(request, object_id)
        if request.method != "POST":
            return self.back(user)
        failure = None
        try:
            transfer.refresh(user)
        except ChangeFailed as refused:
            failure = refused
        if request.headers.get("X-Requested-With") != "fetch":
            if failure:
                say(request, failure)
            return self.back(user)
        stored = _with_account(user)
        context = {**self._panel(request, stored), "refresh_failure": failure}
        return TemplateResponse(request, "admin/users/builderuser/clerk_panel.html", context)

    def user_to_change(self, request: HttpRequest, object_id: str) -> BuilderUser | None:
        """Return the user of a page beside the form, or None if there is none.

        Raises `PermissionDenied`.
        """
        user = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        return user


def _with_account(user: BuilderUser) -> BuilderUser:
    """Return the user as stored now. Raises `Http404` if it was deleted while Clerk was asked."""
    return get_object_or_404(BuilderUser.objects.select_related("account"), pk=user.pk)


def _edit_again(request: HttpRequest, user: BuilderUser) -> SyncAttempt | None:
    """Find the edit of this user that the address asks to save again."""
    return again.again_of(request, [OperationKind.UPDATE], user_id=user.pk)


def _pending_of(user: BuilderUser) -> list[dict[str, Any]]:
    """List the pending changes of a user: who wanted what, and when Clerk is asked again."""
    attempts = SyncAttempt.objects.pending().filter(user=user).select_related("actor")
    return [
        {
            "attempt": one,
            "who": author_of(one),
            "wanted": wanted_of(one),
            "checked_at": one.checked_at,  # type: ignore[attr-defined]
        }
        for one in unseen.with_group(pending.with_next_check(attempts)).order_by("id")
    ]


def _why_not_discard(request: HttpRequest, user: BuilderUser) -> str:
    """Say why this person may not discard the pending changes of a user; "" if they may."""
    attempts = SyncAttempt.objects.pending().filter(user=user)
    lacking = permissions.missing_to_discard(map(from_attempt, attempts), user, actor=request.user)
    return permissions.explain(lacking)


def _saved_words(user: BuilderUser, attempt: SyncAttempt | None) -> str:
    """Say where a change is stored. Clerk stores names and emails, but no groups or roles."""
    if not user.linked:
        return "Saved here. This person has no Clerk account."
    if attempt is not None and attempt.changes.keys() & {"name", "email"}:
        return "Saved here and in Clerk."
    return "Saved here. Clerk does not store what you changed."


def _about(request: HttpRequest, user: BuilderUser, words: str) -> str:
    if not opens_users(request):
        return f"{user}: {words}"
    return format_html('<a href="{}">{}</a>: {}', user.get_absolute_url(), user, words)


def _tell_deleted(request: HttpRequest, name: str, *, in_clerk: bool) -> None:
    where = "here and in Clerk" if in_clerk else "here"
    messages.success(request, f"{name}: deleted, {where}.")


def _is_list(request: HttpRequest) -> bool:
    match = request.resolver_match
    return match is not None and (match.url_name or "").endswith("changelist")


def _not_lately(clerk_account: ClerkAccount) -> str:
    """Render a second badge: the first one may be out of date."""
    checked = f"Last checked {localtime(clerk_account.seen_at):%Y-%m-%d %H:%M} UTC"
    return format_html(
        ' <span class="state state-not_lately" title="{}">{}</span>', checked, NOT_LATELY
    )


def _day(moment: datetime | None) -> str:
    """Render the day, with the minute as a tooltip."""
    if moment is None:
        return EMPTY
    minute = f"{localtime(moment):%Y-%m-%d %H:%M}"
    return format_html('<time title="{} UTC">{}</time>', minute, minute[:10])
