from __future__ import annotations

from django.contrib import admin

from users.admin.base import ReadOnlyAdmin
from users.models import ClerkAccount


@admin.register(ClerkAccount)
class ClerkAccountAdmin(ReadOnlyAdmin):
    """Our last known copy of Clerk's side."""

    list_display = ["email", "first_name", "last_name", "user", "banned", "locked",
                    "note", "last_sign_in_at", "seen_at"]  # fmt: skip
    list_filter = [("note", admin.EmptyFieldListFilter), ("user", admin.EmptyFieldListFilter),
                   "banned", "locked", ("deleted_at", admin.EmptyFieldListFilter)]  # fmt: skip
    list_select_related = ["user"]
    search_fields = ["email", "=clerk_id", "first_name", "last_name"]
    search_help_text = "Email, name or Clerk id"
    ordering = ["email", "clerk_id"]
