"""The list of builder users: its filters, its order and its export.

All that it searches, filters and sorts by stands in `ListEntry`, so that each has an index.
"""

from __future__ import annotations

import csv
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from users.admin.base import CountedChangeList
from users.forms import GroupSelect
from users.models import BuilderGroup, BuilderUser, InvitationStatus, Role
from users.sync.bulk.results import safe
from users.sync.mirror.health import where_stale
from users.sync.mirror.status import UserStatus

NOT_LATELY = "Not checked lately"
CHUNK = 2000


class UserChangeList(CountedChangeList):
    """The list, ordered so that an index gives each page in its order."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Break ties by the id, in the direction of the first column. Never signed in comes last.

        An index can be read in both directions, but only in one at a time.
        """
        chosen = super().get_ordering(request, queryset.order_by())  # and not what it has by itself
        fields = [one for one in chosen if one not in _PK]
        descending = str(fields[0]).startswith("-")
        return [*map(_nulls, fields), "-pk" if descending else "pk"]


_PK = ("pk", "-pk")


def _nulls(field: Any) -> Any:
    """Order missing sign-ins as the oldest ones, as the index does."""
    if str(field).lstrip("-") != "entry__last_sign_in_at":
        return field
    moment = F("entry__last_sign_in_at")
    return moment.desc(nulls_last=True) if field[0] == "-" else moment.asc(nulls_first=True)


class EntryFilter(admin.SimpleListFilter):
    """A filter with a fixed list of choices, each a condition on the user."""

    conditions: ClassVar[dict[str, tuple[str, Q]]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the choices."""
        return [(value, label) for value, (label, _) in self.conditions.items()]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> QuerySet[BuilderUser]:
        """Select the users of the chosen value. Ignore an unknown value."""
        chosen = self.conditions.get(self.value() or "")
        return queryset.filter(chosen[1]) if chosen else queryset


class StateFilter(EntryFilter):
    """Filter by how the user compares with Clerk."""

    title = "sign-in state"
    parameter_name = "clerk"
    conditions = {state.value: (state.label, Q(entry__state=state.value)) for state in UserStatus}


class RoleFilter(EntryFilter):
    """Filter by the role."""

    title = "role"
    parameter_name = "role"
    conditions = {role.value: (role.label, Q(entry__role=role.value)) for role in Role}


class InvitationFilter(EntryFilter):
    """Filter by the open invitation of the user, or else by the last one."""

    title = "invitation"
    parameter_name = "invitation"
    conditions = {
        status.value: (status.label, Q(entry__invitation=status.value))
        for status in InvitationStatus
    } | {"none": ("Never invited", Q(entry__invitation=""))}


class LastSignInFilter(admin.SimpleListFilter):
    """Filter by the time of the last sign-in."""

    title = "last sign-in"
    parameter_name = "signed_in"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer some spans of time."""
        return [
            ("7", "Within 7 days"),
            ("30", "Within 30 days"),
            ("over_90", "More than 90 days ago"),
            ("never", "Never"),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> QuerySet[BuilderUser]:
        """Select the users of the chosen span. Ignore an unknown value."""
        conditions = {
            "7": Q(entry__last_sign_in_at__gte=_days_ago(7)),
            "30": Q(entry__last_sign_in_at__gte=_days_ago(30)),
            "over_90": Q(entry__last_sign_in_at__lt=_days_ago(90)),
            "never": Q(entry__last_sign_in_at=None),
        }
        chosen = conditions.get(self.value() or "")
        return queryset.filter(chosen) if chosen else queryset


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


class GroupFilter(admin.SimpleListFilter):
    """Filter by the group, which a person finds by typing a part of its name."""

    title = "group"
    parameter_name = "builder_group__id__exact"
    template = "admin/users/builderuser/group_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], *model: Any) -> None:
        """Prepare the field, which keeps the other filters in hidden inputs."""
        super().__init__(request, params, *model)
        self.site = model[1].admin_site
        self.kept = {
            name: value
            for name, value in request.GET.items()
            if name not in (self.parameter_name, "p", "e")
        }
        self.chosen = _id(self.value())
        self.group = BuilderGroup.objects.filter(pk=self.chosen).first() if self.chosen else None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer nothing here: the field in the template loads the groups as a person types."""
        return []

    def has_output(self) -> bool:
        """Show the filter, although it has no fixed choices."""
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the way back to all groups, and the chosen group."""
        everything = changelist.get_query_string(remove=[self.parameter_name])
        yield {"selected": self.group is None, "query_string": everything, "display": "All"}
        if self.group is not None:
            yield {"selected": True, "query_string": "", "display": self.group.name}

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[BuilderUser]
    ) -> QuerySet[BuilderUser]:
        """Select the users of the chosen group. Ignore what is not an id."""
        return queryset.filter(entry__builder_group=self.chosen) if self.chosen else queryset

    @property
    def field(self) -> str:
        """Render the field that finds a group."""
        field = forms.ModelChoiceField(BuilderGroup.objects.all(), widget=group_select(self.site))
        chosen = self.group.pk if self.group else None
        return field.widget.render(self.parameter_name, chosen, {"id": "group-filter"})


def group_select(site: admin.AdminSite) -> GroupSelect:
    """Return the field that finds a group by a part of its name."""
    return GroupSelect(BuilderUser._meta.get_field("builder_group"), site)


FILTERS: list[Any] = [
    GroupFilter, RoleFilter, StateFilter, InvitationFilter, LastSignInFilter, CheckedFilter,
]  # fmt: skip


# --- Export --------------------------------------------------------------------------------------

COLUMNS = (
    "id", "clerk_id", "name", "email", "role", "internal_role", "builder_group",
    "sign_in_state", "invitation", "last_sign_in", "created_at",
)  # fmt: skip
"""`update_users` reads the first seven, and leaves the others out."""


class _Line:
    """A file that gives back what is written: `csv` makes one line at a time of it."""

    def write(self, text: str) -> str:
        return text


def exported(users: QuerySet[BuilderUser]) -> Iterator[str]:
    """Yield the lines of a CSV file of these users, in the order of their ids."""
    writer = csv.writer(_Line())
    yield "\ufeff" + writer.writerow(COLUMNS)  # a spreadsheet takes it for Windows-1252 without
    names = _ambiguous_groups()
    users = users.order_by("pk").select_related("builder_group", "entry")
    last = None
    while page := list((users.filter(pk__gt=last) if last else users)[:CHUNK]):
        last = page[-1].pk
        for user in page:
            yield writer.writerow([safe(str(cell or "")) for cell in _cells(user, names)])


def _cells(user: BuilderUser, ambiguous: frozenset[str]) -> list[Any]:
    group, entry = user.builder_group, user.entry
    shown = group.pk if group and group.name.casefold() in ambiguous else group
    return [
        user.pk, user.clerk_id, user.name, user.email, user.role, user.internal_role, shown,
        entry.state, entry.invitation, _iso(entry.last_sign_in_at), _iso(user.created_at),
    ]  # fmt: skip


def _ambiguous_groups() -> frozenset[str]:
    """Return the names that several groups have: a file names those groups by their ids."""
    seen: set[str] = set()
    twice: set[str] = set()
    for name in BuilderGroup.objects.values_list("name", flat=True):
        key = name.casefold()
        (twice if key in seen else seen).add(key)
    return frozenset(twice)


def _iso(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else ""


def _id(text: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(text or "")
    except ValueError:
        return None


def _days_ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)
