"""Report where rows and accounts are out of sync, and the likely cause.

It is one SQL statement over the mirror; run a scan first to make the mirror fresh.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from django.db.models import (
    Case,
    DateTimeField,
    Exists,
    F,
    Field,
    IntegerField,
    Model,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    TextChoices,
    TextField,
    Value,
    When,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from users.models import LINKED, BuilderUser, BulkRun, ClerkAccount, RunStatus, Status, SyncAttempt
from users.sync.mirror import comparison, status
from users.version import same


class Kind(TextChoices):
    """Kind of difference, in the order of the report."""

    NAME = "name", "Name differs"
    EMAIL = "email", "Email differs"
    MISSING = "missing", "Here but not in Clerk"
    UNSEEN = "unseen", "Not looked at yet"
    DELETED = "deleted", "Linked to an account that was deleted in Clerk"
    INVALID_ID = "invalid_id", "Linked to something that is not a valid Clerk id"
    UNFINISHED = "unfinished", "Unfinished attempt"
    MATCH = "match", "Unlinked with a match in Clerk"
    ONLY_IN_CLERK = "only_in_clerk", "In Clerk but not here"
    TWINS = "twins", "Duplicates: one email, several Clerk accounts"
    TWIN_ROWS = "twin_rows", "Duplicates: one email, several builder users"


_R = TypeVar("_R")

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Difference:
    """One thing that is out of sync.

    `ours` and `theirs` are the two values, empty for none; `cause` is the likely cause, in words.
    """

    kind: Kind
    user_id: uuid.UUID | None
    label: str
    clerk_id: str
    ours: str
    theirs: str
    cause: str


class _Row(NamedTuple):
    rank: int
    user_id: uuid.UUID | None
    label: str
    clerk_id: str
    ours: str
    theirs: str
    note: str
    agreed: str | None


def find(kinds: Sequence[Kind] = ()) -> Iterator[Difference]:
    """Yield all differences, or those of some kinds, in the order of `Kind`, then by name."""
    for values in statement(kinds).iterator():
        row = _Row(*values)
        kind = list(Kind)[row.rank]
        yield Difference(
            kind, row.user_id, row.label, row.clerk_id, row.ours, row.theirs, _cause(kind, row)
        )


def counts() -> dict[str, int]:
    """Count the differences of each kind."""
    return {kind.value: _QUERIES[kind]().order_by().count() for kind in Kind}


def statement(kinds: Sequence[Kind] = ()) -> QuerySet[Model, tuple[Any, ...]]:
    """Build one statement for all differences, with a part for each kind."""
    parts = [_rows_of(kind) for kind in Kind if not kinds or kind in kinds]
    return _union(parts).order_by("rank", "label_")


def user_ids(kinds: Sequence[Kind]) -> QuerySet[Model, object]:
    """Select the ids of the users who have a difference of one of these kinds, as a subquery.

    The id is NULL for a difference that does not belong to a user.
    """
    return _union([_QUERIES[kind]().order_by().values_list("user_id_") for kind in kinds])


def matches(users: QuerySet[BuilderUser]) -> QuerySet[Model, tuple[str, uuid.UUID]]:
    """Select the accounts of the kind MATCH, each with the one of these users that it matches."""
    found = _match().filter(fits__in=users.values("pk"))
    return found.order_by("pk").values_list("pk", "fits")


def _union(parts: Sequence[QuerySet[Model, _R]]) -> QuerySet[Model, _R]:
    first, *others = parts
    return first.union(*others, all=True)


def _cause(kind: Kind, row: _Row) -> str:
    """Return the likely cause of a difference.

    For a value that differs, this is why the row cannot take Clerk's value, or else which side
    changed since both last agreed.
    """
    if kind not in (Kind.NAME, Kind.EMAIL):
        return row.note or str(CAUSES[kind])
    return row.note or moved(kind.value, row.ours, row.theirs, row.agreed)


def moved(field: str, ours: str, theirs: str, agreed: str | None) -> str:
    """Return which side of a differing value was changed since both sides agreed."""
    if agreed is None:
        return gettext("The two were never the same while we looked: the cause is not known.")
    if same(field, ours, agreed):
        return gettext("Changed in Clerk. The row follows as soon as it can.")
    if same(field, theirs, agreed):
        return gettext("Changed in the database alone, by another application or a repair.")
    return gettext("Changed on both sides: choose which one counts.")


CAUSES = {
    Kind.MISSING: _("Not among all of Clerk's users: the id is of another instance."),
    Kind.UNSEEN: _("All of Clerk's users were not looked at since it was linked: --refresh."),
    Kind.DELETED: _("Deleted in Clerk, by somebody in its dashboard or by the person."),
    Kind.INVALID_ID: _(
        "Stored by another application. Edits are saved here alone: unlink the user."
    ),
    Kind.UNFINISHED: _("Its process died, or Clerk cannot tell what became of it: clerk_recover."),
    Kind.MATCH: _("The event of its sign-up was lost, or came before the row: clerk_link."),
    Kind.ONLY_IN_CLERK: _("Signed up by themselves, or the row was deleted here alone."),
    Kind.TWINS: _("The person signed up twice: one account too many in Clerk."),
    Kind.TWIN_ROWS: _("Stored while the index users_email_lower_unique was missing: clerk_check."),
}
CLAIMED = _("Its metadata names this user. That alone is no proof: link it on the user's form.")
UNVERIFIED = _("Its email is not verified, so clerk_link leaves it: link it on the user's form.")


# --- Conditions of rows --------------------------------------------------------------------------


def _last_look() -> Coalesce:
    """Build the time at which the newest complete scan began; long ago if there is none."""
    looks = BulkRun.objects.filter(command="scan", state=RunStatus.FINISHED)
    newest = looks.order_by("-started_at").values("started_at")[:1]
    return Coalesce(Subquery(newest), Value(LONG_AGO, output_field=DateTimeField()))


_LIVING = status.HAS_COPY & Q(account__deleted_at=None)
_WITHOUT_COPY = LINKED & status.HAS_NO_COPY

WHERE = {
    Kind.NAME: _LIVING & status.NAME_DIFFERS,
    Kind.EMAIL: _LIVING & status.EMAIL_DIFFERS,
    Kind.MISSING: _WITHOUT_COPY & Q(updated_at__lt=_last_look()),
    # The account cannot have been seen: no complete scan began since.
    Kind.UNSEEN: _WITHOUT_COPY & Q(updated_at__gte=_last_look()),
    Kind.DELETED: status.HAS_COPY & Q(account__deleted_at__isnull=False),
    Kind.INVALID_ID: ~LINKED & Q(clerk_id__isnull=False),
}
"""The kinds that concern a row and its account, as conditions of `BuilderUser`.

The plans of push and pull use the same conditions, so that they always match `clerk_diff`.
"""


# --- One query a kind ----------------------------------------------------------------------------

_COLUMNS = ("rank", "user_id_", "label_", "clerk_id_", "ours", "theirs", "note_", "agreed")


def _rows_of(kind: Kind) -> QuerySet[Model, tuple[Any, ...]]:
    rank = Value(list(Kind).index(kind), output_field=IntegerField())
    return _QUERIES[kind]().annotate(rank=rank).values_list(*_COLUMNS)


def _of_users(
    users: QuerySet[BuilderUser],
    *,
    ours: Combinable | None = None,
    theirs: Combinable | None = None,
    field: str = "",
) -> QuerySet[BuilderUser]:
    return users.annotate(
        user_id_=F("pk"),
        label_=F("name"),
        clerk_id_=Coalesce(F("clerk_id"), _text("")),
        ours=ours or _text(""),
        theirs=theirs or _text(""),
        note_=Case(When(status.HAS_COPY, then=F("account__note")), default=_text("")),
        agreed=F(f"agreement__{field}") if field else _none(TextField()),
    )


def _of_accounts(
    accounts: QuerySet[ClerkAccount],
    *,
    user: Combinable | None = None,
    label: Combinable | None = None,
    ours: Combinable | None = None,
    note: Combinable | None = None,
) -> QuerySet[ClerkAccount]:
    return accounts.annotate(
        user_id_=user or F("user_id"),
        label_=label or status.clerk_name(""),
        clerk_id_=F("clerk_id"),
        ours=ours or _text(""),
        theirs=F("email"),
        note_=note or F("note"),
        agreed=_none(TextField()),
    )


def _text(value: str) -> Value:
    return Value(value, output_field=TextField())


def _none(output_field: Field) -> Cast:
    """Build a typed NULL: the parts of a union must agree in their types."""
    return Cast(Value(None), output_field=output_field)


def _where(
    kind: Kind, *, ours: Combinable | None = None, theirs: Combinable | None = None, field: str = ""
) -> Callable[[], QuerySet[BuilderUser]]:
    return lambda: _of_users(
        BuilderUser.objects.filter(WHERE[kind]), ours=ours, theirs=theirs, field=field
    )


def _unfinished() -> QuerySet[SyncAttempt]:
    """Select pending attempts, also of users that do not exist yet or do not exist any more."""
    return SyncAttempt.objects.filter(status=Status.STARTED).annotate(
        user_id_=F("user_id"),
        label_=F("label"),
        clerk_id_=F("clerk_id"),
        ours=_text(""),
        theirs=_text(""),
        note_=F("message"),
        agreed=_none(TextField()),
    )


def _unlinked_accounts() -> QuerySet[ClerkAccount]:
    """Select accounts without a row.

    Accounts that staff released are left out: they are meant to have no row.
    """
    return ClerkAccount.objects.filter(user=None, deleted_at=None, released_at=None)


def _fitting(field: str) -> Coalesce:
    """Build a field of the unlinked row that an account seems to belong to, NULL for none.

    The row is found by the account's email, or else by our id in its metadata.
    """
    free = BuilderUser.objects.not_linked()
    claimed = free.filter(pk=OuterRef("claimed_id"))
    mailed = comparison.with_email_of(free, OuterRef("email"))
    return Coalesce(Subquery(mailed.values(field)[:1]), Subquery(claimed.values(field)[:1]))


def _match() -> QuerySet[Any]:
    """Select the accounts that seem to belong to an unlinked row.

    Banned accounts are left out, as nothing links them.
    """
    claimed = BuilderUser.objects.filter(pk=OuterRef("claimed_id"))
    note = Case(
        When(~Q(note=""), then=F("note")),
        When(Q(email_verified=True), then=_text("")),
        When(Exists(claimed), then=_text(str(CLAIMED))),
        default=_text(str(UNVERIFIED)),
    )
    accounts = _unlinked_accounts().annotate(fits=_fitting("pk")).filter(banned=False)
    return _of_accounts(
        accounts.filter(fits__isnull=False),
        user=F("fits"),
        label=_fitting("name"),
        ours=_fitting("email"),
        note=note,
    )


def _only_in_clerk() -> QuerySet[ClerkAccount]:
    accounts = _unlinked_accounts().alias(fits=_fitting("pk"))
    return _of_accounts(accounts.filter(Q(fits=None) | Q(banned=True)))


def _twins() -> QuerySet[ClerkAccount]:
    living = ClerkAccount.objects.filter(deleted_at=None, banned=False)
    return _of_accounts(comparison.accounts_sharing_an_email(living))


def _twin_rows() -> QuerySet[BuilderUser]:
    """Select rows with the same email; there are none as long as the unique index exists."""
    return _of_users(comparison.rows_sharing_an_email(), ours=F("email"))


_QUERIES: dict[Kind, Callable[[], QuerySet[Model]]] = {
    Kind.NAME: _where(Kind.NAME, ours=F("name"), theirs=status.clerk_name(), field="name"),
    Kind.EMAIL: _where(Kind.EMAIL, ours=F("email"), theirs=F("account__email"), field="email"),
    Kind.MISSING: _where(Kind.MISSING),
    Kind.UNSEEN: _where(Kind.UNSEEN),
    Kind.DELETED: _where(Kind.DELETED),
    Kind.INVALID_ID: _where(Kind.INVALID_ID),
    Kind.UNFINISHED: _unfinished,
    Kind.MATCH: _match,
    Kind.ONLY_IN_CLERK: _only_in_clerk,
    Kind.TWINS: _twins,
    Kind.TWIN_ROWS: _twin_rows,
}
