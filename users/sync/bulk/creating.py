"""Carry out rows of a run that create a user.

The id of the user is chosen with the plan and stored in the row. So a create that is tried again
after a kill finds its own row, and finds its own account by the id in the account's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from users.changes import Change, Changes
from users.models import (
    CREATES,
    BuilderGroup,
    BuilderUser,
    BulkRow,
    OperationKind,
    Role,
    SignIn,
)
from users.sync import messages
from users.sync.bulk.plan import SIGN_IN, Planned, counted
from users.sync.operations import CreateFromClerk
from users.sync.outbound import pending
from users.sync.outbound.dual_write import dual_write
from users.sync.services import invitations
from users.sync.services.invitation_limit import said_of
from users.sync.services.users import Origin, create_user
from users.version import value_of

NAMED = 20
"""Number of left-out users that a plan names."""


@dataclass(frozen=True)
class Defaults:
    """Values of new users for what their line or account does not give."""

    role: str = Role.BUILDER.value
    group: BuilderGroup | None = None


def left_out(names: Sequence[str], thing: str, why: str, *, total: int | None = None) -> str:
    """Return a sentence that says how many are left out and why, and names some.

    `names` holds all of them, or the first ones of `total`.
    """
    count = len(names) if total is None else total
    shown = ", ".join(names[:NAMED])
    more = f", and {count - NAMED} more" if count > NAMED else ""
    return f"{counted(count, thing)} {why}: {shown}{more}."


def plan_new(user: BuilderUser, sign_in: SignIn, line: int | None = None) -> Planned:
    """Plan a user with a sign-in, or with the account whose id the user has."""
    changes: Changes = {
        "name": Change(None, user.name),
        "email": Change(None, user.email),
        "role": Change(None, user.role),
        "internal_role": Change(None, user.internal_role),
        "builder_group": Change(None, value_of(user, "builder_group")),
    }
    changes = {field: change for field, change in changes.items() if change.after is not None}
    if user.linked:
        changes["clerk_id"] = Change(None, user.clerk_id)
        return Planned.on(user, OperationKind.CREATE, changes, line)
    changes[SIGN_IN] = Change(None, sign_in)
    return Planned.on(user, sign_in.kind, changes, line)


def new_user(row: BulkRow) -> BuilderUser | None:
    """Return the user that a row creates, not stored yet; None for a row of another kind."""
    if row.operation not in CREATES:
        return None
    values: dict[str, object] = {
        field: after for field, (_, after) in row.changes.items() if field != SIGN_IN
    }
    values["builder_group_id"] = values.pop("builder_group", None)
    return BuilderUser(pk=row.user_id, **values)


def asks_clerk(row: BulkRow) -> bool:
    """Return whether creating the user makes requests to Clerk."""
    return bool(row.changes.get(SIGN_IN, [None, SignIn.NONE])[1] != SignIn.NONE)


def create(row: BulkRow, user: BuilderUser, origin: Origin) -> tuple[str, ...]:
    """Create the user of a row; return warnings for people.

    Raises the `ChangeFailed` family.
    """
    if not user._state.adding:  # an earlier try or its recovery has created it
        invitation = invitations.open_of(user)
        return said_of(invitation.send_after if invitation else None)
    earlier = pending.create_of(user.email)
    if earlier is not None and earlier.user_id != user.pk:
        raise messages.must_wait(earlier)
    if user.linked:
        return dual_write(CreateFromClerk.of_account(user), user, **origin).warnings
    if row.operation == OperationKind.CREATE_INVITED:
        with invitations.ONE_OF_MANY:
            invited = invitations.create_invited(user, **origin)
        return said_of(invited.waits_until)
    account = SignIn(str(row.changes[SIGN_IN][1]))
    return create_user(user, account=account, **origin).warnings
