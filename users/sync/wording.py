"""What a person is told. Each message says what happened in Clerk, what happened here and what
to do next; the first sentences are those that staff know from the application before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from users.errors import (
    ChangeFailed,
    ClerkDenied,
    ClerkError,
    ClerkNotConfigured,
    ClerkNotFound,
    ClerkRateLimited,
    ClerkUnknown,
    ClerkUnreachable,
    NotKnown,
    NotSaved,
    Problem,
    Refused,
    Waiting,
)
from users.models import SyncAttempt
from users.sync import pending
from users.sync.actors import name_of

FAILED_TO_SYNC = "Failed to sync with Clerk authentication system."

PARAM_FIELDS: Mapping[str, str] = {
    "first_name": "name",
    "last_name": "name",
    "name": "name",
    "email_address": "email",
    "identifier": "email",
    "password": "password1",
}
"""Clerk's `meta.param_name` → the field of our forms that stands for it."""

CODE_FIELDS: Mapping[str, str] = {
    "delete_linked_identification_disallowed": "email",
    "duplicate_record": "email",
    "invitations_not_supported": "email",
}
"""Clerk's codes that are about one field without naming it."""

CODE_WORDS: Mapping[str, str] = {
    "delete_linked_identification_disallowed": (
        "The old address belongs to a Google sign-in or the like, so Clerk keeps it. The person "
        "removes that connection first, or is invited to the new address."
    ),
    "duplicate_record": (
        "Clerk has a pending invitation to this address already. Revoke that one first."
    ),
    "invitation_already_accepted": (
        "The invitation was accepted already. The new account is linked as soon as Clerk's event "
        "arrives."
    ),
    "invitations_not_supported": "This Clerk instance does not sign people in by email.",
    "unsupported_subscription_plan_features": (
        "The plan of this Clerk instance does not include it."
    ),
}
"""What Clerk's codes mean for staff, where its own text does not say what to do."""


def refused(error: ClerkError) -> ChangeFailed:
    """Clerk changed nothing: what the form says, at its field where Clerk names one."""
    message, fields = _refusal(error)
    not_told = ClerkUnreachable | ClerkNotConfigured | ClerkUnknown
    wanted = NotSaved if isinstance(error, not_told) else Refused
    return wanted(
        message,
        code=error.code,
        fields=fields,
        trace_id=error.trace_id,
        retry_after=error.retry_after if isinstance(error, ClerkRateLimited) else None,
    )


def _refusal(error: ClerkError) -> tuple[str, dict[str, list[str]]]:
    match error:
        case ClerkNotConfigured():
            return (
                f"{error.summary.rstrip('.')}. Clerk was not asked and nothing was saved. "
                "Ask an engineer to set CLERK_SECRET_KEY, then save again.",
                {},
            )
        case ClerkUnreachable():
            return (
                "Failed to connect to authentication system. Please try again. "
                "Clerk was not reached and nothing was saved.",
                {},
            )
        case ClerkUnknown():  # of a read: a write that ends so is read back
            return (
                f"{FAILED_TO_SYNC} {_sentence(error)} Clerk was not told of any change and "
                "nothing was saved. Try again.",
                {},
            )
        case ClerkNotFound():
            return (
                "User not found in Clerk. They may have been deleted. Nothing was saved. "
                "An engineer can unlink the user, or you can delete them here.",
                {},
            )
        case ClerkRateLimited():
            return (
                f"{FAILED_TO_SYNC} It is answering too many requests and did not take the "
                f"change; nothing was saved. Save again in {max(1, round(error.retry_after))} "
                "seconds.",
                {},
            )
        case ClerkDenied():
            return (
                f"{FAILED_TO_SYNC} Clerk does not allow it{_reasons(error)} Nothing was saved. "
                "Ask an engineer to look at the Clerk key and plan.",
                {},
            )
        case _:
            return _invalid(error)


def _invalid(error: ClerkError) -> tuple[str, dict[str, list[str]]]:
    fields: dict[str, list[str]] = {}
    others: list[str] = []
    for problem in error.problems:
        field = PARAM_FIELDS.get(problem.param or "") or CODE_FIELDS.get(problem.code)
        if field:
            fields.setdefault(field, []).append(f"Invalid update data: {_words(problem)}")
        else:
            others.append(_words(problem))
    if fields and not others:
        return "Clerk refused the change. Nothing was saved; correct it and save again.", fields
    reasons = " ".join(others) or f"Clerk answered {error.status} without a reason."
    return (
        f"Invalid update data: {reasons} Clerk refused the change and nothing was saved. "
        "Correct it and save again.",
        fields,
    )


def _reasons(error: ClerkError) -> str:
    reasons = " ".join(_words(problem) for problem in error.problems)
    return f": {reasons}" if reasons else "."


def _words(problem: Problem) -> str:
    return " ".join(filter(None, [problem.message, CODE_WORDS.get(problem.code)]))


def not_known(error: ClerkUnknown, attempt: SyncAttempt, why: str = "") -> NotKnown:
    """Say that the outcome is unknown, and when it is looked at again."""
    reason = f" {why}" if why else ""
    return NotKnown(
        f"{FAILED_TO_SYNC} {_sentence(error)}{reason} Clerk has not confirmed this yet. It is "
        f"checked again at {at(attempt.late_until)}; nothing is lost. Repeating the "
        "same is safe.",
        code=error.code,
        trace_id=error.trace_id,
    )


def commit_failed(attempt: SyncAttempt) -> NotKnown:
    """Say that Clerk has the change, and that the database failed after that."""
    return NotKnown(
        "Clerk has the change, but the database did not confirm it. Whether it was saved here is "
        f"checked again at {at(attempt.late_until)}; nothing is lost.",
        code="database",
    )


def must_wait(earlier: SyncAttempt) -> Waiting:
    """Say which earlier change another value must wait for, and until when."""
    who = name_of(earlier.actor) if earlier.actor else str(earlier.get_source_display())
    named = f"“{earlier.get_operation_display()}” by {who} at {earlier.started_at:%H:%M:%S} UTC"
    if pending.is_over(earlier):
        return Waiting(
            f"An earlier change of this user ({named}) is not settled yet: {earlier.message} "
            "Nothing was saved now. Settle that change first."
        )
    return Waiting(
        f"An earlier change of this user ({named}) is not confirmed by Clerk yet, and may still "
        f"arrive there until {at(earlier.late_until)}. Nothing was saved now: save again after "
        "that.",
        until=earlier.late_until,
    )


def unproven(late_until: datetime | None) -> str:
    """Say that it will never be known whether Clerk took a password."""
    return (
        "Clerk cannot tell whether it took this password. It was not confirmed in time. Set it "
        f"again after {at(late_until)}."
    )


def at(moment: datetime | None) -> str:
    """A time of day as messages say it."""
    return f"{moment:%H:%M:%S} UTC" if moment else "once Clerk answers"


def _sentence(error: ClerkError) -> str:
    return f"{error.summary.rstrip('.')}."
