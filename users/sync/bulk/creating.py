"""Rows of a run that make a new user.

The id of the user is chosen with the plan and kept in the row. So a create that is tried again
after a kill finds its own row, and its own account by the id in the account's metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from users.clerk import Clerk
from users.models import BuilderGroup, BuilderUser, BulkRow, OperationKind, Role, Source
from users.sync import messages
from users.sync.bulk.plan import SIGN_IN, Planned, counted
from users.sync.operations import CreateFromClerk
from users.sync.operations.base import Changes
from users.sync.outbound import pending
from users.sync.outbound.dual_write import dual_write
from users.sync.services import invitations
from users.sync.services.users import create_user

KINDS = (OperationKind.CREATE, OperationKind.CREATE_INVITED)
WAYS = {
    "invite": OperationKind.CREATE_INVITED,
    "create": OperationKind.CREATE,
    "none": OperationKind.CREATE,
}


NAMED = 20
"""How many of those who are left out are named in a plan."""


@dataclass(frozen=True)
class Defaults:
    """What new users get where nothing else says it."""

    role: str = Role.BUILDER.value
    group: BuilderGroup | None = None


def left_out(names: Sequence[str], thing: str, why: str, *, total: int | None = None) -> str:
    """Say how many are left out and why, naming some; `names` are all of them, or the first of
    `total`."""
    count = len(names) if total is None else total
    shown = ", ".join(names[:NAMED])
    more = f", and {count - NAMED} more" if count > NAMED else ""
    return f"{counted(count, thing)} {why}: {shown}{more}."


def plan_new(user: BuilderUser, sign_in: str, line: int | None = None) -> Planned:
    """Plan a user with the sign-in of `WAYS`, or with the account whose id it has."""
    changes: Changes = {
        "name": [None, user.name],
        "email": [None, user.email],
        "role": [None, user.role],
        "internal_role": [None, user.internal_role],
        "builder_group": [None, str(user.builder_group_id) if user.builder_group_id else None],
    }
    changes = {field: change for field, change in changes.items() if change[1] is not None}
    if user.linked:
        changes["clerk_id"] = [None, user.clerk_id]
        return Planned.on(user, OperationKind.CREATE, changes, line)
    changes[SIGN_IN] = [None, sign_in]
    return Planned.on(user, WAYS[sign_in], changes, line)


def new_user(row: BulkRow) -> BuilderUser | None:
    """The user that a row is to make, not stored yet; None for a row of another kind."""
    if row.operation not in KINDS:
        return None
    values: dict[str, Any] = {
        field: after for field, (_, after) in row.changes.items() if field != SIGN_IN
    }
    values["builder_group_id"] = values.pop("builder_group", None)
    return BuilderUser(pk=row.user_id, **values)


def asks_clerk(row: BulkRow) -> bool:
    return bool(row.changes.get(SIGN_IN, [None, "none"])[1] != "none")


def create(row: BulkRow, user: BuilderUser, gateway: Callable[[], Clerk]) -> tuple[str, ...]:
    """Make the user of a row; return what is to be said besides. Raises the `ChangeFailed`
    family."""
    if not user._state.adding:  # an earlier try or its recovery has made it
        invitation = invitations.open_of(user)
        return invitations.said_of(invitation.send_after if invitation else None)
    earlier = pending.create_of(user.email)
    if earlier is not None and earlier.user_id != user.pk:
        raise messages.must_wait(earlier)
    origin: dict[str, Any] = {"actor": row.run.actor, "source": Source.COMMAND, "run": row.run}
    if user.linked:
        return dual_write(CreateFromClerk.of_account(user), user, **origin).warnings
    if row.operation == OperationKind.CREATE_INVITED:
        with invitations.ONE_OF_MANY:
            invited = invitations.create_invited(user, gateway=gateway, **origin)
        return invitations.said_of(invited.waits_until)
    account = row.changes[SIGN_IN][1]
    return create_user(user, account=account, gateway=gateway, **origin).warnings
