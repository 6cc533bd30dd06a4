"""Write the messages that people read about a change.

Each message says what happened in Clerk, what happened here and what to do next. The first
sentences are those that staff know from the earlier application.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from math import ceil
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from users.errors import (
    BusyInClerk,
    ChangeFailed,
    ClerkBusy,
    ClerkDenied,
    ClerkDeniedToAll,
    ClerkEmailTaken,
    ClerkError,
    ClerkInvalidId,
    ClerkInvitationAccepted,
    ClerkNotConfigured,
    ClerkNotFound,
    ClerkRateLimited,
    ClerkUnknown,
    ClerkUnreachable,
    Denied,
    EmailTaken,
    InvitationAccepted,
    NotAllowed,
    NotConfigured,
    NotFoundInClerk,
    NotKnown,
    NotSaved,
    NotStored,
    Problem,
    Refused,
    SessionEnded,
    Waiting,
)
from users.models import ClerkAccount, OperationKind, SyncAttempt
from users.sync.actors import author_of
from users.sync.display import time_text
from users.sync.mirror.sign_in_address import block_of
from users.sync.outbound import pending

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

FAILED_TO_SYNC = gettext_lazy("Failed to sync with Clerk authentication system.")
INVALID = gettext_lazy("Invalid update data:")

PARAM_FIELDS: Mapping[str, str] = {
    "first_name": "name",
    "last_name": "name",
    "name": "name",
    "email_address": "email",
    "identifier": "email",
    "password": "password1",
}
"""Clerk's `meta.param_name` → the field of our forms that stands for it."""

_PARAM = re.compile(rf"\b({'|'.join(param for param in PARAM_FIELDS if '_' in param)})\b")
"""Finds the name of a Clerk parameter in a text. Names without "_" are ordinary words."""

CODE_FIELDS: Mapping[str, str] = {
    "delete_linked_identification_disallowed": "email",
    "duplicate_record": "email",
    "form_identifier_exists": "email",
    "invitations_not_supported": "email",
}
"""Clerk's codes that are about one field without naming it."""

_BOTH_NAMES = gettext_lazy(
    "Clerk wants a first and a last name. Type both, with a space between them."
)

FIELD_WORDS: Mapping[tuple[str, str], StrOrPromise] = {
    ("name", "form_param_unknown"): (
        gettext_lazy(
            "Names are switched off in this Clerk instance. An engineer can switch them on in "
            "Clerk's dashboard."
        )
    ),
    ("name", "form_param_nil"): _BOTH_NAMES,
    ("name", "form_param_missing"): _BOTH_NAMES,
    ("name", "form_data_missing"): _BOTH_NAMES,
}
"""Our field and Clerk's code → the text that replaces Clerk's."""

CODE_WORDS: Mapping[str, StrOrPromise] = {
    "delete_linked_identification_disallowed": (
        gettext_lazy(
            "The old address belongs to a Google sign-in or the like, so Clerk keeps it. The "
            "person removes that connection first, or is invited to the new address."
        )
    ),
    "duplicate_record": (
        gettext_lazy(
            "Clerk has a pending invitation to this address already. Revoke that one first."
        )
    ),
    "form_param_unknown": gettext_lazy(
        "This Clerk instance does not accept this field. Ask an engineer."
    ),
    "invitation_already_accepted": (
        gettext_lazy(
            "The invitation was accepted already. The new account is linked as soon as Clerk's "
            "event arrives."
        )
    ),
    "invitations_not_supported": (
        gettext_lazy(
            "This Clerk instance does not sign people in by email. An engineer can switch this on "
            "in Clerk's dashboard."
        )
    ),
}
"""Clerk's code → what it means for staff. This follows Clerk's own text."""

NOT_CORRECTABLE = frozenset(CODE_WORDS)
"""Codes that a correction in the form cannot fix."""

_BUSY = gettext_lazy("Clerk is busy with another change of this user. Save again in a moment.")
_KEY = gettext_lazy(
    "Clerk does not accept this application's key. Ask an engineer to check CLERK_SECRET_KEY."
)
_PLAN = gettext_lazy(
    "The plan of this Clerk instance does not include this. Ask an engineer whether the plan can "
    "be changed."
)
_SCIM = gettext_lazy(
    "A company directory (SCIM) manages this user in Clerk. Ask the administrator of that "
    "directory to make the change there."
)
_TOO_LARGE = gettext_lazy("The change is too large for Clerk. Shorten the text and save again.")

MEANINGS: Mapping[str, StrOrPromise] = {
    "attribute_managed_by_scim": _SCIM,
    "authentication_invalid": _KEY,
    "authorization_header_format_invalid": _KEY,
    "authorization_invalid": (
        gettext_lazy(
            "This application's key is not allowed to do this in Clerk. Ask an engineer to check "
            "CLERK_SECRET_KEY."
        )
    ),
    "clerk_key_invalid": _KEY,
    "conflict": _BUSY,
    "could_not_authenticate_request": _KEY,
    "feature_not_enabled": (
        gettext_lazy(
            "This feature is switched off in this Clerk instance. An engineer can switch it on in "
            "Clerk's dashboard."
        )
    ),
    "not_allowed_access": (
        gettext_lazy(
            "This Clerk instance does not admit the email address: its allowlist, its blocklist or "
            "its rule about “+” in addresses excludes the address. An engineer can change these "
            "restrictions in Clerk's dashboard."
        )
    ),
    "quota_exceeded": (
        gettext_lazy(
            "This Clerk instance has used up what its plan allows. Ask an engineer whether the "
            "plan can be changed."
        )
    ),
    "request_body_too_large": _TOO_LARGE,
    "resource_locked": _BUSY,
    "unsupported_subscription_plan_features": _PLAN,
    "user_managed_by_scim": _SCIM,
    "user_quota_exceeded": (
        gettext_lazy(
            "This Clerk instance has as many users as its plan allows. Ask an engineer whether the "
            "plan can be changed."
        )
    ),
}
"""Codes that do not concern the typed values → what they mean and who can fix it."""

STATUS_MEANINGS: Mapping[int, StrOrPromise] = {401: _KEY, 402: _PLAN, 413: _TOO_LARGE}
"""The same by HTTP status, for codes that are not listed."""


def refused(error: ClerkError, *, typed: bool = False) -> ChangeFailed:
    """Turn an error of Clerk into the failure that the form shows.

    Use it only if Clerk changed nothing. If the change brings values that somebody `typed`, a
    problem with one is shown at the field that Clerk names.
    """
    message, fields = _refusal(error, typed)
    return _class_of(error)(
        message,
        code=error.code,
        fields=fields,
        trace_id=error.trace_id,
        retry_after=error.retry_after,
    )


def _class_of(error: ClerkError) -> type[ChangeFailed]:
    match error:
        case ClerkNotConfigured():
            return NotConfigured
        case ClerkUnreachable() | ClerkUnknown():
            return NotSaved
        case ClerkNotFound():
            return NotFoundInClerk
        case ClerkEmailTaken():
            return EmailTaken
        case ClerkDeniedToAll():
            return Denied
        case ClerkBusy():
            return BusyInClerk
        case ClerkInvitationAccepted():
            return InvitationAccepted
        case _:
            return Refused


def _refusal(error: ClerkError, typed: bool) -> tuple[str, dict[str, list[str]]]:
    match error:
        case ClerkNotConfigured():
            return (
                _sentence(error)
                + " "
                + _(
                    "Clerk was not asked and nothing was saved. Ask an engineer to set "
                    "CLERK_SECRET_KEY, then save again."
                ),
                {},
            )
        case ClerkInvalidId():
            return (
                _(
                    "The stored Clerk id is not a valid Clerk id, so Clerk was not asked and "
                    "nothing was saved. Unlink the user to clear the id."
                ),
                {},
            )
        case ClerkUnreachable():
            return (
                _(
                    "Failed to connect to authentication system. Please try again. "
                    "Clerk was not reached and nothing was saved."
                ),
                {},
            )
        case ClerkUnknown():  # only of a read: after a write, Clerk is read back
            return (
                f"{FAILED_TO_SYNC} {_sentence(error)} "
                + _("Clerk was not told of any change and nothing was saved. Try again."),
                {},
            )
        case ClerkNotFound():
            return (
                _(
                    "User not found in Clerk. They may have been deleted. Nothing was saved. "
                    "Ask an engineer whether this application uses the right Clerk instance before "
                    "you disconnect or delete this user."
                ),
                {},
            )
        case ClerkRateLimited():
            return (
                " ".join(
                    [
                        str(FAILED_TO_SYNC),
                        _("Clerk is answering too many requests and did not take the change."),
                        _("Nothing was saved."),
                        _when_to_save_again(error.retry_after or 1.0),
                    ]
                ),
                {},
            )
        case _ if meaning := _meaning(error):
            return " ".join([str(FAILED_TO_SYNC), _("Nothing was saved."), meaning]), {}
        case _ if typed:
            return _invalid(error)
        case _:
            reasons = dict.fromkeys(map(_words, error.problems))
            return " ".join([str(FAILED_TO_SYNC), *reasons, _("Clerk refused the change.")]), {}


def _when_to_save_again(seconds: float) -> str:
    if seconds > 3600:
        return _("Clerk asks to wait more than an hour. Save again later.")
    if seconds > 90:
        minutes = ceil(seconds / 60)
        return ngettext(
            "Save again in {count} minute.", "Save again in {count} minutes.", minutes
        ).format(count=minutes)
    count = max(1, ceil(seconds))
    return ngettext(
        "Save again in {count} second.", "Save again in {count} seconds.", count
    ).format(count=count)


def _meaning(error: ClerkError) -> str:
    """Return the meaning of a refusal that does not concern the typed values; else ""."""
    known = [str(MEANINGS.get(problem.code, "")) for problem in error.problems]
    if known and all(known):
        return " ".join(dict.fromkeys(known))
    if by_status := STATUS_MEANINGS.get(error.status or 0):
        return str(by_status)
    if not isinstance(error, ClerkDenied):
        return ""
    reasons = " ".join(_words(problem) for problem in error.problems)
    return _(
        "Clerk does not allow this: {reasons} Ask an engineer to look at the Clerk key and plan."
    ).format(reasons=reasons)


def _invalid(error: ClerkError) -> tuple[str, dict[str, list[str]]]:
    fields: dict[str, list[str]] = {}
    others: list[str] = []
    for problem in error.problems:
        field, words = _field(problem), f"{INVALID} {_words(problem)}"
        said = fields.setdefault(field, []) if field else others
        if words not in said:
            said.append(words)
    correctable = any(problem.code not in NOT_CORRECTABLE for problem in error.problems)
    ending = _("Clerk refused the change. Nothing was saved.")
    if correctable:
        ending += " " + _("Correct the data and save again.")
    return " ".join([*others, ending]), fields


def _field(problem: Problem) -> str:
    """Return the field of our forms that a problem concerns, "" for none.

    Clerk does not always send the name of its parameter. Then the name is taken from Clerk's text;
    it only decides where the text is shown.
    """
    in_text = _PARAM.search(problem.message)
    param = problem.param or (in_text[0] if in_text else "")
    return PARAM_FIELDS.get(param) or CODE_FIELDS.get(problem.code, "")


def _words(problem: Problem) -> str:
    if instead := FIELD_WORDS.get((_field(problem), problem.code)):
        return str(instead)
    meaning = CODE_WORDS.get(problem.code)
    return " ".join([_rephrased(problem.message), *([str(meaning)] if meaning else [])])


def _rephrased(text: str) -> str:
    """Return Clerk's text as a sentence, with our field names for Clerk's parameters."""
    ours = _PARAM.sub(lambda param: PARAM_FIELDS[param[0]], text)
    if _PARAM.match(text):
        ours = ours[0].upper() + ours[1:]
    return ours if ours.endswith((".", "!", "?")) else f"{ours}."


NOT_COMPARED = gettext_lazy("Passwords are not stored, so they cannot be compared.")


def not_known(
    error: ClerkUnknown, attempt: SyncAttempt, why: str = "", *, secret: bool = False
) -> NotKnown:
    """Return the failure for an unknown outcome; it says when Clerk is checked again.

    `why` is an additional sentence about the cause. A `secret` is not stored, so that a repeat
    cannot be recognized.
    """
    until = at(attempt.late_until)
    then = (
        [
            _("Clerk has not confirmed this yet. It is checked again at {when}.").format(
                when=until
            ),
            str(NOT_COMPARED),
            _("If the person cannot sign in with this one, set it again after {when}.").format(
                when=until
            ),
        ]
        if secret
        else [
            _(
                "Clerk has not confirmed this yet. It is checked again at {when}; nothing is lost."
            ).format(when=until),
            _("Repeating the same is safe."),
        ]
    )
    parts = [str(FAILED_TO_SYNC), _sentence(error), why]
    return NotKnown(
        " ".join(filter(None, [*parts, *then])),
        code=error.code,
        trace_id=error.trace_id,
        retry_after=error.retry_after,
    )


def part_that_failed(failed: str, unknown: str, failure: ChangeFailed) -> str:
    """Say that the last of several changes failed, or that its outcome is unknown.

    Each sentence has a place for `{why}`.
    """
    return (unknown if isinstance(failure, NotKnown) else failed).format(why=failure.message)


KEEPS_OUT: Mapping[str, tuple[StrOrPromise, StrOrPromise]] = {
    OperationKind.BAN: (
        gettext_lazy("Not banned yet: the person can still sign in."),
        gettext_lazy(
            "It is not known yet whether the person is banned: they may still be able to sign in."
        ),
    ),
    OperationKind.DELETE: (
        gettext_lazy("Not deleted yet: the person can still sign in."),
        gettext_lazy(
            "It is not known yet whether the person is deleted: they may still be able to sign in."
        ),
    ),
    OperationKind.SIGN_OUT: (
        gettext_lazy("Not signed out yet: the person may still be signed in."),
        gettext_lazy(
            "It is not known yet whether the person is signed out: they may still be signed in."
        ),
    ),
    OperationKind.END_SESSION: (
        gettext_lazy("Not signed out there yet: the person may still be signed in."),
        gettext_lazy(
            "It is not known yet whether the person is signed out there: they may still be signed "
            "in."
        ),
    ),
}
"""Kinds of change that keep a person out → what is said of the person if it failed, and while its
outcome is unknown."""


def sign_in_after(kind: OperationKind, account: ClerkAccount | None, failure: ChangeFailed) -> str:
    """Say what the failure of a change that was to keep a person out means for their sign-in.

    Return "" for other kinds of change, for one that Clerk has, and where nothing certain can be
    said: Clerk does not find the account, or by our mirror the person cannot sign in anyway.
    `account` is that mirror.

    Only a refusal, and a save that was given up, are certain. While somebody else saves or deletes
    the user, that change may keep the person out.
    """
    silent = NotAllowed | NotFoundInClerk | NotStored | SessionEnded
    if kind not in KEEPS_OUT or isinstance(failure, silent):
        return ""
    if block_of(account):
        return ""
    not_done, unknown = KEEPS_OUT[kind]
    return str(not_done if isinstance(failure, Refused | NotSaved) else unknown)


def commit_failed(late_until: datetime | None) -> NotStored:
    """Return the failure for a change that Clerk has and the database did not confirm."""
    return NotStored(
        _(
            "Clerk has the change, but the database did not confirm it. Whether it was saved here "
            "is checked again at {when}; nothing is lost."
        ).format(when=at(late_until))
    )


def must_wait(earlier: SyncAttempt, why: str = "") -> Waiting:
    """Return the failure that names the earlier change to wait for, and until when.

    `why` is an additional sentence.
    """
    named = _("“{change}” by {who} at {when}").format(
        change=earlier.get_operation_display(),
        who=author_of(earlier),
        when=at(earlier.started_at),
    )
    if pending.is_over(earlier):
        said = _(
            "An earlier change of this user ({change}) is not resolved yet: {reason} Nothing was "
            "saved now. Decide about that change first."
        )
        return Waiting(said.format(change=named, reason=earlier.message))
    said = _(
        "An earlier change of this user ({change}) is not confirmed by Clerk yet, and may still "
        "arrive there until {when}."
    ).format(change=named, when=at(earlier.late_until))
    after = _("Nothing was saved now: save again after that.")
    return Waiting(" ".join(filter(None, [said, why, after])), until=earlier.late_until)


def unproven(late_until: datetime | None) -> str:
    """Say that Clerk cannot confirm a password, and when to set it again."""
    return _(
        "Clerk cannot tell whether it took this password. It was not confirmed in time. Set it "
        "again after {when}."
    ).format(when=at(late_until))


def at(moment: datetime | None) -> str:
    """Format a time for a sentence; None becomes "once Clerk answers"."""
    return time_text(moment, seconds=True) if moment else _("once Clerk answers")


def age(past: timedelta) -> str:
    """Format a duration in days and hours, or in hours and minutes below one day."""
    hours, minutes = divmod(past.seconds // 60, 60)
    if past.days:
        return _("{days} days and {hours} hours").format(days=past.days, hours=hours)
    return _("{hours} h {minutes} min").format(hours=hours, minutes=minutes)


def _sentence(error: ClerkError) -> str:
    return f"{error.summary.rstrip('.')}."
