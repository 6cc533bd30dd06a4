"""Count the rows of the other application that need to be known about, by kind. Nothing is written.

The application works with every one of them. An edit of another field leaves the value as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from users.ids import USER_ID
from users.models import InternalRole
from users.sync.adoption.catalog import Cursor
from users.validation import EMAIL_LENGTH, NAME_LENGTH

EXAMPLES = 5
"""How many ids are listed for each kind."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding: the SQL condition on a row of `users`, and what it means."""

    name: str
    condition: str
    meaning: str


@dataclass(frozen=True)
class Finding:
    """The rows of one kind."""

    kind: str
    rows: int
    examples: Sequence[str]
    meaning: str


_INTERNAL_ROLES = ", ".join(f"'{role}'" for role in InternalRole.values)
_EMAIL = r"'^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$'"
TWINS = "duplicate_email"
KINDS = (
    Kind(TWINS, "twins.same > 1",
         "The email differs from another row's only by capitals. Settle these, then run --apply "
         "again: it makes the unique index. Until then the application refuses new ones itself."),
    Kind("empty_clerk_id", "clerk_id = ''", "--apply sets it to NULL."),
    Kind("invalid_clerk_id", f"clerk_id <> '' AND clerk_id !~ '{USER_ID.pattern}'",
         "It is not an id of Clerk's. The row counts as not linked."),
    Kind("duplicate_clerk_id", "ids.same > 1",
         "Another row has the same Clerk id. Settle these, then run --apply again."),
    Kind("no_role", "role IS NULL", "It is shown as “none”."),
    Kind("other_internal_role",
         f"internal_role IS NOT NULL AND internal_role NOT IN ({_INTERNAL_ROLES})",
         "It is kept as it is."),
    Kind("name_not_valid",
         f"name !~ '[[:alnum:]]' OR name ~ '[[:cntrl:]<>]' OR length(name) > {NAME_LENGTH}",
         "No form would store this name. It is kept until somebody changes it."),
    Kind("email_not_valid",
         f"email !~ {_EMAIL} OR length(email) > {EMAIL_LENGTH}",
         "It is not an address, so nobody can be invited by it."),
    Kind("no_created_at", "created_at IS NULL", "Its day is shown as a dash."),
    Kind("group_missing",
         "builder_group_id IS NOT NULL AND NOT EXISTS ("
         "SELECT FROM public.builder_groups AS one WHERE one.id = builder_group_id)",
         "Its group does not exist any more."),
)  # fmt: skip
PASSWORDS = Kind(
    "plain_password", "coalesce(password, '') <> ''",
    "A password in plain text. Clerk signs people in; --clear-passwords empties the column.",
)  # fmt: skip

_ROWS = """
WITH twins AS (
    SELECT lower(email) AS value, count(*) AS same FROM public.users GROUP BY 1
), ids AS (
    SELECT clerk_id AS value, count(*) AS same FROM public.users WHERE clerk_id <> '' GROUP BY 1
)
SELECT {columns} FROM public.users
    LEFT JOIN twins ON twins.value = lower(email) LEFT JOIN ids ON ids.value = clerk_id
"""
_COLUMNS = """
count(*) FILTER (WHERE {condition}),
(array_agg(users.id::text ORDER BY users.id) FILTER (WHERE {condition}))[:{examples}]
"""


def find(cursor: Cursor, *, has_password: bool) -> list[Finding]:
    """Count the rows of each kind, through a cursor that may read both tables."""
    kinds = [*KINDS, PASSWORDS] if has_password else [*KINDS]
    columns = ", ".join(
        _COLUMNS.format(condition=kind.condition, examples=EXAMPLES) for kind in kinds
    )
    cursor.execute(_ROWS.format(columns=columns))
    values = iter(cursor.fetchone())
    found = [Finding(kind.name, next(values), next(values) or [], kind.meaning) for kind in kinds]
    return [finding for finding in found if finding.rows]
