"""All errors of this application. Each carries the data that its caller needs to decide.

There are two branches. `ClerkError` says what Clerk answered; only `users.clerk` raises it.
`ChangeFailed` says how a change ended here; `users.sync` raises it. Forms, commands and views
show the second one. Nobody parses a message.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from itertools import chain


class CascadeError(Exception):
    """Base class of all errors of this application."""


class BypassesClerk(CascadeError):
    """The code would change or delete a linked user here and not in Clerk.

    Nothing was changed. The message names the right call. This is a fault in the code, so no view
    or command catches it.
    """


# --- What Clerk answered -------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One entry of Clerk's `errors[]`. `param` is `meta.param_name`, spelled as Clerk spells it."""

    code: str
    message: str
    param: str | None = None


class ClerkError(CascadeError):
    """A call that did not end in a readable success.

    `status` is the HTTP status, or None when there was no answer. `trace_id` is Clerk's
    `clerk_trace_id`, else the header `cf-ray`. `retry_after` is set by every 429, from Clerk or
    from a proxy: the seconds to wait before the next call, at most a day. The body is never stored,
    because it holds personal data. `str()` is safe to log.
    """

    def __init__(
        self,
        summary: str,
        *,
        status: int | None = None,
        problems: tuple[Problem, ...] = (),
        trace_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.status = status
        self.problems = problems
        self.trace_id = trace_id
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        """Return Clerk's code of the first problem, else the status, else the name of the class."""
        if self.problems:
            return self.problems[0].code
        return str(self.status) if self.status else type(self).__name__


class ClerkNotConfigured(ClerkError):
    """CLERK_SECRET_KEY is missing or is not a valid key. Nothing was sent."""


class ClerkInvalidId(ClerkError):
    """The id is not a valid Clerk id. Nothing was sent."""


class ClerkUnreachable(ClerkError):
    """No request reached Clerk (DNS, refused connection, connect timeout). Nothing changed."""


class ClerkRefused(ClerkError):
    """Clerk itself answered 4xx with its `errors[]`. Nothing changed in Clerk."""


class ClerkNotFound(ClerkRefused):
    """404 `resource_not_found`: the user (invitation, session) does not exist in Clerk."""


class ClerkRateLimited(ClerkRefused):
    """429: Clerk accepts no requests until `retry_after` seconds have passed."""


class ClerkDenied(ClerkRefused):
    """401, 402 or 403: Clerk does not accept our key or the plan does not allow it."""


class ClerkDeniedToAll(ClerkDenied):
    """Our key, our plan or a setting of the instance forbids the change of any user."""


class ClerkBusy(ClerkRefused):
    """Clerk is changing this user right now. The same request may be sent again shortly."""


class ClerkEmailTaken(ClerkRefused):
    """Another account has the email address."""


class ClerkAlreadyInvited(ClerkRefused):
    """Clerk has a pending invitation to this email address, or an account with it."""


class ClerkInvitationClosed(ClerkRefused):
    """The invitation is no longer open, so it cannot be revoked."""


class ClerkInvitationAccepted(ClerkInvitationClosed):
    """The invitation was accepted."""


class ClerkInvitationRevoked(ClerkInvitationClosed):
    """The invitation was revoked before."""


class ClerkUnknown(ClerkError):
    """Any other failure. A write may have happened.

    Examples: a timeout, a reset, 5xx, a 4xx that does not come from Clerk, an unreadable body.
    """


class ClerkUnreadable(ClerkUnknown):
    """A 2xx answer that cannot be read. A write has happened."""


# --- How a change ended here ---------------------------------------------------------------


@dataclass(frozen=True)
class FieldConflict:
    """One field that somebody else changed since the form was opened; values are texts to show."""

    field: str
    base: object
    theirs: object
    mine: object


class ChangeFailed(CascadeError):
    """A change that was not applied, with a message for a person.

    `message` says what happened in Clerk, what happened here and what to do next. `fields`
    maps names of form fields to the messages about them. `trace_id` is Clerk's, for support.
    `code` is stable and meant for machines. `retry_after` is set when Clerk accepts no more
    requests: the seconds to wait. `sign_in` says first what the failure means for the sign-in of
    the person, if the change was to keep them out.
    """

    code = "failed"
    sign_in = ""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        fields: dict[str, list[str]] | None = None,
        trace_id: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.fields = fields or {}
        self.trace_id = trace_id
        if code:
            self.code = code

    @property
    def full_message(self) -> str:
        """Return the message with all messages about fields, for places without fields."""
        about_fields = chain.from_iterable(self.fields.values())
        return " ".join([*filter(None, [self.sign_in]), self.message, *about_fields])


class Refused(ChangeFailed):
    """Clerk, or our own table, refused the change. Nothing changed on either side."""

    code = "refused"


class SessionEnded(Refused):
    """The session that was to be ended does not exist any more."""

    code = "no_session"


class NotAllowed(Refused):
    """The person may not make this change. Nothing was changed, and Clerk was not asked."""

    code = "not_allowed"


class EmailGuarded(Refused):
    """The email of a linked user is how they sign in: it is not changed by an edit."""

    code = "email_guarded"


class CopyInstead(Refused):
    """The row has this email already and Clerk does not: the email is copied, nobody is invited."""

    code = "copy_instead"


class NotFoundInClerk(Refused):
    """Clerk does not have the account, or it is not certain that our own instance was asked."""

    code = "resource_not_found"


class InvitationAccepted(Refused):
    """The invitation was accepted already, so it cannot be revoked."""

    code = "invitation_already_accepted"


class Denied(Refused):
    """Clerk does not accept our key, or our plan or instance lacks a setting for the change.

    The same change of any other user fails in the same way.
    """


class BusyInClerk(Refused):
    """Clerk is changing this user right now (409). The same change may be sent again shortly."""


@dataclass(frozen=True)
class Holder:
    """The owner of an email address, as far as our tables know.

    This is a builder user (`user_id`, with their name in `label`), else an account in Clerk that
    is not linked to a builder user (`clerk_id`), else nobody.
    """

    email: str
    user_id: uuid.UUID | None = None
    label: str = ""
    clerk_id: str = ""


class EmailTaken(Refused):
    """Somebody else has the address. `holder` is None until the owner was looked up."""

    holder: Holder | None = None


class NotSaved(ChangeFailed):
    """Nothing was sent to Clerk. Nothing changed on either side."""

    code = "not_saved"


class NotConfigured(NotSaved):
    """CLERK_SECRET_KEY is missing or is not a valid key. Every change fails in the same way."""


class NotKnown(ChangeFailed):
    """It is not known yet whether Clerk made the change. The attempt stays pending for recovery."""

    code = "not_known"


class NotStored(NotKnown):
    """Clerk made the change, and the database did not confirm it. The attempt stays pending."""

    code = "database"


class Busy(ChangeFailed):
    """Another process is saving this user right now: the row is locked."""

    code = "busy"


class Waiting(ChangeFailed):
    """An earlier change of the same thing may still reach Clerk, so this one must wait.

    `until` is the time when the outcome of the earlier one is certain. It is None when a person
    has to decide.
    """

    code = "waiting"

    def __init__(self, message: str, *, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class Repeated(ChangeFailed):
    """A page with this one-time token was submitted before."""

    code = "repeated"


class Gone(ChangeFailed):
    """The row was deleted in the meantime."""

    code = "gone"


class NothingToChange(ChangeFailed):
    """The row already holds everything that the change wants."""

    code = "nothing_to_change"

    def __init__(self) -> None:
        super().__init__("It is stored like this already; nothing had to be saved.")


class Conflict(ChangeFailed):
    """The user changed since the form was opened.

    `who` and `when` describe the latest change, where known.
    """

    code = "conflict"

    def __init__(
        self,
        message: str,
        *,
        conflicts: tuple[FieldConflict, ...] = (),
        who: str = "",
        when: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.conflicts = conflicts
        self.who = who
        self.when = when


# --- Bulk work -----------------------------------------------------------------------------


class BulkRefused(CascadeError):
    """A bulk command that does not start. Nothing was changed.

    The message says why, and names the option that overrides a limit.
    """
