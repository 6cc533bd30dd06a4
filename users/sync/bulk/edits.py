"""Plan to give many users the same group or the same role."""

from __future__ import annotations

from collections import Counter

from django.core.exceptions import ValidationError
from django.db.models import QuerySet

from users.changes import Change
from users.models import BuilderUser, OperationKind
from users.sync.bulk.plan import Plan, Planned
from users.validation import clean_roles
from users.version import same, value_of

CHUNK = 1000
HAVE_IT = "with this value already"


def plan_edit(users: QuerySet[BuilderUser], *, field: str, value: object) -> Plan:
    """Plan to set one field of the users to a value, in the form that JSON holds."""
    rows: list[Planned] = []
    left_out: Counter[str] = Counter()
    for user in users.iterator(CHUNK):
        before = value_of(user, field)
        if same(field, before, value):
            left_out[HAVE_IT] += 1
        elif why := _unfit(user, field, value):
            left_out[why] += 1
        else:
            rows.append(Planned.on(user, OperationKind.UPDATE, {field: Change(before, value)}))
    notes = tuple(f"Left out: {_people(count)} {why}." for why, count in left_out.items())
    return Plan("update_users", tuple(rows), notes)


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count:,} people"


def _unfit(user: BuilderUser, field: str, value: object) -> str:
    """Return why the user cannot have the value, as a phrase about several; "" if they can."""
    if field != "role":
        return ""
    try:
        clean_roles(value if isinstance(value, str) else None, user.internal_role)
    except ValidationError:
        return "with an internal role, which only the role Admin may have"
    return ""
