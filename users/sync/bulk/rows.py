"""One row of a run: its change, through the same dual write as the form, and what became of it."""

from __future__ import annotations

from collections.abc import Callable

from users.clerk import Clerk, Pace, clerk, names
from users.errors import Busy, ChangeFailed, Conflict, Gone
from users.models import BuilderUser, BulkRow, ClerkAccount, Source
from users.models import Operation as Kind
from users.sync import account, invitations
from users.sync.dual_write import dual_write
from users.sync.mirror import comparison
from users.sync.operations import Operation

State = BulkRow.State


def asks_clerk(row: BulkRow) -> bool:
    """Whether it needs a place at Clerk's pace."""
    return row.operation == Kind.INVITE or _operation(row).asks_clerk


def _operation(row: BulkRow) -> Operation:
    return Operation.kinds[row.operation](
        user_id=row.user_id, label=row.label, clerk_id=row.clerk_id, changes=row.changes
    )


class Later(Exception):
    """Not now, but in the next round; the text says why."""


def carry_out(row: BulkRow, pace: Pace) -> tuple[State, str]:
    """Carry out one row: its state now, and the reason in words."""
    user = row.user
    if user is None:
        return State.SKIPPED, "The user was deleted since the plan was made."
    if moved := _moved_in_clerk(row, user):
        return State.SKIPPED, moved
    try:
        return State.DONE, " ".join(_change(row, user, lambda: clerk().paced(pace)))
    except Conflict as conflict:
        if not conflict.conflicts:  # recovery came between the attempt and the row's lock
            raise Later(conflict.message) from None
        return State.SKIPPED, _moved_here(conflict)
    except Gone:
        return State.SKIPPED, "The user was deleted since the plan was made."
    except Busy as failure:
        raise Later(failure.message) from None
    except ChangeFailed as failure:
        if failure.retry_after is not None or failure.code == "unfinished":
            raise Later(failure.message) from None
        return State.FAILED, failure.full_message


def _change(row: BulkRow, user: BuilderUser, gateway: Callable[[], Clerk]) -> tuple[str, ...]:
    """What is to be said besides. Raises the `ChangeFailed` family."""
    run = row.run
    if row.operation == Kind.INVITE:
        invited = invitations.invite(
            user, actor=run.actor, email=row.changes["email"][1], source=Source.COMMAND, run=run
        )
        waits = invited.waits_until
        return (f"It is sent after {waits:%Y-%m-%d %H:%M} UTC.",) if waits else ()
    operation = _operation(row)
    saved = dual_write(
        operation, user, actor=run.actor, source=Source.COMMAND, run=run, gateway=gateway
    )
    if row.operation in (Kind.REPLACE_EMAIL, Kind.PUSH_EMAIL):
        return account.still_found(row.changes["email"][0], gateway)
    return saved.warnings


def _moved_here(conflict: Conflict) -> str:
    by = f", by {conflict.who}" if conflict.who else ""
    now = "; ".join(
        f"{moved.field} is {moved.theirs or 'empty'} now" for moved in conflict.conflicts
    )
    return f"It changed since the plan was made{by}: {now}."


def _moved_in_clerk(row: BulkRow, user: BuilderUser) -> str:
    """Clerk's side of the preconditions, by our copy; the row's side is compared under its lock."""
    if row.operation in (Kind.PUSH_NAME, Kind.PUSH_EMAIL):
        index = 0
    elif row.operation == Kind.FOLLOW:
        index = 1
    else:
        return ""
    known: ClerkAccount | None = getattr(user, "account", None)
    if known is None or known.deleted_at:
        return "Its account was deleted in Clerk since the plan was made."
    holds = {"name": names.join(known.first_name, known.last_name), "email": known.email}
    moved = [
        field
        for field, pair in row.changes.items()
        if not comparison.same(field, pair[index], holds[field])
    ]
    return f"Clerk holds another {moved[0]} than when the plan was made." if moved else ""
