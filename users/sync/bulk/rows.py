"""Carry out one row of a run, through the same dual write as the form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Subquery
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.changes import changes_of
from users.clerk import Clerk, Pace, clerk, names
from users.errors import (
    Busy,
    BusyInClerk,
    ChangeFailed,
    Conflict,
    Denied,
    Gone,
    NotAllowed,
    NotConfigured,
    NothingToChange,
    NotKnown,
    NotSaved,
    Waiting,
)
from users.models import (
    CREATES,
    BuilderUser,
    BulkRow,
    ClerkAccount,
    OperationKind,
    RowStatus,
    Source,
)
from users.sync.access import permissions
from users.sync.bulk import actions, clerk_values, creating
from users.sync.bulk.attempts import attempts_of
from users.sync.bulk.circuit import Signal
from users.sync.display import group_names
from users.sync.operations import Operation
from users.sync.outbound.dual_write import dual_write
from users.sync.services import invitations, sign_in, transfer, users
from users.sync.services.invitation_limit import said_of
from users.version import same

OLDEST = timedelta(seconds=2)
"""How old the mirror of an account may be when its row is written; it is in the documentation."""


ERASED = gettext_lazy("What it would change was erased from the records.")


def asks_clerk(row: BulkRow) -> bool:
    """Return whether the row makes requests to Clerk and needs a slot of the rate limiter."""
    if not row.changes:
        return False
    if row.operation in CREATES:
        return creating.asks_clerk(row)
    if row.operation == OperationKind.REFRESH:
        return True
    if (
        row.operation == OperationKind.INVITE or "invitation" in row.changes
    ):  # sent, or revoked first
        return True
    return _operation(row).asks_clerk


def reads_first(row: BulkRow) -> bool:
    """Return whether the row's account must be fresh before the row is written."""
    kind = Operation.kinds.get(row.operation)
    return bool(kind and kind.reads_first and row.clerk_id and asks_clerk(row))


def _operation(row: BulkRow) -> Operation:
    changes, details = changes_of(row.changes), dict[str, object]()
    if row.clerk_id and row.operation in clerk_values.FIELDS:
        changes, details = clerk_values.apart(changes)
    return Operation.kinds[row.operation](
        user_id=row.user_id,
        label=row.label,
        clerk_id=row.clerk_id,
        changes=changes,
        details=details,
    )


@dataclass(frozen=True)
class Result:
    """Result of one try of a row.

    A row whose state is still WAITING is tried again in the next round; `reason` says why. `signal`
    is for the circuit breaker.
    """

    state: RowStatus
    reason: str
    signal: Signal


def carry_out(row: BulkRow, rate_limiter: Pace) -> Result:
    """Carry out the change of one row.

    Every planned change has values. A row without any was erased (`users.sync.retention`).
    """
    if not row.changes:
        return _skipped(str(ERASED))
    user = row.user or creating.new_user(row)
    if user is None:
        return _skipped(_("The user was deleted since the plan was made."))
    if reason := _moved_in_clerk(row) or actions.obstacle_to(row, user):
        return _skipped(reason)
    try:
        warnings = _change(row, user, lambda: clerk().paced(rate_limiter))
    except ChangeFailed as failure:
        return _result_of(failure)
    signal = Signal.ANSWERED if asks_clerk(row) else Signal.ENDED
    return Result(RowStatus.DONE, " ".join(warnings), signal)


def _result_of(failure: ChangeFailed) -> Result:
    """Decide whether the row is tried again.

    The same values may always be sent again, so a row is tried again after an unknown outcome, and
    while Clerk cannot be reached or is busy. A row fails only for a reason of its own.
    """
    message = failure.full_message
    match failure:
        case Conflict():
            return _skipped(_moved_here(failure))
        case NothingToChange():
            return _skipped(failure.message)
        case Gone():
            return _skipped(_("The user was deleted since the plan was made."))
        case Denied() | NotConfigured():
            return Result(RowStatus.WAITING, message, Signal.DENIED)
        case _ if failure.retry_after is not None:
            return Result(RowStatus.WAITING, message, Signal.NOTHING)
        case NotKnown() | NotSaved() | BusyInClerk():
            return Result(RowStatus.WAITING, message, Signal.NOT_CONFIRMED)
        case Busy() | Waiting():
            return Result(RowStatus.WAITING, message, Signal.NOTHING)
    return Result(RowStatus.FAILED, message, Signal.FAILED)


def crashed(row: BulkRow, problem: Exception) -> Result:
    """Return the result of a row that ended with an error of ours.

    Its attempt may be pending: then the row waits for the resolution of the attempt.
    """
    state = RowStatus.WAITING if attempts_of(row).pending().exists() else RowStatus.FAILED
    reason = _("It failed with {error}: see the log.").format(error=type(problem).__name__)
    return Result(state, reason, Signal.FAILED)


def _skipped(reason: str) -> Result:
    return Result(RowStatus.SKIPPED, reason, Signal.ENDED)


def store(row: BulkRow, result: Result) -> None:
    """Store the result of a row, with the newest attempt that was made for the row."""
    attempts = attempts_of(row)
    BulkRow.objects.filter(pk=row.pk).update(
        state=result.state,
        reason=result.reason,
        attempt=Subquery(attempts.order_by("-pk").values("pk")[:1]),
    )


def _change(row: BulkRow, user: BuilderUser, gateway: Callable[[], Clerk]) -> tuple[str, ...]:
    """Make the change; return warnings for people. Raises the `ChangeFailed` family."""
    if row.operation == OperationKind.INVITE:
        return _invite(row, user)
    if row.operation == OperationKind.REFRESH:
        return _refresh(row, user, gateway)
    run = row.run
    origin: users.Origin = {
        "actor": run.actor, "source": Source(run.source), "run": run, "gateway": gateway
    }  # fmt: skip
    if row.operation in CREATES:
        return creating.create(row, user, origin)
    if row.operation == OperationKind.DELETE:
        return users.delete_user(user, **origin).warnings
    saved = dual_write(_operation(row), user, fresh=OLDEST, **origin)
    if row.operation in (OperationKind.REPLACE_EMAIL, OperationKind.PUSH_EMAIL):
        return sign_in.still_found(str(row.changes["email"][0]), gateway)
    return saved.warnings


def _invite(row: BulkRow, user: BuilderUser) -> tuple[str, ...]:
    """Invite the user, unless an earlier try has done so.

    An invitation that waits for Clerk's limit has no attempt, so the invitation itself is looked
    up.
    """
    if (earlier := actions.invitation_of(row)) is not None:
        return said_of(earlier.send_after)
    wanted = row.changes.get("invitation") or row.changes["email"]
    with invitations.ONE_OF_MANY:
        invited = invitations.invite(
            user,
            actor=row.run.actor,
            email=str(wanted[1]),
            source=Source(row.run.source),
            run=row.run,
            reference=actions.reference_of(row),
        )
    return said_of(invited.waits_until)


def _refresh(row: BulkRow, user: BuilderUser, gateway: Callable[[], Clerk]) -> tuple[str, ...]:
    """Read the account from Clerk, if the author may still refresh this user."""
    author = row.run.actor
    if Source(row.run.source) not in permissions.SYSTEM and (
        lacking := permissions.missing(author, OperationKind.REFRESH, user)
    ):
        raise NotAllowed(permissions.explain(lacking))
    transfer.refresh(user, gateway=gateway)
    return ()


def _moved_here(conflict: Conflict) -> str:
    by = f", by {conflict.who}" if conflict.who else ""
    moved_groups = [one for one in conflict.conflicts if one.field == "builder_group"]
    groups = group_names([str(one.theirs) for one in moved_groups if one.theirs])
    now = "; ".join(
        f"{moved.field.replace('_', ' ')} is "
        f"{groups.get(str(moved.theirs), moved.theirs) or 'empty'} now"
        for moved in conflict.conflicts
    )
    return f"It changed since the plan was made{by}: {now}."


_EXPECTED_IN_CLERK: Mapping[str, tuple[int, ...]] = {
    OperationKind.PUSH_NAME: (0, 1),
    OperationKind.PUSH_EMAIL: (0, 1),
    OperationKind.FOLLOW: (1,),
}
"""Index of the value that Clerk must hold, before (0) or after (1).

A push may have reached Clerk in an earlier try.
"""


def _moved_in_clerk(row: BulkRow) -> str:
    """Return what changed in Clerk since the plan, by the mirror; empty if nothing did.

    A push is compared again under the row's lock.
    """
    expected = _EXPECTED_IN_CLERK.get(row.operation)
    if expected is None:
        return ""
    known = ClerkAccount.objects.filter(pk=row.clerk_id).first()
    if known is None or known.deleted_at:
        return _("Its account was deleted in Clerk since the plan was made.")
    holds = {"name": names.join(known.first_name, known.last_name), "email": known.email}
    moved = [
        field
        for field, change in row.changes.items()
        if not any(same(field, change[index], holds[field]) for index in expected)
    ]
    return f"Clerk holds another {moved[0]} than when the plan was made." if moved else ""
