"""A link for the refusal of an email: to who has the address, or to the page that helps."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from users.errors import ChangeFailed, CopyInstead, EmailTaken, Holder
from users.models import BuilderUser, OperationKind
from users.sync.access import permissions

VIEWERS = ("users.view_builderuser", "users.change_builderuser")


def holder_link(
    request: HttpRequest, failure: ChangeFailed | None, user: BuilderUser | None = None
) -> SafeString | str:
    """Return a link to the builder user who has the address, or to the page that links its account.

    The second one is for an account in Clerk that is linked to nobody, and for a `user` without an
    account. An email that is stored here already and not in Clerk has a link to *Copy to Clerk*.
    Return "" if this person may open none of them.
    """
    if isinstance(failure, CopyInstead) and user is not None:
        may_copy = permissions.may(request.user, OperationKind.PUSH_EMAIL, user)
        return _to_copy(user) if may_copy else str(permissions.NO_PERMISSION)
    holder = failure.holder if isinstance(failure, EmailTaken) else None
    if holder is None:
        return ""
    if holder.user_id is not None:
        return _to_user(holder) if any(map(request.user.has_perm, VIEWERS)) else ""
    if user is None or user.linked:
        return ""
    if permissions.may(request.user, OperationKind.LINK, user):
        return _to_link_page(holder, user)
    return ""


def _to_user(holder: Holder) -> SafeString:
    page = reverse("admin:users_builderuser_change", args=[holder.user_id])
    return format_html('<a href="{}">{}</a>', page, _("Open {name}").format(name=holder.label))


def _to_link_page(holder: Holder, user: BuilderUser) -> SafeString:
    page = reverse("admin:users_builderuser_link", args=[user.pk])
    query = urlencode({"q": holder.email})
    return format_html('<a href="{}?{}">{}</a>', page, query, _("Link to that account"))


def _to_copy(user: BuilderUser) -> SafeString:
    page = reverse("admin:users_builderuser_push", args=[user.pk, "email"])
    return format_html('<a href="{}">{}</a>', page, _("Copy to Clerk"))
