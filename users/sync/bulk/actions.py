"""Plan actions on many users at once, for `clerk_action`.

One rule, in SQL, decides which users can be acted on, and why the others cannot. It is applied to
the plan, and again before each row.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import (
    Case,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)

from users.changes import Change, Changes
from users.models import (
    LINKED,
    BuilderUser,
    BulkRow,
    ClerkAccount,
    Invitation,
    InvitationStatus,
    OperationKind,
    Role,
    Status,
)
from users.sync.bulk.attempts import attempts_of
from users.sync.bulk.creating import NAMED, left_out
from users.sync.bulk.plan import NOT_SEEN_YET, Plan, Planned, counted
from users.sync.bulk.results import Result
from users.sync.display import time_text
from users.sync.mirror import comparison
from users.sync.operations import Ban, SignOut, Unban
from users.sync.services.invitation_limit import queue_note

COMMAND = "clerk_action"
HAS_AN_ACCOUNT = "whose email has an account in Clerk already"
CHUNK = 1000

_OPEN = Invitation.objects.open().filter(user=OuterRef("pk"))
_LIVING = ClerkAccount.objects.filter(deleted_at=None, not_found_at=None)


@dataclass(frozen=True)
class Obstacle:
    """Reason why an action does not apply to some users.

    `many` is a phrase about several of them, `one` is a sentence about one user.
    """

    where: Q
    many: str
    one: str


ADMINISTRATOR = Obstacle(
    Q(role=Role.ADMIN),
    "with the role Admin (act on each of them in the admin)",
    "The role is Admin: act on this user in the admin.",
)
NOT_LINKED = Obstacle(~LINKED, "without a Clerk account", "This user has no Clerk account.")
NOT_SEEN = Obstacle(
    Q(account=None) | ~Q(account__clerk_id=F("clerk_id")),
    NOT_SEEN_YET,
    "The account of this user was not seen in Clerk yet.",
)
DELETED = Obstacle(
    Q(account__deleted_at__isnull=False),
    "whose account was deleted in Clerk",
    "The account of this user was deleted in Clerk.",
)
BANNED = Obstacle(Q(account__banned=True), "already banned", "This user is banned already.")
NOT_BANNED = Obstacle(Q(account__banned=False), "not banned", "This user is not banned.")
LINKED_ALREADY = Obstacle(
    LINKED, "with a Clerk account already", "This user has a Clerk account already."
)
INVITED = Obstacle(
    Q(Exists(_OPEN)), "with an open invitation", "This user has an open invitation already."
)
IN_CLERK = Obstacle(
    Q(Exists(comparison.with_email_of(_LIVING, OuterRef("email")))),
    HAS_AN_ACCOUNT,
    "Clerk has an account with this email already. Link this user to that account instead.",
)


@dataclass(frozen=True)
class Action:
    """An action of `clerk_action`.

    `obstacles` are checked in their order, and the first one counts; `changes` returns what a plan
    shows.
    """

    kind: OperationKind
    obstacles: tuple[Obstacle, ...]
    changes: Callable[[Any], Changes]

    def split(self, users: QuerySet[BuilderUser]) -> QuerySet[Any]:
        """Annotate users with `_obstacle`, `_invited` and `_seen_at`.

        `_obstacle` is the number of the first obstacle, `_invited` the email of the open
        invitation, `_seen_at` when the account was last checked; each may be None.
        """
        whens = [
            When(obstacle.where, then=Value(number))
            for number, obstacle in enumerate(self.obstacles)
        ]
        return users.annotate(
            _obstacle=Case(*whens, default=None, output_field=IntegerField()),
            _invited=Subquery(_OPEN.values("email")[:1]),
            _seen_at=F("account__seen_at"),
        )


def _deleted(user: Any) -> Changes:
    changes: Changes = {"email": Change(user.email, None)}
    return changes | ({"invitation": Change(user._invited, None)} if user._invited else {})


def _refreshed(user: Any) -> Changes:
    return {"last_checked": Change(user._seen_at and time_text(user._seen_at), "now")}


ACTIONS: Mapping[str, Action] = {
    "invite": Action(
        OperationKind.INVITE,
        (LINKED_ALREADY, INVITED, IN_CLERK),
        lambda user: {"invitation": Change(None, user.email)},
    ),
    "ban": Action(
        OperationKind.BAN,
        (ADMINISTRATOR, NOT_LINKED, DELETED, NOT_SEEN, BANNED),
        lambda user: dict(Ban.effect),
    ),
    "unban": Action(
        OperationKind.UNBAN,
        (NOT_LINKED, DELETED, NOT_SEEN, NOT_BANNED),
        lambda user: dict(Unban.effect),
    ),
    "sign_out": Action(
        OperationKind.SIGN_OUT, (NOT_LINKED, DELETED), lambda user: dict(SignOut.effect)
    ),
    "refresh": Action(OperationKind.REFRESH, (NOT_LINKED,), _refreshed),
    "delete": Action(OperationKind.DELETE, (ADMINISTRATOR,), _deleted),
}
_OF_KIND = {action.kind: action for action in ACTIONS.values()}


# --- The plan ------------------------------------------------------------------------------------


@dataclass
class People:
    """Users that a spreadsheet names.

    `lines` holds the line of each user, `results` the result of each line, and `notes` how the file
    was read.
    """

    lines: dict[uuid.UUID, int] = field(default_factory=dict)
    results: dict[int, Result] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    file: str = ""


def plan_action(name: str, users: QuerySet[BuilderUser], people: People | None = None) -> Plan:
    """Plan one of `ACTIONS` for these users; with `people`, only for those in the spreadsheet.

    The notes list the users that cannot be acted on, and `people.results` states the reason at
    their lines.
    """
    action = ACTIONS[name]
    planning = _Planning(action, people or People())
    for part in _parts(users, people):
        planning.take(part)
    options = {"action": name} | ({"file": people.file} if people else {})
    return Plan(COMMAND, tuple(planning.rows), tuple(planning.notes()), options=options)


def _parts(users: QuerySet[BuilderUser], people: People | None) -> Iterator[QuerySet[BuilderUser]]:
    if people is None:
        yield users
        return
    pks = list(people.lines)
    for start in range(0, len(pks), CHUNK):
        yield users.filter(pk__in=pks[start : start + CHUNK])


class _Planning:
    """Rows planned for users without an obstacle, and counts of the others."""

    def __init__(self, action: Action, people: People) -> None:
        self.rows: list[Planned] = []
        self._action = action
        self._people = people
        self._left_out: dict[int, list[str]] = defaultdict(list)
        self._counts: dict[int, int] = defaultdict(int)

    def take(self, users: QuerySet[BuilderUser]) -> None:
        """Plan rows for some users."""
        split = self._action.split(users)
        for user in split.filter(_obstacle=None).iterator(CHUNK):
            line = self._people.lines.get(user.pk)
            changes = self._action.changes(user)
            self.rows.append(Planned.on(user, self._action.kind, changes, line))
        for user in split.filter(_obstacle__isnull=False).iterator(CHUNK):
            self._leave_out(user, user._obstacle)

    def _leave_out(self, user: BuilderUser, number: int) -> None:
        self._counts[number] += 1
        if len(self._left_out[number]) < NAMED:
            self._left_out[number].append(f"{user} ({user.email})")
        if line := self._people.lines.get(user.pk):
            key = self._people.results[line].key
            self._people.results[line] = Result(key, "skipped", self._action.obstacles[number].one)

    def notes(self) -> Iterable[str]:
        """Yield the notes of the plan: who is left out, and what to know before it is applied."""
        yield from self._people.notes
        for number, names in sorted(self._left_out.items()):
            why = self._action.obstacles[number].many
            yield f"Left out: {left_out(names, 'user', why, total=self._counts[number])}"
        if self._action.kind == OperationKind.INVITE and (note := queue_note(len(self.rows))):
            yield note
        if self._action.kind == OperationKind.DELETE and self.rows:
            linked = sum(bool(row.clerk_id) for row in self.rows)
            yield (
                f"{counted(len(self.rows), 'user')} to delete, {linked} of them in Clerk too. "
                "That cannot be undone. Open invitations are revoked first."
            )


# --- Before each row -----------------------------------------------------------------------------


def reference_of(row: BulkRow) -> uuid.UUID:
    """Return the reference of a row's invitation.

    It is derived from the run and the user, so that a row that is tried again after a kill finds
    its own invitation.
    """
    assert row.user_id is not None
    return uuid.uuid5(row.user_id, f"bulk run {row.run_id}")


def invitation_of(row: BulkRow) -> Invitation | None:
    """Return the invitation that an earlier try of the row has stored, None if there is none."""
    return (
        Invitation.objects.filter(reference=reference_of(row))
        .exclude(status=InvitationStatus.REFUSED)
        .first()
    )


def obstacle_to(row: BulkRow, user: BuilderUser) -> str:
    """Return why the action of a row does not apply any more; empty if it does.

    An obstacle that an earlier try of this row has caused does not count.
    """
    action = _OF_KIND.get(OperationKind(row.operation)) if row.run.command == COMMAND else None
    if action is None:
        return ""
    return _moved(row, user) or _obstacle_now(row, user, action)


def _moved(row: BulkRow, user: BuilderUser) -> str:
    """Return how the user differs from the start of the plan; empty if it does not."""
    if user.account_id != row.clerk_id:
        return "It changed since the plan was made: another Clerk account, or none, is theirs now."
    planned = {OperationKind.DELETE: ("email", 0), OperationKind.INVITE: ("invitation", 1)}.get(
        OperationKind(row.operation)
    )
    if planned and user.email != row.changes[planned[0]][planned[1]]:
        return f"It changed since the plan was made: email is {user.email} now."
    return ""


def _obstacle_now(row: BulkRow, user: BuilderUser, action: Action) -> str:
    users = BuilderUser.objects.filter(pk=user.pk)
    number = action.split(users).values_list("_obstacle", flat=True).first()
    if number is None or _was_tried(row):
        return ""
    return action.obstacles[number].one


def _was_tried(row: BulkRow) -> bool:
    if row.operation == OperationKind.INVITE and invitation_of(row) is not None:
        return True
    return attempts_of(row).exclude(status__in=[Status.REFUSED, Status.DROPPED]).exists()
