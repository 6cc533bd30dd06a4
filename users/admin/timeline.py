"""The timeline of a user: who changed what, when, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.models import BuilderUser, OperationKind, Source, Status, SyncAttempt
from users.sync.actors import BY_ITSELF, author_of
from users.sync.display import shown_changes, with_group_names

MOST = 20
LATER = timedelta(minutes=1)
IN_CLERK = gettext_lazy("In Clerk, by the person or in Clerk's dashboard")


@dataclass(frozen=True)
class Entry:
    """One change of a user. `changes` lists field, before and after.

    `ended` is set if the change ended later than `LATER` after its begin.
    """

    when: datetime
    ended: datetime | None
    who: str
    what: str
    changes: list[tuple[str, str, str]]
    status: Status
    message: str
    url: str

    @property
    def outcome(self) -> str:
        """Return how the change ended, for people."""
        return str(self.status.label)


def timeline_of(user: BuilderUser, *, linked: bool) -> list[Entry]:
    """List the newest changes of a user, the newest first.

    `linked` says whether this person may open the records of changes.
    """
    attempts = with_group_names(SyncAttempt.objects.filter(user=user)).select_related("actor")
    ends = _ends_of_invitations(user)
    return [_entry(attempt, ends, linked=linked) for attempt in attempts.order_by("-id")[:MOST]]


def _ends_of_invitations(user: BuilderUser) -> dict[str, str]:
    """Map the references of a user's invitations that are not open any more to how they ended."""
    return {
        str(one.reference): _("The invitation is {status} now.").format(
            status=one.get_status_display().lower()
        )
        for one in user.invitations.all()
        if not one.open
    }


def _entry(attempt: SyncAttempt, ends: Mapping[str, str], *, linked: bool) -> Entry:
    reference = (attempt.details.get("invitation") or {}).get("reference", "")
    followed = _was_made_in_clerk(attempt)
    return Entry(
        when=attempt.started_at,
        ended=_ended_later(attempt),
        who=str(IN_CLERK)
        if followed
        else str(BY_ITSELF)
        if attempt.derived
        else author_of(attempt),
        what=_("Changed in Clerk") if followed else attempt.get_operation_display(),
        changes=shown_changes(attempt),
        status=Status(attempt.status),
        message=attempt.message or attempt.details.get("reason") or ends.get(reference, ""),
        url=reverse("admin:users_syncattempt_change", args=[attempt.pk]) if linked else "",
    )


def _ended_later(attempt: SyncAttempt) -> datetime | None:
    """Return when a change ended, if that was more than `LATER` after its begin."""
    ended = attempt.settled_at
    return ended if ended and ended - attempt.started_at > LATER else None


def _was_made_in_clerk(attempt: SyncAttempt) -> bool:
    """Tell whether the row followed a change that somebody made in Clerk."""
    unasked = attempt.derived or attempt.source in (Source.WEBHOOK, Source.TASK)
    return unasked and attempt.operation == OperationKind.FOLLOW
