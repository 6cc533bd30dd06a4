"""The admin of the mirror of Clerk's accounts."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from users.admin.base import ReadOnlyAdmin
from users.clerk import names
from users.models import ClerkAccount
from users.sync.mirror.status import UserStatus


@admin.register(ClerkAccount)
class ClerkAccountAdmin(ReadOnlyAdmin[ClerkAccount]):
    """The mirror of Clerk's accounts, read-only."""

    list_display = ["__str__", "name", "user", "state", "note", "last_sign_in_at"]
    list_filter = [("note", admin.EmptyFieldListFilter), ("user", admin.EmptyFieldListFilter),
                   "banned", "locked", ("deleted_at", admin.EmptyFieldListFilter)]  # fmt: skip
    list_select_related = ["user"]
    search_fields = ["email", "=clerk_id", "first_name", "last_name"]
    search_help_text = _("Email, name or Clerk id")
    ordering = ["email", "clerk_id"]

    class Media:
        css = {"all": ["users/cascade.css"]}

    @admin.display(description=_("name"), ordering="first_name")
    def name(self, account: ClerkAccount) -> str:
        """Join the first and the last name."""
        return names.join(account.first_name, account.last_name) or "—"

    @admin.display(description=_("state"))
    def state(self, account: ClerkAccount) -> str:
        """Render the most serious status of the account: deleted, then banned, then locked."""
        for state, shows in (
            (UserStatus.DELETED, account.deleted_at),
            (UserStatus.BANNED, account.banned),
            (UserStatus.LOCKED, account.locked),
        ):
            if shows:
                return format_html('<span class="state state-{}">{}</span>', state, state.label)
        return "—"
