"""Leave out of a plan what its author may not do.

The same permissions are required again when a row is carried out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from users.models import BuilderUser, OperationKind, Role
from users.sync.access import permissions
from users.sync.actors import Actor
from users.sync.bulk.plan import Plan, Planned, counted

CHUNK = 1000
_ANYBODY = BuilderUser(role=Role.BUILDER)
_ADMINISTRATOR = BuilderUser(role=Role.ADMIN)


def only_allowed(plan: Plan, *, actor: Actor) -> Plan:
    """Return the plan without the rows that the actor may not carry out.

    A note says how many they are, and which permissions are missing.
    """
    rows: list[Planned] = []
    refused: Counter[str] = Counter()
    for row, user in _with_users(plan):
        wanted = {field: change.after for field, change in row.changes.items()}
        kind = OperationKind(row.operation)
        lacking = permissions.missing(actor, kind, user, wanted=wanted)
        if lacking:
            refused[permissions.explain(lacking)] += 1
        else:
            rows.append(row)
    notes = (f"Left out: {counted(count, 'change')}. {why}" for why, count in refused.items())
    return replace(plan, rows=tuple(rows), notes=(*plan.notes, *notes))


def _with_users(plan: Plan) -> Iterator[tuple[Planned, BuilderUser]]:
    """Yield each row with a user of the same role: permissions depend on nothing else."""
    for start in range(0, len(plan.rows), CHUNK):
        chunk = plan.rows[start : start + CHUNK]
        admins = set(
            BuilderUser.objects.filter(
                pk__in=[row.user_uuid for row in chunk], role=Role.ADMIN
            ).values_list("pk", flat=True)
        )
        for row in chunk:
            yield row, _ADMINISTRATOR if row.user_uuid in admins else _ANYBODY
