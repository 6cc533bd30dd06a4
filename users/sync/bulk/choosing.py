"""Select users, and plan push, pull and link for them.

All data comes from the mirror, in SQL; run a scan first to make the mirror fresh.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import or_
from typing import Any

from django.db.models import (
    BooleanField,
    Count,
    ExpressionWrapper,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextField,
    Value,
)
from django.db.models.functions import Coalesce, NullIf

from users.changes import Change, Changes
from users.clerk import names
from users.errors import BulkRefused, Holder
from users.models import LINKED, BuilderGroup, BuilderUser, BulkRow, OperationKind, Role
from users.sync.bulk.plan import NOT_SEEN_YET, Plan, Planned
from users.sync.inbound import reconcile
from users.sync.inbound.facts import unfit_name
from users.sync.mirror import comparison, report
from users.sync.mirror.report import Kind as Difference
from users.sync.operations.following import email_not_copied

FIELDS = ("name", "email")
LOT = 200
"""Number of matches that are decided together."""


@dataclass(frozen=True)
class Choice:
    """Selection of users: those that match every given criterion, or all users if none is given.

    `ids` may be ours or Clerk's; a group is given by its name or id.
    """

    ids: Sequence[str] = ()
    emails: Sequence[str] = ()
    groups: Sequence[str] = ()
    roles: Sequence[str] = ()
    drift: Sequence[Difference] = ()

    @property
    def given(self) -> bool:
        """Return whether any criterion is given, so that not all users are selected."""
        return any((self.ids, self.emails, self.groups, self.roles, self.drift))

    def users(self) -> QuerySet[BuilderUser]:
        """Select the users.

        Raises `BulkRefused` with every id, email, group and role that does not exist.
        """
        unknown: list[str] = []
        chosen = BuilderUser.objects.select_related("account").order_by("pk")
        if self.ids:
            chosen = chosen.filter(pk__in=_ids(self.ids, unknown))
        if self.emails:
            chosen = chosen.filter(pk__in=_by_email(self.emails, unknown))
        if self.groups:
            chosen = chosen.filter(builder_group__in=_groups(self.groups, unknown))
        if self.roles:
            unknown += [f"role {role}" for role in self.roles if role not in Role.values]
            chosen = chosen.filter(role__in=self.roles)
        if self.drift:
            chosen = chosen.filter(pk__in=report.user_ids(self.drift))
        if unknown:
            shown = ", ".join(unknown[:20])
            more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
            raise BulkRefused(f"Not found: {shown}{more}. Nothing was planned.")
        return chosen

    def among(
        self, user_ids: Collection[uuid.UUID] | QuerySet[BulkRow, uuid.UUID]
    ) -> frozenset[uuid.UUID]:
        """Return the ids of those of the users that are selected. Raises `BulkRefused`."""
        return frozenset(self.users().filter(pk__in=user_ids).values_list("pk", flat=True))

    def only(self, plan: Plan) -> Plan:
        """Return the plan without the changes of users that are not selected.

        Raises `BulkRefused`.
        """
        if not self.given:
            return plan
        return plan.only(self.among({row.user_uuid for row in plan.rows}))


def _ids(wanted: Sequence[str], unknown: list[str]) -> list[uuid.UUID]:
    ours, theirs = {}, []
    for text in wanted:
        try:
            ours[uuid.UUID(text)] = text
        except ValueError:
            theirs.append(text)
    storable = [text for text in theirs if "\0" not in text]
    rows = BuilderUser.objects.filter(Q(pk__in=ours) | Q(clerk_id__in=storable))
    found = list(rows.values_list("pk", "clerk_id"))
    known = {pk for pk, _ in found}, {clerk_id for _, clerk_id in found}
    unknown += [f"id {text}" for pk, text in ours.items() if pk not in known[0]]
    unknown += [f"id {text}" for text in theirs if text not in known[1]]
    return [pk for pk, _ in found]


def _by_email(wanted: Sequence[str], unknown: list[str]) -> list[uuid.UUID]:
    rows = comparison.with_email(BuilderUser.objects.all(), *wanted).values_list("email", "pk")
    found = {comparison.normalized_email(email): pk for email, pk in rows}
    unknown += [
        f"email {email}" for email in wanted if comparison.normalized_email(email) not in found
    ]
    return list(found.values())


def _groups(wanted: Sequence[str], unknown: list[str]) -> list[BuilderGroup]:
    groups = Groups()
    found = []
    for text in wanted:
        try:
            found.append(groups.get(text))
        except KeyError as error:
            unknown.append(str(error.args[0]))
    return found


class Groups:
    """Finds builder groups by name or id."""

    def __init__(self) -> None:
        groups = list(BuilderGroup.objects.all())
        self._by_id = {str(group.pk): group for group in groups}
        self._by_name = {_folded(group.name): group for group in groups}
        self._twins = {
            name for name, n in Counter(_folded(group.name) for group in groups).items() if n > 1
        }

    def get(self, text: str) -> BuilderGroup:
        """Return the group with this name or id.

        Raises `KeyError` with a phrase that says what is wrong.
        """
        if group := self._by_id.get(text.strip().lower()):
            return group
        name = _folded(text)
        if name in self._twins:
            raise KeyError(f"group “{text}”, which several have as their name: give the id")
        if name not in self._by_name:
            raise KeyError(f"group “{text}”")
        return self._by_name[name]


def _folded(name: str) -> str:
    return comparison.normalized_name(name).casefold()


# --- The plans -----------------------------------------------------------------------------------

# All plans use the queries of `clerk_diff`, and load nothing else: of very many users nearly all
# match Clerk.


def plan_push(users: QuerySet[BuilderUser], fields: Sequence[str]) -> Plan:
    """Plan to copy the rows' values to Clerk.

    A name that rows do not accept from Clerk is left out: Clerk's next answer would set the row
    back to Clerk's name.
    """
    rows: list[Planned] = []
    notes: list[str] = []
    for user in _differing(users, fields):
        if user.name_differs and (why := unfit_name(user.name)):
            notes.append(f"{user}: {why} It is not copied to Clerk.")
        elif user.name_differs:
            rows.append(
                Planned.on(
                    user, OperationKind.PUSH_NAME, {"name": Change(_clerk_name(user), user.name)}
                )
            )
        if user.email_differs:
            change = Change(user.account.email, user.email)
            rows.append(Planned.on(user, OperationKind.PUSH_EMAIL, {"email": change}))
    return Plan("clerk_push", tuple(rows), (*_notes_on_left_out(users), *notes))


def plan_pull(users: QuerySet[BuilderUser], fields: Sequence[str]) -> Plan:
    """Plan to copy Clerk's values to the rows.

    An email that another row has is left out, and so is a name that a row cannot or must not hold.
    """
    rows: list[Planned] = []
    notes: list[str] = []
    other = comparison.others_with_email(OuterRef("pk"), OuterRef("account__email"))
    label = Coalesce(NullIf("name", Value("")), "email", output_field=TextField())
    holder = Subquery(other.annotate(_label=label).values("_label")[:1])
    for user in _differing(users.annotate(holder=holder), fields):
        changes: Changes = {}
        if user.name_differs and (why := unfit_name(_clerk_name(user))):
            notes.append(f"{user}: {why} It is not copied from Clerk.")
        elif user.name_differs:
            changes["name"] = Change(user.name, _clerk_name(user))
        if user.email_differs and user.holder:
            refused = email_not_copied(Holder(user.account.email, label=user.holder))
            notes.append(f"{user} ({user.email}): {refused.message}")
        elif user.email_differs:
            changes["email"] = Change(user.email, user.account.email)
        if changes:
            rows.append(Planned.on(user, OperationKind.FOLLOW, changes))
    return Plan("clerk_pull", tuple(rows), (*_notes_on_left_out(users), *notes))


def plan_link(users: QuerySet[BuilderUser]) -> Plan:
    """Plan to link rows without an account to the account that is certainly theirs.

    The derivation is the same as for events. In doubt a row gets no account.
    """
    found: dict[uuid.UUID, Planned] = {}
    notes: dict[str, str] = {}
    matches = report.matches(users).iterator()
    while lot := dict(islice(matches, LOT)):
        links, said = reconcile.derived_links(lot)
        notes |= said
        for user, clerk_id in links:
            found[user.pk] = Planned.on(
                user, OperationKind.LINK, {"clerk_id": Change(user.clerk_id, clerk_id)}
            )
    chosen = set(users.filter(pk__in=found).values_list("pk", flat=True))
    rows = (planned for pk, planned in found.items() if pk in chosen)
    return Plan("clerk_link", tuple(rows), tuple(notes.values()))


def _differing(users: QuerySet[BuilderUser], fields: Sequence[str]) -> Iterator[Any]:
    """Yield the users with a difference in one of the fields, each with its account.

    Each has `<field>_differs` for all of `FIELDS`.
    """
    where = {field: report.WHERE[Difference(field)] for field in fields}
    marks = {
        f"{field}_differs": ExpressionWrapper(where[field], output_field=BooleanField())
        if field in where
        else Value(False)
        for field in FIELDS
    }
    return users.filter(reduce(or_, where.values())).annotate(**marks).iterator()


def _clerk_name(user: BuilderUser) -> str:
    return names.join(user.account.first_name, user.account.last_name)


LEFT_OUT = [
    ("without a Clerk account", ~LINKED),
    (NOT_SEEN_YET, report.WHERE[Difference.UNSEEN]),
    ("whose account is not among all of Clerk's users", report.WHERE[Difference.MISSING]),
    ("whose account was deleted in Clerk", report.WHERE[Difference.DELETED]),
]


def _notes_on_left_out(users: QuerySet[BuilderUser]) -> tuple[str, ...]:
    counted = {
        f"left_out_{position}": Count("pk", filter=where)
        for position, (_, where) in enumerate(LEFT_OUT)
    }
    counts = users.aggregate(**counted).values()
    return tuple(
        f"Left out: {count} {why}."
        for count, (why, _) in zip(counts, LEFT_OUT, strict=True)
        if count
    )
