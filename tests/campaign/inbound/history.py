"""What can happen: in Clerk, by staff, and by other applications. A step that is not possible at
the moment does nothing, so that hypothesis can shorten freely."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies

from tests.campaign.inbound.clerk import Clerk, Told
from tests.campaign.inbound.office import Office
from tests.campaign.inbound.truths import Truths
from users.clerk import ClerkUser
from users.clerk.metadata import OUR_ID
from users.models import Invitation, InvitationStatus, LinkedBy, Role
from users.sync.inbound.group import Invited, Row

EMAILS = [f"{letter}@example.com" for letter in "abcde"]
NAMES = [("Ann", "Lee"), ("Row", "1"), ("Row", "2"), ("Cleo", ""), ("", "")]
ROWS = [uuid.UUID(int=number) for number in range(1, 5)]
Purpose = Invitation.Purpose


@dataclass(frozen=True)
class Step:
    """One thing that happens; `one` and `two` choose whom it is about and what becomes."""

    kind: str
    one: int
    two: int


@dataclass(frozen=True)
class Phase:
    """What staff do, then what happens in Clerk, then how the facts of it come: `lost` and `late`
    choose some that never come, or in the phase after. `admins` are the rows that are
    administrators' from then on."""

    staff: Step | None
    steps: list[Step]
    seed: int
    lost: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)
    admins: set[int] = field(default_factory=set)


@dataclass
class Story:
    clerk: Clerk = field(default_factory=Clerk)
    office: Office = field(default_factory=Office)
    heard: list[Told] = field(default_factory=list)
    """What answers of Clerk told while staff acted."""
    sent: int = 0
    log: list[str] = field(default_factory=list)

    def inherit(self, row_id: uuid.UUID, truths: Truths) -> None:
        """The row was linked by others, and both are equal."""
        row = self.office.rows[row_id]
        first, _, last = row.name.partition(" ")
        user = self.clerk.create(row.email, first_name=first, last_name=last)
        assert user is not None
        self.office.rows[row_id] = replace(
            row, clerk_id=user.id, linked_by=LinkedBy.INHERITED, linked_since=row.own_email_since
        )
        self.tell(self.clerk.go_out(), truths)

    # --- In Clerk ---------------------------------------------------------------------------

    def happen(self, step: Step) -> None:
        action: Callable[[Step], Any] = getattr(self, f"_{step.kind}")
        before = len(self.clerk.told)
        action(step)
        for told in self.clerk.told[before:]:
            self.log.append(f"  Clerk: {step.kind}: {told}")

    def _person(self, number: int) -> ClerkUser | None:
        living = list(self.clerk.users.values())
        return living[number % len(living)] if living else None

    def _create(self, step: Step) -> None:
        first, last = NAMES[step.two % len(NAMES)]
        self.clerk.create(EMAILS[step.one % len(EMAILS)], first_name=first, last_name=last)

    def _create_unverified(self, step: Step) -> None:
        self.clerk.create(EMAILS[step.one % len(EMAILS)], email_verified=False)

    def _claim(self, step: Step) -> None:
        row = ROWS[step.two % len(ROWS)]
        email = EMAILS[step.one % len(EMAILS)]
        self.clerk.create(email, public_metadata={OUR_ID: str(row)})

    def _accept(self, step: Step) -> None:
        sent = self.office.invitations.values()
        open_ones = [one for one in sent if one.open and one.reference not in self.clerk.accepted]
        if open_ones:
            one = open_ones[step.one % len(open_ones)]
            metadata = step.two % 4 != 0
            self.clerk.accept(one.email, one.reference, one.user_id, metadata=metadata)

    def _edit(self, number: int, **fields: Any) -> None:
        if (user := self._person(number)) is not None:
            self.clerk.edit(user.id, **fields)

    def _rename(self, step: Step) -> None:
        first, last = NAMES[step.two % 4]
        self._edit(step.one, first_name=first, last_name=last)

    def _clear_name(self, step: Step) -> None:
        self._edit(step.one, first_name="", last_name="")

    def _move(self, step: Step) -> None:
        self._edit(step.one, email=EMAILS[step.two % len(EMAILS)], email_verified=True)

    def _clear_email(self, step: Step) -> None:
        self._edit(step.one, email="", email_verified=False)

    def _unverify(self, step: Step) -> None:
        self._edit(step.one, email_verified=False)

    def _verify(self, step: Step) -> None:
        user = self._person(step.one)
        if user is not None and user.email:
            self._edit(step.one, email_verified=True)

    def _ban(self, step: Step) -> None:
        self._edit(step.one, banned=True)

    def _unban(self, step: Step) -> None:
        self._edit(step.one, banned=False)

    def _sign_in(self, step: Step) -> None:
        if (user := self._person(step.one)) is not None and not user.banned:
            self.clerk.edit(user.id, last_sign_in_at=self.clerk.now)

    def _swap(self, step: Step) -> None:
        one, other = self._person(step.one), self._person(step.two)
        if one and other and one.id != other.id and one.email and other.email:
            self.clerk.edit(one.id, email="parked@example.com", email_verified=True)
            self.clerk.edit(other.id, email=one.email)
            self.clerk.edit(one.id, email=other.email, email_verified=True)

    def _pass_on(self, step: Step) -> None:
        one, other = self._person(step.one), self._person(step.two)
        if one and other and one.id != other.id and one.email:
            self.clerk.edit(one.id, email=f"{one.id}@away.example.com", email_verified=True)
            self.clerk.edit(other.id, email=one.email, email_verified=True)

    def _delete(self, step: Step) -> None:
        if (user := self._person(step.one)) is not None:
            self.clerk.delete(user.id)

    def _make_again(self, step: Step) -> None:
        if (user := self._person(step.one)) is not None:
            self.clerk.delete(user.id)
            self.clerk.create(user.email)

    # --- By staff, and by other applications ---------------------------------------------------

    def decide(self, step: Step, truths: Truths) -> None:
        rows = list(self.office.rows.values())
        if rows:
            row = rows[step.one % len(rows)]
            self.log.append(f"staff: {step.kind} {row} {step.two}")
            getattr(self, f"_staff_{step.kind}")(row, step.two)
            for told in self.heard:
                truths.told(told)
            self.heard.clear()

    def _staff_rename(self, row: Row, number: int) -> None:
        """Clerk first, then the row; our answer is a fact, and the event follows."""
        first, last = NAMES[number % 3]
        name = f"{first} {last}".strip()
        if row.clerk_id in self.clerk.users:
            self.clerk.edit(row.clerk_id, first_name=first, last_name=last)
            self.office.write(row.id, self.clerk.now, touch=True, name=name)
            self._answer(row.clerk_id)
        elif row.clerk_id is None:
            self.office.write(row.id, self.clerk.now, touch=True, name=name)

    def _staff_replace_email(self, row: Row, number: int) -> None:
        email = EMAILS[number % len(EMAILS)]
        if row.clerk_id not in self.clerk.users or self._is_held(email, row):
            return
        if self.clerk.edit(row.clerk_id, email=email, email_verified=True) is not None:
            self.office.write(row.id, self.clerk.now, touch=True, email=email)
            self._answer(row.clerk_id)

    def _staff_email(self, row: Row, number: int) -> None:
        """The address of a row without an account."""
        email = EMAILS[number % len(EMAILS)]
        if row.clerk_id is None and not self._is_held(email, row):
            self.office.write(row.id, self.clerk.tick(), touch=True, email=email)

    def _staff_link(self, row: Row, number: int) -> None:
        linked = {other.clerk_id for other in self.office.rows.values()}
        free = [
            one for one in self.clerk.users if one not in linked and one in self.office.accounts
        ]
        if row.clerk_id is None and free:
            self.office.decide(row.id, free[number % len(free)], self.clerk.tick())

    def _staff_unlink(self, row: Row, number: int) -> None:
        if row.clerk_id is not None and row.clerk_id in self.office.accounts:
            self.office.decide(row.id, None, self.clerk.tick())

    def _staff_invite(self, row: Row, number: int) -> None:
        mine = [one for one in self.office.invitations.values() if one.user_id == row.id]
        if any(one.open for one in mine):
            return
        email = row.email if row.clerk_id is None else EMAILS[number % len(EMAILS)]
        if row.clerk_id is not None and self._is_held(email, row, or_own=True):
            return
        self.sent += 1
        purpose = Purpose.NEW_ACCOUNT if row.clerk_id is None else Purpose.EMAIL_CHANGE
        invited = Invited(
            uuid.UUID(int=1000 + self.sent),
            row.id,
            email,
            purpose,
            InvitationStatus.PENDING,
            self.clerk.tick(),
            for_admins=bool(number % 2),
        )
        self.office.invite(invited, self.clerk.now)

    def _staff_revoke(self, row: Row, number: int) -> None:
        for one in list(self.office.invitations.values()):
            if one.user_id == row.id and one.open:
                self.office.revoke(one.reference, self.clerk.tick())

    def _staff_delete(self, row: Row, number: int) -> None:
        if row.clerk_id in self.clerk.users:
            self.clerk.delete(row.clerk_id)
            told = self.clerk.told[-1]
            self._hear(told)
        self.office.remove(row.id, self.clerk.tick())

    def _staff_other_name(self, row: Row, number: int) -> None:
        """Another application renames the row."""
        name = " ".join(NAMES[number % 3]).strip()
        self.office.write(row.id, self.clerk.tick(), touch=False, name=name)
        assert self.office.rows[row.id].name == name, "a name that was corrected here is reverted"

    def _staff_other_email(self, row: Row, number: int) -> None:
        email = EMAILS[number % len(EMAILS)]
        if not self._is_held(email, row):
            self.office.write(row.id, self.clerk.tick(), touch=False, email=email)

    def _staff_other_delete(self, row: Row, number: int) -> None:
        self.office.remove(row.id, self.clerk.tick())

    def _staff_scan(self, row: Row, number: int) -> None:
        for told in self.clerk.scan(iter(list(self.office.accounts))):
            self._hear(told)

    def appoint(self, admins: set[int]) -> None:
        """Another application makes some administrators, and the others builders again."""
        for number, row in enumerate(list(self.office.rows.values())):
            role = Role.ADMIN if number in admins else Role.BUILDER
            if (row.role == Role.ADMIN) != (number in admins):
                self.log.append(f"others: {row} is {role}")
                self.office.write(row.id, self.clerk.tick(), touch=False, role=role)

    def _is_held(self, email: str, row: Row, *, or_own: bool = False) -> bool:
        rows = self.office.rows.values()
        return any(other.email == email and (or_own or other.id != row.id) for other in rows)

    def _answer(self, clerk_id: str) -> None:
        fact, user = self.clerk.answer(clerk_id), self.clerk.users[clerk_id]
        self._hear(Told(clerk_id, fact, user, self.clerk.now))

    def _hear(self, told: Told) -> None:
        self.heard.append(told)
        self.office.learn(told.clerk_id, told.fact, self.clerk.now)

    # --- How it is told ------------------------------------------------------------------------

    def tell(self, told: list[Told], truths: Truths) -> None:
        for one in told:
            before = self.office.copy()
            self.office.learn(one.clerk_id, one.fact, self.clerk.tick(1))
            truths.told(one)
            truths.check(before, self.office, one)

    def scan(self, truths: Truths) -> None:
        self.tell(self.clerk.scan(iter(self.office.accounts)), truths)

    def scanned(self, truths: Truths) -> Office:
        """How a scan would end now."""
        office, now = self.office.copy(), self.clerk.now
        self.scan(truths.copy())
        scanned, self.office, self.clerk.now = self.office, office, now
        return scanned


IN_CLERK = [
    name.removeprefix("_")
    for name, member in vars(Story).items()
    if callable(member)
    and name.startswith("_")
    and not name.startswith(("__", "_staff_"))
    and name not in ("_person", "_edit", "_is_held", "_answer", "_hear")
]
BY_STAFF = [name.removeprefix("_staff_") for name in vars(Story) if name.startswith("_staff_")]

NUMBERS = strategies.integers(0, 11)


def _steps(kinds: list[str]) -> strategies.SearchStrategy[Step]:
    return strategies.builds(Step, strategies.sampled_from(kinds), NUMBERS, NUMBERS)


def phases(*, losses: bool, admins: bool = False) -> strategies.SearchStrategy[list[Phase]]:
    some = strategies.sets(NUMBERS, max_size=3) if losses else strategies.just(set())
    # A sign-in settles a link: with a claim that comes late, the order of the two decides.
    kinds = [kind for kind in IN_CLERK if kind != "sign_in" or not losses]
    return strategies.lists(
        strategies.builds(
            Phase,
            strategies.none() | _steps(BY_STAFF),
            strategies.lists(_steps(kinds), min_size=1, max_size=6),
            strategies.integers(0, 2**16),
            some,
            some,
            strategies.sets(strategies.integers(0, 2)) if admins else strategies.just(set()),
        ),
        min_size=1,
        max_size=4,
    )


def play(story: list[Phase], *, rows: int = 3) -> Story:
    """Let the history happen, and tell each phase in several orders: what must hold holds after
    each fact, and all orders end alike, after a scan if facts were lost. Facts that come after a
    later decision of staff may make a difference, and so may those about administrators, whose
    links never move."""
    one, truths = Story(), Truths()
    for number in range(rows):
        one.office.add(ROWS[number], f"Row {number}", EMAILS[number], one.clerk.tick())
    one.inherit(ROWS[0], truths)
    late: list[Told] = []
    lossy = False
    for phase in story:
        one.appoint(phase.admins)
        if phase.staff is not None:
            one.decide(phase.staff, truths)
        for step in phase.steps:
            one.happen(step)
        happened = one.clerk.go_out()
        told = [told for number, told in enumerate(happened) if number not in phase.lost]
        now, later = _parted(told, phase.late)
        lossy = lossy or len(now) < len(happened)
        rng = random.Random(phase.seed)
        alike = not late and not any(phase.admins for phase in story)
        _tell_in_orders(one, [*late, *now], rng, truths, alike=alike, scanned=lossy)
        late = later
    alike = len(story) == 1 and not story[0].admins
    _tell_in_orders(one, late, random.Random(0), truths, alike=alike, scanned=lossy)
    one.scan(truths)
    for row in one.office.rows.values():
        truths.check_scanned(row, one.office, one.clerk)
    return one


def _parted(told: list[Told], late: set[int]) -> tuple[list[Told], list[Told]]:
    return (
        [one for number, one in enumerate(told) if number not in late],
        [one for number, one in enumerate(told) if number in late],
    )


def _tell_in_orders(
    story: Story,
    told: list[Told],
    rng: random.Random,
    truths: Truths,
    *,
    alike: bool,
    scanned: bool,
) -> None:
    if not told:
        return
    story.clerk.tick()
    before, now = story.office, story.clerk.now
    ends = []
    for order in _orders(told, rng):
        story.office, story.clerk.now = before.copy(), now
        known = truths.copy()
        story.tell(order, known)
        ends.append((order, truths.end(story.scanned(known) if scanned else story.office)))
    for order, end in ends if alike else []:
        if end != ends[0][1]:
            lines = [*story.log, "in one order:", *(f"  {one}" for one in told)]
            lines += [*_shown(ends[0][1]), "in another:", *(f"  {one}" for one in order)]
            raise AssertionError("\n".join([*lines, *_shown(end)]))
    truths.take(known)
    story.log.append("told")


def _orders(told: list[Told], rng: random.Random) -> list[list[Told]]:
    orders = [list(told), list(reversed(told))]
    for _ in range(3):
        order = [*told, *rng.sample(told, rng.randint(0, min(3, len(told))))]
        rng.shuffle(order)
        orders.append(order)
    return orders


def _shown(end: dict[str, Any]) -> list[str]:
    return [f"    {part} {key}: {value}" for part in end for key, value in end[part].items()]
