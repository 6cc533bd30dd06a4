"""What a person is told. Each message says what happened in Clerk, what happened here and what
to do next; the first sentences are those that staff know from the application before."""

from __future__ import annotations

from collections.abc import Mapping

from users.errors import (
    ChangeFailed,
    ClerkDenied,
    ClerkError,
    ClerkInvalidId,
    ClerkNotConfigured,
    ClerkNotFound,
    ClerkRateLimited,
    ClerkRefused,
    ClerkUnknown,
    ClerkUnreachable,
    NotKnown,
    NotSaved,
    Problem,
    Refused,
)

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
        case ClerkInvalidId():
            return (
                "The stored Clerk id is not a valid Clerk id, so Clerk was not asked and nothing "
                "was saved. Unlink the user to clear the id.",
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


def not_saved(error: ClerkUnknown) -> NotSaved:
    """The outcome was unknown, and Clerk read back does not have the change."""
    return NotSaved(
        f"{FAILED_TO_SYNC} {_sentence(error)} Clerk was asked again and does not have the "
        "change, so it was not saved here. Save again.",
        code=error.code,
        trace_id=error.trace_id,
    )


def not_known(error: ClerkUnknown, why: str = "") -> NotKnown:
    """The outcome is unknown, and Clerk could not tell."""
    return NotKnown(
        f"{FAILED_TO_SYNC} {_sentence(error)} {why or 'Clerk could not be asked again either.'} "
        "So it is not known yet whether Clerk has the change. The database was not changed. "
        "It is settled as soon as Clerk answers; “Check with Clerk now” does it at once.",
        code=error.code,
        trace_id=error.trace_id,
    )


def commit_failed() -> NotKnown:
    """Clerk has the change; the database failed after that."""
    return NotKnown(
        "Clerk has the change, but the database did not confirm it. It is not known yet "
        "whether it was saved here. It is finished as soon as the database answers; "
        "“Check with Clerk now” does it at once.",
        code="database",
    )


def _sentence(error: ClerkError) -> str:
    return f"{error.summary.rstrip('.')}."


def is_refusal(error: ClerkError) -> bool:
    """Whether nothing changed in Clerk, for certain."""
    return isinstance(error, ClerkRefused | ClerkInvalidId | ClerkNotConfigured | ClerkUnreachable)
