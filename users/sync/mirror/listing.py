"""Search, order and keep the entries of the user list (`ListEntry`).

The database itself writes an entry when something changes that it shows: see the function
`users_refresh_list` and its triggers in the migrations. This module reads entries, and refreshes
those that could not be written then.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import (
    BooleanField,
    Exists,
    F,
    Func,
    OuterRef,
    Q,
    QuerySet,
    TextField,
)
from django.db.models.expressions import Combinable, OrderBy
from django.db.models.functions import Cast

from users.clerk import emails
from users.models import (
    BuilderGroup,
    BuilderUser,
    ClerkAccount,
    InvitationStatus,
    ListDue,
    ListEntry,
)
from users.sync.mirror.status import UserStatus

SEARCH_INDEX = "users_listentry_search"
CREATE_SEARCH_INDEX = (
    f"CREATE INDEX CONCURRENTLY {SEARCH_INDEX} ON users_listentry USING gin (search gin_trgm_ops)"
)
"""The migration makes this index only where it may create the extension."""


@dataclass(frozen=True)
class Trigger:
    """A trigger of the database that keeps the list when a statement changes a shared table."""

    table: str
    event: str
    function: str

    @property
    def name(self) -> str:
        """The name of the trigger. Two tables may have triggers of one name."""
        return f"users_list_{self.event.lower()}"


TRIGGERS = (
    *(Trigger("users", event, "users_list_user") for event in ("INSERT", "UPDATE", "DELETE")),
    Trigger("builder_groups", "UPDATE", "users_list_group"),
)
"""The triggers on the shared tables, as the migrations of a fresh installation make them."""
BATCH = 1000


class SearchKey(Func):
    """Compute the text without accents and case, by which the list searches and sorts."""

    function = "users_search_key"
    output_field = TextField()


def _same(ours: Combinable, stored: Combinable) -> Q:
    """Build the condition that both are equal or both NULL."""
    distinct: Q = Q(
        Func(ours, stored, template="(%(expressions)s)", arg_joiner=" IS NOT DISTINCT FROM ",
             output_field=BooleanField())
    )  # fmt: skip
    return distinct


CURRENT = (
    _same(F("clerk_id"), F("entry__clerk_id"))
    & _same(Cast("role", TextField()), F("entry__role"))  # an enum in an adopted table
    & _same(F("builder_group"), F("entry__builder_group"))
    & _same(SearchKey("name"), F("entry__name_key"))
    & _same(SearchKey("email"), F("entry__email_key"))
)
"""The entry shows the row as it is now. Otherwise somebody has removed our triggers."""


def with_entry(users: QuerySet[BuilderUser]) -> QuerySet[BuilderUser]:
    """Select the users that have an entry, with the entry."""
    return users.filter(entry__isnull=False).select_related("entry")


def written_since(user_ids: Sequence[uuid.UUID]) -> set[uuid.UUID]:
    """Return which of these users changed after their entry was written."""
    due = Exists(ListDue.objects.filter(user_id=OuterRef("pk")))
    users = BuilderUser.objects.filter(pk__in=user_ids, entry__isnull=False)
    return set(users.filter(~CURRENT | Q(due)).values_list("pk", flat=True))


def search(text: str) -> list[Q]:
    """Return the conditions on users that have all words in name, email, group or Clerk id.

    A name or email that only Clerk has counts too. A whole id means its user. Without trigrams, see
    `finds_parts`, the words are beginnings, and only of what the row holds.
    """
    if not text.strip():
        return []
    if user_id := _id(text):
        return [Q(pk=user_id)]
    return list(map(_contains if finds_parts() else _begins, _keys(text.split())))


def of_entry(condition: Q) -> Q:
    """Return a condition on users as one on their entries, which are counted without a join."""
    children: list[Any] = list(condition.children)
    children = [
        of_entry(child) if isinstance(child, Q) else (_of_entry(child[0]), child[1])
        for child in children
    ]
    return Q(*children, _connector=condition.connector, _negated=condition.negated)


def order_of_entries(field: Any) -> str | OrderBy:
    """Return an order of users as one of their entries."""
    if isinstance(field, str):
        return ("-" if field.startswith("-") else "") + _of_entry(field.removeprefix("-"))
    order: OrderBy = field.copy()
    order.set_source_expressions([F(_of_entry(field.expression.name))])
    return order


def sorted_afterwards(field: str | OrderBy) -> OrderBy:
    """Return an order that no index gives, so that the rows are found first and then sorted.

    The planner may else walk the index of the order until it has met a page of rows that fit. That
    is slow if these are far apart, for example at the end of the alphabet.
    """
    if isinstance(field, str):
        named = F(field.removeprefix("-"))
        field = named.desc() if field.startswith("-") else named.asc()
    order = field.copy()
    order.set_source_expressions([Func(field.expression, template="(SELECT %(expressions)s)")])
    return order


def _of_entry(lookup: str) -> str:
    return lookup.removeprefix("entry__") if lookup.startswith("entry__") else f"user__{lookup}"


def with_address(text: str) -> QuerySet[BuilderUser]:
    """Select the users whose email begins with the text, or whose account ever had this address."""
    [key] = _keys([text.strip()])
    accounts = ClerkAccount.objects.filter(addresses__has_key=emails.normalized(text))
    entries = ListEntry.objects.filter(email_key__startswith=key)
    return BuilderUser.objects.filter(
        Q(pk__in=entries.values("pk")) | Q(pk__in=accounts.values("user"))
    )


def accounts_with_address(text: str) -> Q:
    """Build the condition that `clerk_id` is of a user or an account with this address.

    See `with_address`. An account that no row has any more counts, too.
    """
    users = with_address(text)
    accounts = ClerkAccount.objects.filter(addresses__has_key=emails.normalized(text))
    return Q(clerk_id__in=users.values("clerk_id")) | Q(clerk_id__in=accounts.values("pk"))


def finds_parts() -> bool:
    """Return whether the search finds parts of words: the database may lack `pg_trgm`."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [SEARCH_INDEX])
        return bool(cursor.fetchone()[0])


def _contains(word: str) -> Q:
    # One or two letters have no trigram. With the space before them they begin a word, which has.
    return Q(entry__search__contains=word if len(word) > 2 else f" {word}")


def _begins(word: str) -> Q:
    groups = BuilderGroup.objects.alias(_key=SearchKey("name")).filter(_key__startswith=word)
    return (
        Q(entry__name_key__startswith=word)
        | Q(entry__email_key__startswith=word)
        | Q(entry__builder_group__in=list(groups.values_list("pk", flat=True)))
        | Q(account__clerk_id=word)
    )


def _keys(words: Sequence[str]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT users_search_key(word) FROM unnest(%s::text[]) AS one (word)", [list(words)]
        )
        return [key for (key,) in cursor.fetchall()]


def _id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text.strip())
    except ValueError:
        return None


def refresh_due() -> int:
    """Refresh the entries that another transaction had locked; return how many."""
    due = list(ListDue.objects.values_list("user_id", flat=True).distinct()[:BATCH])
    refresh(due)
    return len(due)


def refresh_all() -> None:
    """Refresh the entries that do not show their row: the triggers may have been removed.

    A process that sent an invitation during an upgrade may have stored the state of before.
    """
    shown = BuilderUser.objects.filter(entry__isnull=False)
    refresh(list(shown.exclude(CURRENT).values_list("pk", flat=True)))
    refresh(list(BuilderUser.objects.filter(entry=None).values_list("pk", flat=True)))
    rows = BuilderUser.objects.filter(pk=OuterRef("pk"))
    refresh(list(ListEntry.objects.exclude(Exists(rows)).values_list("pk", flat=True)))
    sent = ListEntry.objects.filter(invitation=InvitationStatus.PENDING)
    refresh(list(sent.filter(state=UserStatus.NOT_LINKED).values_list("pk", flat=True)))


def refresh(user_ids: Sequence[uuid.UUID]) -> None:
    """Write the entries of these users again, in batches."""
    with connection.cursor() as cursor:
        for start in range(0, len(user_ids), BATCH):
            cursor.execute(
                "SELECT users_refresh_list(%s::uuid[])", [list(user_ids[start : start + BATCH])]
            )
