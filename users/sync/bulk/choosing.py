"""Which users, and what would bring their two copies together: the plans of push, pull and link.

All from our copy of Clerk's side, in SQL; a scan before it makes the copy fresh.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Q, QuerySet

from users.clerk import names
from users.errors import BulkRefused
from users.models import LINKED, BuilderGroup, BuilderUser, ClerkAccount, Role
from users.models import Operation as Kind
from users.sync import differences
from users.sync.bulk.plan import Plan, Planned
from users.sync.inbound import reconcile
from users.sync.inbound.facts import unfit_name
from users.sync.mirror import comparison, store
from users.sync.mirror.comparison import taken_by_another
from users.sync.operations.following import changes_from

FIELDS = ("name", "email")
CHUNK = 1000


@dataclass(frozen=True)
class Choice:
    """Who is meant: users that fit all of what is given; nothing given is everybody. `ids` may
    be ours or Clerk's; a group is meant by its name or id."""

    ids: Sequence[str] = ()
    emails: Sequence[str] = ()
    groups: Sequence[str] = ()
    roles: Sequence[str] = ()
    drift: Sequence[differences.Kind] = ()

    @property
    def given(self) -> bool:
        """Whether anything is given, so that not everybody is meant."""
        return any((self.ids, self.emails, self.groups, self.roles, self.drift))

    def users(self) -> QuerySet[BuilderUser]:
        """Raises `BulkRefused` naming every id, email, group and role that does not exist."""
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
            found = differences.find(self.drift)
            chosen = chosen.filter(pk__in={one.user_id for one in found if one.user_id})
        if unknown:
            shown = ", ".join(unknown[:20])
            more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
            raise BulkRefused(f"Not found: {shown}{more}. Nothing was planned.")
        return chosen


def _ids(wanted: Sequence[str], unknown: list[str]) -> list[uuid.UUID]:
    ours, theirs = {}, []
    for text in wanted:
        try:
            ours[uuid.UUID(text)] = text
        except ValueError:
            theirs.append(text)
    rows = BuilderUser.objects.filter(Q(pk__in=ours) | Q(clerk_id__in=theirs))
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
    """All builder groups, found by name or id."""

    def __init__(self) -> None:
        groups = list(BuilderGroup.objects.all())
        self._by_id = {str(group.pk): group for group in groups}
        self._by_name = {_folded(group.name): group for group in groups}
        self._twins = {
            name for name, n in Counter(_folded(group.name) for group in groups).items() if n > 1
        }

    def get(self, text: str) -> BuilderGroup:
        """Raises `KeyError` with a phrase that says what is wrong."""
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


def plan_push(users: QuerySet[BuilderUser], fields: Sequence[str]) -> Plan:
    """Clerk takes what the rows hold."""
    rows: list[Planned] = []
    notes = _notes_on_left_out(users)
    for user, account in _linked(users):
        theirs = names.join(account.first_name, account.last_name)
        if "name" in fields and comparison.name_differs(user.name, theirs):
            rows.append(Planned.on(user, Kind.PUSH_NAME, {"name": [theirs, user.name]}))
        if "email" in fields and comparison.email_differs(user.email, account.email):
            rows.append(Planned.on(user, Kind.PUSH_EMAIL, {"email": [account.email, user.email]}))
    return Plan("clerk_push", tuple(rows), tuple(notes))


def plan_pull(users: QuerySet[BuilderUser], fields: Sequence[str]) -> Plan:
    """The rows take what Clerk holds."""
    rows: list[Planned] = []
    notes = _notes_on_left_out(users)
    for user, account in _linked(users):
        changes = changes_from(user, store.user_of(account))
        if changes := {field: change for field, change in changes.items() if field in fields}:
            rows.append(Planned.on(user, Kind.FOLLOW, changes))
        theirs = names.join(account.first_name, account.last_name)
        if "name" in fields and (why := unfit_name(theirs)):
            notes.append(f"{user}: {why} It is not copied from Clerk.")
        if "email" in fields and (other := taken_by_another(user, account.email)):
            notes.append(f"{user}: Clerk's email {account.email} belongs to {other} here.")
    return Plan("clerk_pull", tuple(rows), tuple(notes))


def plan_link(users: QuerySet[BuilderUser]) -> Plan:
    """Rows without an account take the one that is certainly theirs, by the same derivation as
    events do. In doubt they get none."""
    found, notes = reconcile.derived_links()
    chosen = set(users.values_list("pk", flat=True))
    rows = [
        Planned.on(user, Kind.LINK, {"clerk_id": [user.clerk_id, clerk_id]})
        for user, clerk_id in found
        if user.pk in chosen
    ]
    return Plan("clerk_link", tuple(rows), tuple(notes))


def _linked(users: QuerySet[BuilderUser]) -> Iterator[tuple[BuilderUser, ClerkAccount]]:
    """Users with an account that lives, and the copy of it; a chunk at a time."""
    living = users.filter(account__isnull=False, account__deleted_at=None)
    pks = list(living.filter(account__clerk_id=F("clerk_id")).values_list("pk", flat=True))
    for start in range(0, len(pks), CHUNK):
        for user in users.filter(pk__in=pks[start : start + CHUNK]):
            yield user, user.account


def _notes_on_left_out(users: QuerySet[BuilderUser]) -> list[str]:
    left_out: list[tuple[str, Any]] = [
        ("without a Clerk account", ~LINKED),
        ("whose account was not seen yet (--no-refresh?)", LINKED & Q(account=None)),
        ("whose account was deleted in Clerk", Q(account__deleted_at__isnull=False)),
    ]
    counted = [(why, users.filter(condition).count()) for why, condition in left_out]
    return [f"Left out: {count} {why}." for why, count in counted if count]
