"""The admin of builder users: the list, the deletion, and the pages that it puts together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET

from users.admin import again
from users.admin.account_pages import AccountPages
from users.admin.actions import AccountActions
from users.admin.base import CappedPaginator, Deletable, say
from users.admin.bulk_pages import BulkPages
from users.admin.clerk_panel import account_of
from users.admin.export import send_csv, send_export
from users.admin.one_time import token_of
from users.admin.pending_pages import PendingPages
from users.admin.quick_edit import QuickEdit, cell_data
from users.admin.session_pages import SessionPages
from users.admin.user_form import UserAdmin, UserFormAdmin
from users.admin.user_list import FILTERS, NOT_LATELY, UserChangeList, group_select, lines
from users.admin.user_pages import UserPages
from users.errors import ChangeFailed
from users.forms import NO_ROLE
from users.models import (
    BuilderGroup,
    BuilderUser,
    ClerkAccount,
    Invitation,
    InvitationStatus,
    SyncAttempt,
)
from users.sync.display import time_text
from users.sync.mirror import listing
from users.sync.mirror.health import is_stale
from users.sync.mirror.status import UserStatus
from users.sync.operations import references
from users.sync.outbound import pending, repeats
from users.sync.services import unseen, users

csrf_protect_m = method_decorator(csrf_protect)

EMPTY = "—"
WAITS = _("Invitation waits")


@admin.register(BuilderUser)
class BuilderUserAdmin(UserAdmin):
    """The list of builder users, their deletion, and the addresses of all pages about them."""

    list_display = ["shown_name", "shown_email", "group", "shown_role", "clerk", "last_sign_in"]
    list_filter = FILTERS
    list_select_related = ["builder_group", "account", "entry"]
    list_per_page = 50
    view_on_site = False
    empty_value_display = EMPTY
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["name", "email", "=id", "=clerk_id"]
    actions = ["change_many", "export_selected"]

    # --- The list --------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[BuilderUser]:
        """Fetch groups and accounts too, and for the list the entry that it sorts by."""
        users = super().get_queryset(request).select_related("builder_group", "account")
        return listing.with_entry(users) if _is_list(request) else users

    def get_ordering(self, request: HttpRequest) -> list[str | Combinable]:
        """Show the newest users first."""
        return ["-entry__created_at"] if _is_list(request) else ["-created_at"]

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[UserChangeList]:
        """Use the list that is ordered by indexes."""
        return UserChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser], search_term: str
    ) -> tuple[QuerySet[BuilderUser], bool]:
        """Search the entries, without accents and case."""
        if not _is_list(request):
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(*listing.search(search_term.replace("\0", ""))), False

    @property
    def search_help_text(self) -> str:  # type: ignore[override]
        """Say what the search finds: only beginnings, where the database lacks an extension."""
        if listing.finds_parts():
            return gettext(
                "Parts of the name, email, group or Clerk id, as stored here or in Clerk"
            )
        return gettext(
            "The beginning of the name, email or group, or a whole Clerk id. Parts are not found: "
            "the database has no pg_trgm."
        )

    @admin.display(description=_("name"), ordering="entry__name_key")
    def shown_name(self, user: BuilderUser) -> str:
        """Return the name, or what stands for it."""
        return str(user)

    @admin.display(description=_("email"), ordering="entry__email_key")
    def shown_email(self, user: BuilderUser) -> str:
        """Return the email."""
        return user.email

    @admin.display(description=_("group"), ordering="entry__group_key")
    def group(self, user: BuilderUser) -> BuilderGroup | str | None:
        """Return the group, for people who may edit it with what the script of the list needs."""
        if not user.quick:  # type: ignore[attr-defined]
            return user.builder_group
        return format_html("<span>{}</span>{}", user.builder_group or EMPTY, cell_data(user))

    @admin.display(description=_("role"), ordering="entry__role")
    def shown_role(self, user: BuilderUser) -> str:
        """Return the role in words. Tables of another application allow none."""
        return user.get_role_display() or str(NO_ROLE)

    @admin.display(description=_("sign-in state"), ordering="entry__state")
    def clerk(self, user: BuilderUser) -> str:
        """Render the status of the user, and a second badge.

        That one says that an invitation waits to be sent, or that the status may be out of date.
        """
        since: bool = user.written_since  # type: ignore[attr-defined]
        state = UserStatus.UNSEEN if since else UserStatus(user.entry.state)
        badge = format_html('<span class="state state-{}">{}</span>', state.value, state.label)
        if state is UserStatus.NOT_LINKED and user.entry.invitation == InvitationStatus.WAITING:
            return badge + format_html(' <span class="state state-waiting">{}</span>', WAITS)
        clerk_account = account_of(user)
        if clerk_account is None or not is_stale(clerk_account):
            return badge
        return badge + _not_lately(clerk_account)

    @admin.display(description=_("last sign-in"), ordering="entry__last_sign_in_at")
    def last_sign_in(self, user: BuilderUser) -> str:
        """Return the day of the last sign-in that the mirror knows."""
        return _day(user.entry.last_sign_in_at)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """Add the number of changes that are not confirmed by Clerk."""
        unconfirmed = pending.not_confirmed().count()
        context = {
            **(extra_context or {}),
            "unconfirmed": unconfirmed,
            "has_change_permission": self.has_change_permission(request),
            "may_change_many": self.has_change_many_permission(request),
            "media": self.media + group_select(self.admin_site).media,
        }
        return super().changelist_view(request, context)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Send what the list shows, filtered in the same way, as CSV.

        Raises `PermissionDenied`.
        """
        return send_export(self, request, lines)

    # --- The form --------------------------------------------------------------------------

    @csrf_protect_m
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:  # fmt: skip
        """Show the form, or save it."""
        form_admin = UserFormAdmin(self.model, self.admin_site)
        return form_admin.changeform_view(request, object_id, form_url, extra_context)

    # --- Deleting --------------------------------------------------------------------------

    @csrf_protect_m
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, object] | None = None
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

    def delete_model(self, request: HttpRequest, obj: BuilderUser) -> None:
        """Delete the user in Clerk and here.

        Raises `ChangeFailed`.
        """
        deleted = users.delete_user(obj, actor=request.user, token=token_of(request))
        unseen.mark_answered(request.user, deleted.attempt, again=again.again_of(request))
        for warning in deleted.warnings:
            messages.warning(request, warning)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[BuilderUser]) -> None:  # type: ignore[override]
        """Write nothing: the deletion writes the log entry."""

    def get_deleted_objects(
        self, objs: Sequence[BuilderUser] | QuerySet[BuilderUser], request: HttpRequest
    ) -> Deletable:
        """Require no permission for the user's invitations. Name what still refers to the user."""
        found, count, perms_needed, protected = super().get_deleted_objects(objs, request)
        referring = [*filter(None, (references.to_user(user.pk) for user in objs))]
        perms_needed -= {Invitation._meta.verbose_name}
        return found, count, perms_needed, [*protected, *referring]

    def get_actions(
        self, request: HttpRequest
    ) -> dict[str, tuple[Callable[..., str], str, str] | None]:
        """Remove Django's own deletion of several users."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)  # it deletes here and not in Clerk
        return actions

    def has_change_many_permission(self, request: HttpRequest) -> bool:
        """Return whether this person may do anything to many users."""
        return BulkPages(UserPages(self)).may_choose(request)

    @admin.action(description=_("Change the selected people…"), permissions=["change_many"])
    def change_many(self, request: HttpRequest, queryset: QuerySet[BuilderUser]) -> HttpResponse:
        """Ask what to do to the selected users, or to all that the filter finds."""
        if request.POST.get("select_across") == "1":
            page = reverse("admin:users_builderuser_bulk")
            return HttpResponseRedirect(f"{page}?{request.GET.urlencode()}")
        pages = BulkPages(UserPages(self))
        return pages.choose(request, pages.selected(request.POST.getlist(ACTION_CHECKBOX_NAME)))

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Return whether this person may export what they select."""
        return request.user.has_perm("users.view_builderuser")

    @admin.action(description=_("Export the selected people as CSV"), permissions=["export"])
    def export_selected(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> HttpResponseBase:
        """Send the selected users as CSV, in the columns of the export of the whole list."""
        return send_csv(self, lines(queryset))

    # --- Addresses -------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        """Add the pages beside the form."""
        pages = UserPages(self)
        beside = (
            BulkPages(pages),
            QuickEdit(pages),
            AccountActions(pages),
            PendingPages(pages),
            AccountPages(pages),
            SessionPages(pages),
        )
        export = require_GET(self.admin_site.admin_view(self.export_view))
        return [
            path("export/", export, name="users_builderuser_export"),
            *chain.from_iterable(page.urls() for page in beside),
            *super().get_urls(),
        ]


_LISTS = ("users_builderuser_changelist", "users_builderuser_export", "users_builderuser_bulk")


def _is_list(request: HttpRequest) -> bool:
    match = request.resolver_match
    return match is not None and match.url_name in _LISTS


def _not_lately(clerk_account: ClerkAccount) -> str:
    """Render a second badge: the first one may be out of date."""
    checked = gettext("Last checked {when}").format(when=time_text(clerk_account.seen_at))
    return format_html(
        ' <span class="state state-not_lately" title="{}">{}</span>', checked, NOT_LATELY
    )


def _day(moment: datetime | None) -> str:
    """Render the day, with the time as a tooltip."""
    if moment is None:
        return EMPTY
    text = time_text(moment, seconds=True)
    return format_html(
        '<time datetime="{}" data-seconds data-day title="{}">{}</time>',
        moment.isoformat(), text, text[:10],
    )  # fmt: skip
