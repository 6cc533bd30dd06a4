"""Edit one field of a user in a cell of the list, through the same save as the form."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from users.admin.one_time import token_of
from users.admin.user_pages import UserPages
from users.errors import ChangeFailed, Conflict
from users.models import BuilderGroup, BuilderUser
from users.sync.services import unseen, users
from users.validation import clean_name
from users.version import version_of

NO_GROUP = "—"


@dataclass(frozen=True)
class Refusal:
    """Why a cell goes back to what it showed before."""

    message: str
    status: int
    trace_id: str = ""


def _group(text: str) -> BuilderGroup | None:
    if not text:
        return None
    try:
        return BuilderGroup.objects.get(pk=uuid.UUID(text))
    except (ValueError, BuilderGroup.DoesNotExist):
        raise ValidationError(_("This group does not exist any more.")) from None


FIELDS: Mapping[str, Callable[[str], object]] = {"name": clean_name, "builder_group": _group}
"""The fields that can be edited in a cell, each with the check of what was typed."""


def cell_data(user: BuilderUser) -> SafeString:
    """Render what the script of the list needs to edit this row."""
    return format_html(
        '<span class="quick" hidden data-user="{}" data-version="{}" data-token="{}" '
        'data-group="{}" data-linked="{}"></span>',
        user.pk,
        version_of(user),
        uuid.uuid4(),
        user.builder_group_id or "",
        "1" if user.linked else "",
    )


@dataclass(frozen=True)
class QuickEdit:
    """The address that saves a cell of the list, beside the pages of a user."""

    pages: UserPages

    def urls(self) -> list[URLPattern]:
        """List the address."""
        view = require_POST(self.pages.admin.admin_site.admin_view(self.view))
        return [path("<path:object_id>/quick/", view, name="users_builderuser_quick")]

    @method_decorator(csrf_protect)
    def view(self, request: HttpRequest, object_id: str) -> JsonResponse:
        """Save one field, and answer with what the cell shows now, or why it was not saved.

        Raises `Http404` and `PermissionDenied`.
        """
        user = self.pages.user_to_change(request, object_id)
        if user is None:
            raise Http404
        try:
            clean = FIELDS[request.POST.get("field", "")]
        except KeyError:
            raise Http404 from None
        saved = self._save(request, user, clean)
        token = str(uuid.uuid4())  # as on a form that is shown again
        if isinstance(saved, Refusal):
            answer = {
                "message": saved.message,
                "trace_id": saved.trace_id,
                "form": user.get_absolute_url(),
                "token": token,
            }
            return JsonResponse(answer, status=saved.status)
        return JsonResponse(
            {
                "name": str(saved),
                "group": str(saved.builder_group or NO_GROUP),
                "group_id": str(saved.builder_group_id or ""),
                "version": version_of(saved),
                "token": token,
            }
        )

    def _save(
        self, request: HttpRequest, user: BuilderUser, clean: Callable[[str], object]
    ) -> BuilderUser | Refusal:
        try:
            saved = users.save_user(
                user,
                actor=request.user,
                changes={request.POST["field"]: clean(request.POST.get("value", ""))},
                version=request.POST.get("version", ""),
                token=token_of(request),
            )
            unseen.mark_answered(request.user, saved.attempt)
        except ValidationError as error:
            return Refusal(" ".join(error.messages), 422)
        except Conflict as conflict:
            return Refusal(_changed_meanwhile(conflict), 409)
        except ChangeFailed as failure:
            return Refusal(failure.full_message, 422, failure.trace_id)
        stored = BuilderUser.objects.select_related("builder_group").filter(pk=user.pk).first()
        return stored or Refusal(_("This user was deleted in the meantime."), 409)


def _changed_meanwhile(conflict: Conflict) -> str:
    """Say who changed the person: it may have been the same staff member on another page."""
    if not conflict.who:
        return _("This person was changed since the list was loaded. Nothing was saved.")
    return _(
        "This person was changed by {who} since the list was loaded. Nothing was saved."
    ).format(who=conflict.who)
