"""The one family of errors. Each carries the data that its caller decides on.

Two branches: what Clerk answered (`ClerkError`, raised by `users.clerk` alone) and how a change
ended here (`ChangeFailed`, raised by `users.sync`). Surfaces turn the second into words at a
field, a line of a command or a status; nobody parses a message.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any


class CascadeError(Exception):
    """Root of the family."""


class BypassesClerk(CascadeError):
    """Code would change or delete a linked user here and not in Clerk. Nothing was changed; the
    text names the right call. It is a fault of the code, so no surface catches it."""


# --- What Clerk answered -------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One entry of Clerk's `errors[]`: `param` is `meta.param_name`, as Clerk spells it."""

    code: str
    message: str
    param: str | None = None


class ClerkError(CascadeError):
    """A call that did not end in a readable success.

    `status` is the HTTP status, None when there was no answer. `trace_id` is Clerk's
    `clerk_trace_id`, else the header `cf-ray`. `retry_after` is set by every 429, whoever
    answered it: seconds to wait before the next call, at most a day. The body itself is never
    kept: it holds personal data. `str()` is safe to log.
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
        """Clerk's code of the first problem, else the status, else the class's name."""
        if self.problems:
            return self.problems[0].code
        return str(self.status) if self.status else type(self).__name__


class ClerkNotConfigured(ClerkError):
    """CLERK_SECRET_KEY is missing or cannot be a key. Nothing was sent."""


class ClerkInvalidId(ClerkError):
    """The id cannot be one of Clerk's. Nothing was sent."""


class ClerkUnreachable(ClerkError):
    """No request reached Clerk (DNS, refused connection, connect timeout). Nothing changed."""


class ClerkRefused(ClerkError):
    """Clerk itself answered 4xx, with its `errors[]`: nothing changed there."""


class ClerkNotFound(ClerkRefused):
    """404 `resource_not_found`: the user (invitation, session) does not exist in Clerk."""


class ClerkRateLimited(ClerkRefused):
    """429: Clerk takes no more requests until `retry_after` is over."""


class ClerkDenied(ClerkRefused):
    """401, 402 or 403: Clerk does not accept our key or the plan does not allow it."""


class ClerkUnknown(ClerkError):
    """Anything else: a timeout, a reset, 5xx, a 4xx that is not Clerk's, an unreadable body.
    A write may have happened."""


class ClerkUnreadable(ClerkUnknown):
    """2xx that cannot be read. A write did happen."""


# --- How a change ended here ---------------------------------------------------------------


@dataclass(frozen=True)
class FieldConflict:
    """One field that somebody else changed since the form was opened, as texts to show."""

    field: str
    base: Any
    theirs: Any
    mine: Any


class ChangeFailed(CascadeError):
    """A change that was not applied, told to a person.

    `message` says what happened in Clerk, what happened here and what to do next. `fields`
    maps the names of form fields to messages for them; `trace_id` is Clerk's, for support.
    `code` is stable and for machines. `retry_after` is set when Clerk took no more requests:
    the seconds until it does.
    """

    code = "failed"

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
        """All that is said, for where there are no fields to say it at."""
        return " ".join([self.message, *chain.from_iterable(self.fields.values())])


class Refused(ChangeFailed):
    """Clerk, or our own table, refused it. Nothing changed on either side."""

    code = "refused"


class NotAllowed(Refused):
    """The person may not make this change. Nothing was changed, and Clerk was not asked."""

    code = "not_allowed"


class Denied(Refused):
    """Clerk does not accept our key, or the plan or a setting of the instance lacks what the
    change needs. The same change of another user ends alike."""


class BusyInClerk(Refused):
    """Clerk is changing this user right now (409). The same may be sent again in a moment."""


@dataclass(frozen=True)
class Holder:
    """Who has an email address, as far as our tables tell.

    A builder user (`user_id`, and `label` for their name), else an account in Clerk that no
    builder user is connected to (`clerk_id`), else nobody that is known here.
    """

    email: str
    user_id: uuid.UUID | None = None
    label: str = ""
    clerk_id: str = ""


class EmailTaken(Refused):
    """Somebody else has the address. `holder` is None until it was looked for."""

    holder: Holder | None = None


class NotSaved(ChangeFailed):
    """It did not get through: nothing was sent to Clerk. Nothing changed on either side."""

    code = "not_saved"


class NotConfigured(NotSaved):
    """CLERK_SECRET_KEY is missing or cannot be a key. Every change ends alike."""


class NotKnown(ChangeFailed):
    """Whether Clerk has it could not be found out yet. The attempt stays pending for recovery."""

    code = "not_known"


class Busy(ChangeFailed):
    """Somebody else is saving this user right now: its row is locked."""

    code = "busy"


class Waiting(ChangeFailed):
    """An earlier change of the same thing may still reach Clerk: this one must wait for it.

    `until` is when the earlier one is certain; None when a person has to decide it.
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

    `who` and `when` tell of the latest change, where known.
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
    """A bulk command that does not start. Nothing was changed. The text says why, and names the
    flag that overrides a limit."""
