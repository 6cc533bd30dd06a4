"""Define the one rule that says whether a name or an email is the same here and in Clerk.

Names are the same when only white space or the Unicode composition differs. Emails are the same
when only white space around them or the case of ASCII letters differs. A value that Clerk does not
have is not a difference.

The functions are for Python values; the expressions and conditions below them implement the same
rule in SQL. No other code compares rows with the mirror.
"""

from __future__ import annotations

import string
import uuid
from typing import Any, TypeVar

from django.db.models import (
    BooleanField,
    Case,
    Count,
    ExpressionWrapper,
    Func,
    Model,
    OuterRef,
    Q,
    QuerySet,
    TextField,
    Value,
    When,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Lower, NullIf
from django.db.models.lookups import Exact

from users.clerk import emails, names
from users.models import BuilderUser, ClerkAccount

Records = TypeVar("Records", bound=Model)
"""Rows or accounts: both have a column `email`."""


# --- In Python -----------------------------------------------------------------------------------


def normalized_name(text: str | None) -> str:
    """Return the text by which names are compared; empty for no name."""
    return names.normalized(text or "")


def normalized_email(text: str | None) -> str:
    """Return the text by which emails are compared; empty for no email."""
    return emails.normalized(text or "")


def same_name(one: str | None, other: str | None) -> bool:
    """Return whether both names are the same by the rule; None equals an empty name."""
    return normalized_name(one) == normalized_name(other)


def same_email(one: str | None, other: str | None) -> bool:
    """Return whether both emails are the same by the rule; None equals an empty email."""
    return normalized_email(one) == normalized_email(other)


def name_differs(ours: str | None, clerks: str | None) -> bool:
    """Return whether Clerk has a name that is not the row's."""
    return normalized_name(clerks) != "" and not same_name(ours, clerks)


def email_differs(ours: str | None, clerks: str | None) -> bool:
    """Return whether Clerk has an email that is not the row's."""
    return normalized_email(clerks) != "" and not same_email(ours, clerks)


def lacked_by_clerk(row: BuilderUser, account: ClerkAccount) -> list[str]:
    """Return the fields of the row that the account has no value for. They are no difference."""
    clerks = {"name": names.join(account.first_name, account.last_name), "email": account.email}
    ours = {"name": normalized_name(row.name), "email": normalized_email(row.email)}
    return [field for field, value in clerks.items() if not value.strip() and ours[field]]


# --- In SQL --------------------------------------------------------------------------------------

_WHITE_SPACE = "".join(f"\\u{ord(character):04x}" for character in names.WHITE_SPACE)
"""For a literal E'…'. What `\\s` matches depends on the locale of the database."""


class NormalizedName(Func):
    """Compute `normalized_name` in SQL."""

    arity = 1
    template = (
        "normalize(btrim(regexp_replace("
        f"coalesce(%(expressions)s, ''), E'[{_WHITE_SPACE}]+', ' ', 'g')), NFC)"
    )
    output_field = TextField()


class NormalizedEmail(Func):
    """Compute `normalized_email` in SQL.

    It uses `translate`, as the effect of `lower` on other alphabets depends on the locale.
    """

    arity = 1
    template = (
        f"translate(btrim(coalesce(%(expressions)s, ''), E'{_WHITE_SPACE}'), "
        f"'{string.ascii_uppercase}', '{string.ascii_lowercase}')"
    )
    output_field = TextField()


def where_name_differs(ours: Combinable, clerks: Combinable) -> Q:
    """Build the condition of `name_differs` in SQL."""
    return _where_differs(NormalizedName, ours, clerks)


def where_email_differs(ours: Combinable, clerks: Combinable) -> Q:
    """Build the condition of `email_differs` in SQL."""
    return _where_differs(NormalizedEmail, ours, clerks)


def _where_differs(normalized: type[Func], ours: Combinable, clerks: Combinable) -> Q:
    """Compare the values as they are first, and normalize them only if they differ.

    Nearly all values are equal, and normalizing costs ten times as much as all the rest.
    """
    known = NullIf(normalized(clerks), Value("", output_field=TextField()))
    other = ExpressionWrapper(~Q(Exact(known, normalized(ours))), output_field=BooleanField())
    return Q(
        Case(
            When(Q(Exact(ours, clerks)), then=Value(False)),
            default=Coalesce(other, Value(False)),
            output_field=BooleanField(),
        )
    )


# --- Finding by email ----------------------------------------------------------------------------

# Both conditions of `with_email` and `with_email_of` are needed. The index on lower(email) finds
# candidates fast, but in most locales it takes the Kelvin sign for a k. The rule excludes these. A
# stored address with white space around it is not found: its row must be linked by hand.


def with_email(records: QuerySet[Records], *wanted: str) -> QuerySet[Records]:
    """Select the records that have one of these addresses; none for an empty address."""
    normalized = {normalized_email(email) for email in wanted} - {""}
    return _keyed(records).filter(
        _lower__in=[Lower(Value(email)) for email in normalized], _normalized__in=normalized
    )


def with_email_of(records: QuerySet[Records], outer: OuterRef) -> QuerySet[Records]:
    """Select the records that have the address of the outer record; none for an empty address."""
    return _keyed(records).filter(
        ~Q(_normalized=""), _lower=Lower(outer), _normalized=NormalizedEmail(outer)
    )


def _keyed(records: QuerySet[Any]) -> QuerySet[Any]:
    return records.alias(_lower=Lower("email"), _normalized=NormalizedEmail("email"))


def taken_by_another(row: BuilderUser, email: str) -> BuilderUser | None:
    """Return another row whose email prevents this row from taking `email`, if there is one."""
    if normalized_email(email) == "" or same_email(email, row.email):
        return None
    return others_with_email(row.pk, Value(email)).first()


def others_with_email(row: uuid.UUID | OuterRef, email: Combinable) -> QuerySet[BuilderUser]:
    """Select other rows than `row` whose email conflicts with `email` in the unique index.

    The index on lower(email) may take two mailboxes for one.
    """
    others = BuilderUser.objects.alias(_lower=Lower("email")).exclude(pk=row)
    return others.filter(_lower=Lower(email))


def accounts_sharing_an_email(accounts: QuerySet[ClerkAccount]) -> QuerySet[ClerkAccount]:
    """Select those of the accounts that have the same address as another one of them."""
    with_an_email = accounts.alias(_normalized=NormalizedEmail("email")).exclude(_normalized="")
    return _sharing(with_an_email, NormalizedEmail("email"))


def rows_sharing_an_email() -> QuerySet[BuilderUser]:
    """Select the rows that conflict with each other in the unique index on lower(email)."""
    return _sharing(BuilderUser.objects.all(), Lower("email"))


def _sharing(records: QuerySet[Any], key: Func) -> QuerySet[Any]:
    counted = records.order_by().values(_key=key).annotate(_records=Count("pk"))
    shared = counted.filter(_records__gt=1).values("_key")
    return records.alias(_key=key).filter(_key__in=shared)
