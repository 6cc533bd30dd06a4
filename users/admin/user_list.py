"""The list of builder users: its filters, its order and its export.

All that it searches, filters and sorts by stands in `ListEntry`, so that each has an index.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import F, Model, Q, QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.admin.base import EXACT, CountedChangeList, counted
from users.admin.export import lines_of
from users.forms import NO_ROLE, GroupSelect
from users.models import BuilderGroup, BuilderUser, InvitationStatus, ListEntry, Role
from users.sync.mirror import listing
from users.sync.mirror.health import where_stale
from users.sync.mirror.status import UserStatus

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

NOT_LATELY = gettext_lazy("Not checked lately")


class UserChangeList(CountedChangeList):
    """The list, ordered so that an index gives each page in its order."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> Any:
        """Prepare the same selection of entries, which are counted and paged without a join.

        A few entries are sorted after they were found, see `sorted_afterwards`.
        """
        users: Any = super().get_queryset(request, exclude_parameters)
        specs = cast("list[EntryFilter]", self.filter_specs)
        conditions = [spec.condition() for spec in specs]
        conditions += listing.search(self.query.replace("\0", ""))
        entries = ListEntry.objects.filter(*map(listing.of_entry, conditions))
        order = list(map(listing.order_of_entries, users.query.order_by))
        if any(conditions) and entries[: EXACT + 1].count() <= EXACT:
            order[0] = listing.sorted_afterwards(order[0])
        users.counted = entries.order_by(*order)
        return users

    def get_results(self, request: HttpRequest) -> None:
        """Find the page among the entries, and then read its users alone.

        Each user of the page gets `written_since`, and `quick`: whether its cells can be edited.
        """
        super().get_results(request)
        entries = counted(self.queryset).values_list("pk", flat=True)
        if not (self.show_all and self.can_show_all):
            start = (self.page_num - 1) * self.list_per_page
            entries = entries[start : start + self.list_per_page]
        ids = list(entries)
        users = self.queryset.in_bulk(ids)
        since = listing.written_since(ids)
        self.result_list = [users[pk] for pk in ids if pk in users]
        for user in self.result_list:
            user.written_since = user.pk in since
            user.quick = self.model_admin.has_change_permission(request, user) and not self.is_popup

    def get_ordering(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> list[str | Combinable]:
        """Break ties by the id, in the direction of the first column. Never signed in comes last.

        An index can be read in both directions, but only in one at a time.
        """
        chosen = super().get_ordering(request, queryset.order_by())  # and not what it has by itself
        fields = [one for one in chosen if one not in _PK]
        fields = fields or list(self.model_admin.get_ordering(request))  # no such column
        descending = str(fields[0]).startswith("-")
        return [*map(_nulls, fields), "-pk" if descending else "pk"]


_PK = ("pk", "-pk")


def _nulls(field: str | Combinable) -> str | Combinable:
    """Order missing sign-ins as the oldest ones, as the index does."""
    if str(field).lstrip("-") != "entry__last_sign_in_at":
        return field
    moment = F("entry__last_sign_in_at")
    return (
        moment.desc(nulls_last=True) if str(field).startswith("-") else moment.asc(nulls_first=True)
    )


class EntryFilter(admin.SimpleListFilter):
    """A filter by a condition on users. Those on the entry have an index."""

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[str, str]]:
        """List the choices."""
        return [(value, str(label)) for value, (label, _) in self.conditions().items()]

    def conditions(self) -> dict[str, tuple[StrOrPromise, Q]]:
        """Return the label and the condition of each choice."""
        raise NotImplementedError

    def condition(self) -> Q:
        """Return the condition of the chosen value; none for an unknown value."""
        _, condition = self.conditions().get(self.value() or "", ("", Q()))
        return condition

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> QuerySet[BuilderUser]:
        """Select the users of the chosen value."""
        return queryset.filter(self.condition())


class StateFilter(EntryFilter):
    """Filter by how the user compares with Clerk."""

    title = gettext_lazy("sign-in state")
    parameter_name = "clerk"

    def conditions(self) -> dict[str, tuple[StrOrPromise, Q]]:
        """Offer all statuses of a user."""
        return {one.value: (one.label, Q(entry__state=one.value)) for one in UserStatus}


class RoleFilter(EntryFilter):
    """Filter by the role."""

    title = gettext_lazy("role")
    parameter_name = "role"

    def conditions(self) -> dict[str, tuple[StrOrPromise, Q]]:
        """Offer all roles, and none: tables of another application allow it."""
        none = Q(entry__role=None) | Q(entry__role="")
        roles: dict[str, tuple[StrOrPromise, Q]] = {
            one.value: (one.label, Q(entry__role=one.value)) for one in Role
        }
        return roles | {"none": (NO_ROLE, none)}


class InvitationFilter(EntryFilter):
    """Filter by the open invitation of the user, or else by the last one."""

    title = gettext_lazy("invitation")
    parameter_name = "invitation"

    def conditions(self) -> dict[str, tuple[StrOrPromise, Q]]:
        """Offer all statuses of an invitation, and none."""
        invited = {
            one.value: (one.label, Q(entry__invitation=one.value)) for one in InvitationStatus
        }
        return invited | {"none": (_("Never invited"), Q(entry__invitation=""))}


class LastSignInFilter(EntryFilter):
    """Filter by the time of the last sign-in."""

    title = gettext_lazy("last sign-in")
    parameter_name = "signed_in"

    def conditions(self) -> dict[str, tuple[StrOrPromise, Q]]:
        """Offer some spans of time."""
        return {
            "7": (_("Within 7 days"), Q(entry__last_sign_in_at__gte=_days_ago(7))),
            "30": (_("Within 30 days"), Q(entry__last_sign_in_at__gte=_days_ago(30))),
            "over_90": (_("More than 90 days ago"), Q(entry__last_sign_in_at__lt=_days_ago(90))),
            "never": (_("Never"), Q(entry__last_sign_in_at=None)),
        }


class CheckedFilter(EntryFilter):
    """Filter by whether the mirror of the user's account was checked with Clerk lately."""

    title = gettext_lazy("last checked")
    parameter_name = "checked"

    def conditions(self) -> dict[str, tuple[StrOrPromise, Q]]:
        """Offer the accounts that were not checked lately."""
        return {"not_lately": (NOT_LATELY, where_stale("account__"))}


class GroupFilter(EntryFilter):
    """Filter by the group, which a person finds by typing a part of its name."""

    title = gettext_lazy("group")
    parameter_name = "builder_group__id__exact"
    template = "admin/users/builderuser/group_filter.html"

    def __init__(
        self, request: HttpRequest, params: dict[str, list[str]],
        model: type[Model], model_admin: admin.ModelAdmin,
    ) -> None:  # fmt: skip
        """Prepare the field, which keeps the other filters in hidden inputs."""
        super().__init__(request, params, model, model_admin)
        self.site = model_admin.admin_site
        self.kept = {
            name: value
            for name, value in request.GET.items()
            if name not in (self.parameter_name, "p", "e")
        }
        self.chosen = _id(self.value())
        self.group = BuilderGroup.objects.filter(pk=self.chosen).first() if self.chosen else None

    def conditions(self) -> dict[str, tuple[StrOrPromise, Q]]:
        """Offer nothing here: the field in the template loads the groups as a person types."""
        return {}

    def condition(self) -> Q:
        """Return the condition of the chosen group; none for what is not an id."""
        return Q(entry__builder_group=self.chosen) if self.chosen else Q()

    def has_output(self) -> bool:
        """Show the filter, although it has no fixed choices."""
        return True

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Yield the way back to all groups, and the chosen group."""
        everything = changelist.get_query_string(remove=[self.parameter_name])
        yield {"selected": self.group is None, "query_string": everything, "display": _("All")}
        if self.group is not None:
            yield {"selected": True, "query_string": "", "display": self.group.name}

    @property
    def field(self) -> str:
        """Render the field that finds a group."""
        field = forms.ModelChoiceField(BuilderGroup.objects.all(), widget=group_select(self.site))
        chosen = self.group.pk if self.group else None
        return field.widget.render(self.parameter_name, chosen, {"id": "group-filter"})


def group_select(site: admin.AdminSite) -> GroupSelect:
    """Return the field that finds a group by a part of its name."""
    return GroupSelect(BuilderUser._meta.get_field("builder_group"), site)


FILTERS: tuple[type[EntryFilter], ...] = (
    GroupFilter, RoleFilter, StateFilter, InvitationFilter, LastSignInFilter, CheckedFilter,
)  # fmt: skip


# --- Export --------------------------------------------------------------------------------------


def lines(users: QuerySet[BuilderUser]) -> Iterator[str]:
    """Yield the lines of a CSV file of these users.

    `update_users` reads the first seven columns, and leaves the others out.
    """
    ambiguous = _ambiguous_groups()

    def group(user: BuilderUser) -> object:
        one = user.builder_group
        return one.pk if one and one.name.casefold() in ambiguous else one

    return lines_of(
        users,
        {
            "id": attrgetter("pk"),
            "clerk_id": attrgetter("clerk_id"),
            "name": attrgetter("name"),
            "email": attrgetter("email"),
            "role": attrgetter("role"),
            "internal_role": attrgetter("internal_role"),
            "builder_group": group,
            "sign_in_state": attrgetter("entry.state"),
            "invitation": attrgetter("entry.invitation"),
            "last_sign_in": attrgetter("entry.last_sign_in_at"),
            "created_at": attrgetter("created_at"),
        },
    )


def _ambiguous_groups() -> frozenset[str]:
    """Return the names that several groups have: a file names those groups by their ids."""
    seen: set[str] = set()
    twice: set[str] = set()
    for name in BuilderGroup.objects.values_list("name", flat=True):
        key = name.casefold()
        (twice if key in seen else seen).add(key)
    return frozenset(twice)


def _id(text: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(text or "")
    except ValueError:
        return None


def _days_ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)
