"""Resolve pending attempts by what Clerk has, which decides them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction
from django.utils.translation import gettext as _

from users.clerk import ClerkUser, Deadline, clerk
from users.errors import (
    Busy,
    ChangeFailed,
    ClerkError,
    ClerkInvalidId,
    Gone,
    NotAllowed,
    NotKnown,
    NotSaved,
    Refused,
)
from users.models import BuilderUser, Source, Status, SyncAttempt
from users.sync import messages
from users.sync.access import permissions
from users.sync.actors import Actor, name_of
from users.sync.display import field_word, joined
from users.sync.inbound import reconcile
from users.sync.operations import (
    CreateAccount,
    Invite,
    Operation,
    Seen,
    Verdict,
    from_attempt,
)
from users.sync.operations.following import Follow, values_from
from users.sync.outbound import constraints, journal, locks, pending, repeats, revocation
from users.sync.outbound.completion import complete
from users.sync.outbound.exchange import (
    InTheWay,
    Taken,
    exchange,
    explain,
    refusal_of,
    take_clerks_values,
)
from users.version import value_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecoveryResult:
    """Result of one recovery. `message` says how the attempt ended, or why it is pending."""

    attempt: SyncAttempt
    outcome: Status
    message: str

    @property
    def resolved(self) -> bool:
        """Tell whether the attempt is no longer pending."""
        return self.outcome != Status.STARTED


class StaysPending(Exception):
    """The attempt cannot be decided yet; the text says why."""


class _SendAgain(Exception):
    """Clerk does not have the change, and no sent request can still arrive: send it again."""

    def __init__(self, row: BuilderUser, account: ClerkUser) -> None:
        super().__init__()
        self.row = row
        self.account = account


def recover_all() -> Iterator[RecoveryResult]:
    """Resolve every pending attempt that can be resolved, oldest first.

    Changes that may be sent again are sent again. A save that is still running is left alone. An
    attempt that cannot be recovered does not stop the others.
    """
    for attempt in SyncAttempt.objects.pending().order_by("id"):
        yield recover(attempt, send_again=True)


def recover_user(
    user_id: uuid.UUID,
    *,
    apart_from: SyncAttempt | None = None,
    deadline: Deadline | None = None,
    send_again: bool = False,
) -> list[RecoveryResult]:
    """Resolve the pending attempts of one user, oldest first.

    All of them share one deadline.
    """
    deadline = deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
    return [
        recover(attempt, deadline=deadline, send_again=send_again)
        for attempt in pending.in_flight(user_id, apart_from=apart_from)
        if attempt.pending
    ]


def recover(
    attempt: SyncAttempt, *, deadline: Deadline | None = None, send_again: bool = False
) -> RecoveryResult:
    """Resolve one attempt by what Clerk has. Two recoveries at the same time do it once.

    1. Lock the row, then the attempt. If either lock is held, the save is still running.
    2. Read Clerk. If Clerk has the change, finish the row. If Clerk does not have it and no request
       can still arrive, abandon the attempt; with `send_again`, send it again if that is safe.
    3. In all other cases the attempt stays pending, and the result says why.
    """
    deadline = deadline or Deadline(settings.CLERK_EDIT_DEADLINE)
    try:
        return _recover(attempt, deadline, send_again)
    except Busy as busy:
        return RecoveryResult(attempt, Status.STARTED, busy.message)
    except StaysPending as reason:
        message = str(reason)
    except (IntegrityError, Refused) as error:
        refusal = error if isinstance(error, Refused) else constraints.refusal(error)
        reasons = " ".join(chain.from_iterable(refusal.fields.values())) or refusal.message
        message = _(
            "Clerk has the change, but the database cannot take it: {reasons} Change that first "
            "and check again, or discard this change."
        ).format(reasons=reasons)
    except Exception as error:
        # A trigger, a lost connection, or an unreadable record: the next attempt may succeed.
        logger.exception("Attempt %s could not be recovered", attempt.pk)
        message = _("It could not be recovered ({error}). The log says why.").format(
            error=type(error).__name__
        )
    with suppress(DatabaseError):
        journal.leave_pending(attempt, error_code="not_known", message=message)
    return RecoveryResult(attempt, Status.STARTED, message)


def _recover(attempt: SyncAttempt, deadline: Deadline, send_again: bool) -> RecoveryResult:
    operation = from_attempt(attempt)
    try:
        with transaction.atomic(durable=True):
            row = _lock(operation, deadline)
            if not locks.lock_attempt(attempt):
                return _meanwhile(attempt)
            # Before Clerk is read: a request could arrive between the read and this question.
            over = pending.is_over(attempt)
            seen = _look(operation, deadline)
            shown = seen.verdict is Verdict.HAS_IT
            if shown and (ended := _end_ownerless(operation, row, deadline)):
                return _end(attempt, Status.DROPPED, ended)
            return resolve(operation, row, attempt, seen, over=over, send_again=send_again)
    except _SendAgain as again:
        return _send_again(operation, attempt, again, deadline)


def _lock(operation: Operation, deadline: Deadline) -> BuilderUser | None:
    wait = deadline.remaining()
    if operation.user_id is None:
        locks.prepare_transaction(wait=wait)
        return None
    try:
        return locks.lock_user(operation.user_id, wait=wait)
    except Gone:
        return None


def _meanwhile(attempt: SyncAttempt) -> RecoveryResult:
    """Return the result for an attempt that another process has resolved or locked."""
    attempt.refresh_from_db()
    message = _("It is being saved right now.") if attempt.pending else attempt.message
    return RecoveryResult(attempt, Status(attempt.status), message or _("It is saved."))


def _look(operation: Operation, deadline: Deadline) -> Seen:
    try:
        return operation.look(clerk(), deadline)
    except ClerkInvalidId:
        return Seen(Verdict.HAS_NOT, why=_("Its Clerk id is not valid, so Clerk was never asked."))
    except ClerkError as error:
        raise StaysPending(
            _("Clerk could not be read: {problem}.").format(problem=error.summary)
        ) from None


def _end_ownerless(operation: Operation, row: BuilderUser | None, deadline: Deadline) -> str:
    """Revoke the invitations that no user would own after the change.

    Returns how the change ends if its row is gone, so that nothing is left to finish; else "".
    """
    ends = []
    for invitation_id, email in operation.ownerless(row).items():
        try:
            revoked = revocation.close(invitation_id, deadline)
        except ClerkError as error:
            raise StaysPending(
                _(
                    "Nobody here owns the invitation to {email}, and it could not be revoked: "
                    "{problem}."
                ).format(email=email, problem=error.summary)
            ) from None
        ends.append(
            _("the invitation to {email} was revoked").format(email=email)
            if revoked
            else _(
                "the invitation to {email} was accepted before it could be revoked. Its account "
                "has no user here"
            ).format(email=email)
        )
    if row is not None or not ends:
        return ""
    return _("This user was deleted here since: {ends}.").format(ends=joined(ends))


# --- The decision ----------------------------------------------------------------------------


def resolve(
    operation: Operation,
    row: BuilderUser | None,
    attempt: SyncAttempt,
    seen: Seen,
    *,
    over: bool,
    send_again: bool = False,
) -> RecoveryResult:
    """Resolve an attempt by what Clerk shows, in the transaction that holds both locks.

    `over` says that none of its requests could still arrive when Clerk was read. Raises
    `StaysPending` if it cannot be decided.
    """
    seen = operation.proven(seen)
    if seen.verdict is Verdict.HAS_IT:
        return _apply(operation, row, attempt, seen)
    if not over:
        until = messages.at(attempt.late_until)
        why = seen.why or _("Clerk does not have the change yet.")
        raise StaysPending(
            _("{why} Clerk may still take it; it is checked again at {until}.").format(
                why=why, until=until
            )
        )
    if seen.verdict is Verdict.CANNOT_TELL and operation.unprovable:
        return _end(attempt, Status.UNPROVEN, messages.unproven(attempt.late_until))
    if seen.verdict is Verdict.CANNOT_TELL:
        raise StaysPending(seen.why)
    return _give_up(operation, row, attempt, seen, send_again=send_again)


def _give_up(
    operation: Operation,
    row: BuilderUser | None,
    attempt: SyncAttempt,
    seen: Seen,
    *,
    send_again: bool,
) -> RecoveryResult:
    """Abandon a change that Clerk does not have and will not get.

    Raises `_SendAgain` if it may be sent again.
    """
    moved = _moved_here(operation, row)
    may_be_sent = send_again and operation.sent_again and pending.tries_of(attempt) < pending.TRIES
    if may_be_sent and not moved and row is not None and seen.account is not None:
        raise _SendAgain(row, seen.account)
    if seen.account is not None:
        reconcile.take(seen.account)
    why = seen.why or (
        _("This user was changed here since ({moved}).").format(moved=moved) if moved else ""
    )
    message = (
        _("Clerk does not have the change, so it was not saved here. {why}")
        .format(why=why)
        .rstrip()
    )
    return _end(attempt, Status.DROPPED, message, error_code="recovered")


def _apply(
    operation: Operation, row: BuilderUser | None, attempt: SyncAttempt, seen: Seen
) -> RecoveryResult:
    """Finish a change that Clerk has: write the row, and resolve the attempt.

    Raises `StaysPending` if the row was changed since, or an invitation would have no owner.
    """
    if moved := _moved_here(operation, row):
        ways = (
            _("Use Clerk's version and discard this change, or save what you want again.")
            if row is not None and row.linked
            else _("Discard this change, or save the earlier values again.")
        )
        raise StaysPending(
            _(
                "Clerk has the change, but this user was changed here since ({moved}), so it was "
                "not finished. {ways}"
            ).format(moved=moved, ways=ways)
        )
    if ownerless := operation.ownerless(row):
        raise StaysPending(
            _("The invitation to {emails} is still open.").format(
                emails=joined(list(ownerless.values()))
            )
        )
    # Two processes that died may have sent the same change. Both attempts end with one LogEntry.
    same = _same_again(operation, attempt)
    written = None
    if row is not None or operation.creates_row:
        written = _finish(operation, row)
    complete(
        operation,
        written,
        seen.account,
        attempt,
        still_late=not pending.has_landed(operation, attempt),
        unseen=pending.has_author(attempt),
    )
    pending.supersede(same, attempt, Status.APPLIED)
    logger.info("Recovery found attempt %s in Clerk", attempt.pk)
    said = (
        _("Clerk has the change; it is saved here.")
        if written is not None
        else _("Clerk has the change.")
    )
    return RecoveryResult(attempt, Status.APPLIED, said)


def _same_again(operation: Operation, attempt: SyncAttempt) -> list[SyncAttempt]:
    if operation.user_id is None:
        return []
    others = pending.in_flight(operation.user_id, apart_from=attempt)
    return [other for other in pending.same_again(operation, others) if locks.lock_attempt(other)]


def _moved_here(operation: Operation, row: BuilderUser | None) -> str:
    """Name the fields of the row that hold neither the value before the change nor the wanted one.

    Somebody else changed them, so a person must decide. The save looks for the same conflicts.
    """
    if row is None or operation.creates_row or operation.written(row):
        return ""
    return ", ".join(
        field_word(field)
        for field in operation.moved_fields(row)
        if field not in operation.changes or value_of(row, field) != operation.changes[field].after
    )


def _finish(operation: Operation, row: BuilderUser | None) -> BuilderUser | None:
    """Write the row as the save would have, unless it holds the change already."""
    if row is None:
        return constraints.write(operation, operation.new_row())
    if operation.creates_row or operation.written(row):
        return row
    return constraints.write(operation, row)


def _end(
    attempt: SyncAttempt, status: Status, message: str, *, error_code: str = ""
) -> RecoveryResult:
    journal.resolve(
        attempt, status, error_code=error_code, message=message, unseen=pending.has_author(attempt)
    )
    logger.info("Recovery resolved attempt %s as %s", attempt.pk, status)
    return RecoveryResult(attempt, status, message)


# --- Sending again ---------------------------------------------------------------------------


def _send_again(
    operation: Operation, attempt: SyncAttempt, again: _SendAgain, deadline: Deadline
) -> RecoveryResult:
    """Send a change again that Clerk does not have, as the save did the first time.

    The permissions count that its author has now, for the user as stored now.
    """
    if not pending.is_due_again(attempt):
        raise StaysPending(
            _("Clerk does not have the change yet. It is sent again in some minutes.")
        )
    if not journal.record_sending_again(attempt, deadline):
        return _meanwhile(attempt)
    operation = from_attempt(attempt)
    operation.build_on(again.account)

    def authorize(row: BuilderUser) -> None:
        actor, source = attempt.actor, Source(attempt.source)
        permissions.require(operation, row, actor=actor, source=source)

    try:
        exchange(
            operation, again.row, attempt,
            base=None, gateway=clerk, deadline=deadline, authorize=authorize,
        )  # fmt: skip
    except InTheWay as blocked:
        raise StaysPending(messages.must_wait(blocked.attempts[0]).message) from None
    except ClerkError as error:
        failure = refusal_of(operation, error, clerk, deadline)
        if isinstance(failure, NotSaved) or failure.retry_after is not None:
            raise StaysPending(
                _("It could not be sent again. {why}").format(why=failure.message)
            ) from None
        explain(operation, failure)
        return _end(attempt, Status.REFUSED, failure.full_message, error_code=failure.code)
    except NotAllowed as failure:
        message = _("It was not sent again. {why}").format(why=failure.full_message)
        return _end(attempt, Status.REFUSED, message, error_code=failure.code)
    except NotKnown as failure:
        raise StaysPending(failure.message) from None
    except ChangeFailed as failure:
        raise StaysPending(
            _("It could not be sent again. {why}").format(why=failure.full_message)
        ) from None
    SyncAttempt.objects.filter(pk=attempt.pk).update(unseen=pending.has_author(attempt))
    return RecoveryResult(attempt, Status.APPLIED, _("It was sent again, and Clerk has it now."))


# --- A person decides ------------------------------------------------------------------------


@dataclass(frozen=True)
class Accepted:
    """Result of a decision for Clerk's version.

    `row` is the user as stored now. `taken` is what it took from its account, None without one.
    """

    row: BuilderUser
    taken: Taken | None


def accept_clerks_version(
    user: BuilderUser,
    *,
    actor: Actor,
    source: Source = Source.ADMIN,
    token: uuid.UUID | None = None,
) -> Accepted:
    """Accept Clerk's version of a user, and abandon its pending attempts.

    This is how a person decides what recovery cannot. Clerk is read under the lock, so that no save
    comes in between. A second call with the same `token` waits for the first, and then has nothing
    left to do.

    Raises `NotAllowed` for changes that the actor may not make, `Waiting` while a request may still
    arrive, `Busy`, `Gone`, and the failure that `messages.refused` returns for a `ClerkError`.
    """
    permissions.authorize(Follow.on(user, {}), user, actor=actor, source=source)
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    with transaction.atomic(durable=True):
        if token:
            repeats.wait_for_turn(token, deadline)
        row = locks.lock_user(user.pk, wait=deadline.remaining())
        attempts = [one for one in pending.in_flight(user.pk) if one.pending]
        permissions.require_to_discard(map(from_attempt, attempts), row, actor=actor, source=source)
        if late := [one for one in attempts if not pending.is_over(one)]:
            raise messages.must_wait(late[-1])
        account = _read(row, deadline) if row.linked else None
        taken = None
        for attempt in attempts:
            if locks.lock_attempt(attempt):
                who = name_of(actor) or source.label
                how = (
                    _("{who} used Clerk's version and discarded this change.")
                    if row.linked
                    else _("{who} discarded this change.")
                )
                left = _what_is_left_of(from_attempt(attempt), deadline)
                message = f"{how.format(who=who)} {left}".rstrip()
                journal.resolve(
                    attempt, Status.DROPPED, error_code="taken_over", message=message,
                    unseen=pending.has_author(attempt) and attempt.actor != actor,
                )  # fmt: skip
        if account is not None:
            values = values_from(row, account)
            wanted = Follow.on(row, values.changes)
            permissions.require(wanted, row, actor=actor, source=source)
            taken = take_clerks_values(values, row, actor=actor, source=source)
            reconcile.take(account, source=source)
    return Accepted(row, taken)


def _what_is_left_of(operation: Operation, deadline: Deadline) -> str:
    """Say what a discarded change leaves in Clerk, or "".

    An invitation is revoked, as nobody here would own it. An account stays.
    """
    if not isinstance(operation, Invite | CreateAccount):
        return ""
    said = []
    try:
        seen = operation.look(clerk(), deadline)
        if isinstance(operation, CreateAccount) and seen.account is not None:
            said.append(
                _("The account {account} with {email} stays in Clerk.").format(
                    account=seen.account.id, email=operation.email
                )
            )
        for invitation_id, email in operation.ownerless(None).items():
            revoked = revocation.close(invitation_id, deadline)
            end = (
                _("The invitation to {email} was revoked.")
                if revoked
                else _("The invitation to {email} was accepted.")
            )
            said.append(end.format(email=email))
    except ClerkError as error:
        raise messages.refused(error) from None
    return " ".join(said)


def _read(row: BuilderUser, deadline: Deadline) -> ClerkUser:
    try:
        return clerk().get_user(row.account_id, deadline=deadline)
    except ClerkError as error:
        raise messages.refused(error) from None
