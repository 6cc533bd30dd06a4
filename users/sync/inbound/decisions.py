"""What follows from the facts: whose account belongs to which row, and what the rows hold.

`derive` is a pure function. It is asked again whenever a fact, a row or a decision of staff
changes, so that nothing is decided for ever by what happened to be known first.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from users.clerk import names
from users.models import Invitation, LinkedBy, Role
from users.sync.inbound import addresses
from users.sync.inbound.addresses import Wishes
from users.sync.inbound.facts import UNTOLD, Facts, holds_now, unfit_name
from users.sync.mirror.comparison import normalized_email, same_email, same_name

MOVES_WITHIN = timedelta(hours=28)
"""How long a link that we made by an address can move to an earlier claim: Svix's last retry."""

AT_CREATION = datetime.min
"""When the account that our own create made claims its row: before all others."""

State, Purpose = Invitation.State, Invitation.Purpose


@dataclass(frozen=True)
class Account:
    """An account as all facts show it. `released` says that staff, or a newer account, took its
    row away."""

    id: str
    facts: Facts
    released: bool = False

    @property
    def deleted(self) -> bool:
        return self.facts.deleted_at is not None

    @property
    def banned(self) -> bool:
        return bool((self.facts.snapshot.value or {}).get("banned"))

    @property
    def usable(self) -> bool:
        """Whether the machine may link it to a row."""
        return not (self.deleted or self.banned or self.released)

    @property
    def confirmed(self) -> bool:
        """Whether Clerk did not answer 404 last. That may be true of a moment alone, so a link
        stays; but nobody gets the account anew."""
        return self.facts.not_found_at is None

    @property
    def created_at(self) -> datetime | None:
        created: datetime | None = (self.facts.snapshot.value or {}).get("clerk_created_at")
        return created

    @property
    def claimed_id(self) -> uuid.UUID | None:
        claimed: uuid.UUID | None = (self.facts.snapshot.value or {}).get("claimed_id")
        return claimed

    def held(self, address: str, *, since: datetime, now: datetime) -> datetime | None:
        """When it first had the address, verified, at or after `since`; None for never."""
        held = self.facts.addresses.get(normalized_email(address))
        if held is None:
            return None
        first, last = held
        if not holds_now(self.facts, normalized_email(address)) and last < since:
            return None
        return max(first, since)


@dataclass(frozen=True)
class Row:
    """A row with what is known of it beside its columns (`users.models.Agreement`).

    `own_name` and `own_email` are what it has by itself, not by following its account; the
    address since `own_email_since`. `busy` rows have a pending change, or are being saved: they
    stay as they are. `touched` tells that staff acted on it since `linked_at`.
    """

    id: uuid.UUID
    name: str
    email: str
    role: str | None
    clerk_id: str | None
    linked_by: str = ""
    linked_since: datetime | None = None
    linked_at: datetime | None = None
    agreed_name: str | None = None
    agreed_name_version: str = ""
    agreed_email: str | None = None
    agreed_email_version: str = ""
    own_name: str = ""
    own_email: str = ""
    own_email_since: datetime | None = None
    note: str = ""
    busy: bool = False
    touched: bool = False
    created_here: bool = False

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def decided(self) -> bool:
        """Whether a person decided its link, or its having none."""
        return self.linked_by not in ("", LinkedBy.ADDRESS)


@dataclass(frozen=True)
class Invited:
    """An invitation that was sent, or waits to be."""

    reference: uuid.UUID
    user_id: uuid.UUID
    email: str
    purpose: str
    status: str
    sent_at: datetime

    @property
    def open(self) -> bool:
        return self.status in (State.WAITING, State.PENDING)

    @property
    def can_be_accepted(self) -> bool:
        """Whether an account can come from it, now or in an event that comes late."""
        return self.status in (State.PENDING, State.EXPIRED, State.ACCEPTED)


@dataclass(frozen=True)
class Group:
    """Rows and accounts that have to do with one another, by links, addresses and invitations."""

    accounts: Mapping[str, Account]
    rows: Mapping[uuid.UUID, Row]
    invitations: Sequence[Invited] = ()


@dataclass
class Decisions:
    """What should be: the rows, why an account is not linked or does not match, which
    invitations are accepted or closed, which accounts were replaced for which row, and which
    invitations cannot take effect, as another row has their address."""

    rows: dict[uuid.UUID, Row]
    notes: dict[str, str] = field(default_factory=dict)
    accepted: set[uuid.UUID] = field(default_factory=set)
    closed: set[uuid.UUID] = field(default_factory=set)
    replaced: dict[str, uuid.UUID] = field(default_factory=dict)
    refused: set[uuid.UUID] = field(default_factory=set)


def derive(group: Group, *, now: datetime) -> Decisions:
    """Derive what should be from what is known.

    1. Which account belongs to which row. In doubt none. 2. What became of the invitations.
    3. Which name and email the rows have. 4. What is left to be shown.
    """
    group = _sorted(group)
    refused: set[uuid.UUID] = set()
    while True:
        decisions = _Links(group, now, refused).decide()
        if (refusing := _follow(group, decisions, now)) is None:
            break
        refused.add(refusing)
    decisions.refused = refused
    _settle_invitations(group, decisions, now)
    _explain(group, decisions, now)
    return decisions


def _sorted(group: Group) -> Group:
    """The database gives records in any order; what follows from them, and its text, has one."""
    return Group(
        accounts=dict(sorted(group.accounts.items())),
        rows=dict(sorted(group.rows.items())),
        invitations=sorted(group.invitations, key=lambda one: (one.sent_at, one.reference)),
    )


# --- Links -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Link:
    account: str
    by: str
    since: datetime | None
    invitation: Invited | None = None


class _Links:
    """Which account belongs to which row. Invitations in `refused` cannot take effect: another
    row has their address."""

    def __init__(self, group: Group, now: datetime, refused: Collection[uuid.UUID]) -> None:
        self.group = group
        self.now = now
        self.refused = refused
        self.links = {
            row.id: _Link(row.clerk_id, row.linked_by, row.linked_since)
            for row in group.rows.values()
            if row.clerk_id
        }

    def decide(self) -> Decisions:
        pairs = sorted(self._accepted(), key=lambda pair: pair[0].sent_at, reverse=True)
        for invitation, account in pairs:
            self._accept(invitation, account)
        replaced = dict(self._replaced(pairs))
        # In doubt to nobody: it came for one row, and has the address of another.
        in_doubt = {account.id for one, account in pairs if self._is_refused(one)}
        self._claim({*in_doubt, *replaced})
        held = {link.account for link in self.links.values()}
        return Decisions(
            rows={row.id: self._linked(row) for row in self.group.rows.values()},
            replaced={one: row_id for one, row_id in replaced.items() if one not in held},
        )

    # Invitations

    def _accepted(self) -> Iterator[tuple[Invited, Account]]:
        """Invitations, each with the account that came from it."""
        for invitation in self.group.invitations:
            if not invitation.can_be_accepted or invitation.user_id not in self.group.rows:
                continue  # else whatever became of the account since: it was accepted
            came = [
                account
                for account in self.group.accounts.values()
                if account.facts.reference.value == invitation.reference
                and normalized_email(invitation.email) in account.facts.addresses
            ] or self._without_metadata(invitation)
            if came:
                yield invitation, min(came, key=lambda one: (not one.usable, *_by_age(one)))

    def _without_metadata(self, invitation: Invited) -> list[Account]:
        """Clerk has lost metadata before: then the address of exactly one open invitation, sent
        before the account was made, says where the account came from. Not for an administrator."""
        row = self.group.rows[invitation.user_id]
        if row.role == Role.ADMIN or not (invitation.open or self._is_guess(row, invitation)):
            return []
        address = normalized_email(invitation.email)
        others = [
            other
            for other in self.group.invitations
            if other.open and other != invitation and normalized_email(other.email) == address
        ]
        return [
            account
            for account in self.group.accounts.values()
            if not others
            and account.facts.reference is UNTOLD
            and address in account.facts.addresses
            and account.created_at is not None
            and account.created_at > invitation.sent_at
        ]

    def _is_guess(self, row: Row, invitation: Invited) -> bool:
        """Whether the row has an account that came from the invitation by its address alone, so
        that a better or an earlier one may still be heard of."""
        account = self.group.accounts.get(row.clerk_id or "")
        return (
            account is not None
            and row.linked_by == LinkedBy.INVITATION
            and row.linked_since == invitation.sent_at
            and account.facts.reference.value != invitation.reference
            and may_move(row, account, self.now)
        )

    def _is_provisional(self, row: Row, invitation: Invited) -> bool:
        """Whether the row has an account that no person chose, and that it would not have, had
        the acceptance been heard of first."""
        by_address = row.linked_by == LinkedBy.ADDRESS and row.linked_at is not None
        since = row.linked_at if by_address else None
        return (since is not None and since > invitation.sent_at) or self._is_guess(row, invitation)

    def _accept(self, invitation: Invited, account: Account) -> None:
        """The newest decision of staff wins: an invitation is one of the time when it was sent."""
        row = self.group.rows[invitation.user_id]
        link = self.links.get(row.id)
        if row.busy or account.released or self._is_refused(invitation):
            return
        if link is not None and link.account == account.id and link.by == LinkedBy.INVITATION:
            return
        decided_at = link.since if link and link.invitation else row.linked_since
        decided = (row.decided and not self._is_guess(row, invitation)) or (
            link and link.invitation
        )
        if decided and (decided_at is None or decided_at >= invitation.sent_at):
            return
        if any(
            other.account == account.id and other_id != row.id and not self._is_open(other_id)
            for other_id, other in self.links.items()
        ):
            return
        self._free(account.id)
        self.links[row.id] = _Link(account.id, LinkedBy.INVITATION, invitation.sent_at, invitation)

    def _replaced(
        self, pairs: Sequence[tuple[Invited, Account]]
    ) -> Iterator[tuple[str, uuid.UUID]]:
        """Accounts, each with the row whose newest invitation brought another one: those that
        came from an older invitation, and the one that the row had before."""
        for row in self.group.rows.values():
            link = self.links.get(row.id)
            if link is None or link.by != LinkedBy.INVITATION or link.since is None:
                continue
            older = [
                account
                for invitation, account in pairs
                if invitation.user_id == row.id and invitation.sent_at < link.since
            ]
            before = self.group.accounts.get(row.clerk_id or "")
            if before and link.invitation and not self._is_provisional(row, link.invitation):
                older.append(before)
            for account in older:
                if account.id != link.account and not account.deleted and not account.released:
                    yield account.id, row.id

    # Claims by address

    def _is_refused(self, invitation: Invited) -> bool:
        return invitation.reference in self.refused

    def _claim(self, in_doubt: Collection[str]) -> None:
        """Give the rows that have no decided account those that held their address, the
        earliest claim first."""
        self._free_unusable()
        own = Counter(normalized_email(row.own_email) for row in self.group.rows.values())
        open_rows = [
            row
            for row in self.group.rows.values()
            if self._is_open(row.id)
            and own[normalized_email(row.own_email)] == 1
            and not self._waits_for_a_person(row)
        ]
        still_open = {row.id for row in open_rows}
        bound = {*in_doubt} | {
            link.account for row_id, link in self.links.items() if row_id not in still_open
        }
        claims = sorted(
            (claimed_at, account.id, str(row.id))
            for row in open_rows
            for account in self.group.accounts.values()
            if account.usable
            and (account.confirmed or row.clerk_id == account.id)
            and account.id not in bound
            and (claimed_at := self._claimed_at(account, row)) is not None
            and self._comes_first(row, claimed_at, account.id)
        )
        given: dict[uuid.UUID, str] = {}
        for claimed_at, account_id, row_id in claims:
            row = self.group.rows[uuid.UUID(row_id)]
            if row.id in given or account_id in given.values():
                continue
            given[row.id] = account_id
            if row.id not in self.links or self.links[row.id].account != account_id:
                self._free(account_id)
                self.links[row.id] = _Link(account_id, LinkedBy.ADDRESS, self._real(claimed_at))

    def _free_unusable(self) -> None:
        """An account that we linked by its address, and that cannot be used any more, would never
        have been linked had we known: so the link goes, while it may."""
        for row in self.group.rows.values():
            link = self.links.get(row.id)
            account = self.group.accounts.get(link.account) if link else None
            if (
                link
                and account
                and link.by == LinkedBy.ADDRESS
                and not account.usable
                and not row.busy
                and is_untouched(row, account, self.now)
            ):
                del self.links[row.id]

    def _waits_for_a_person(self, row: Row) -> bool:
        """An administrator's row whose account was deleted or banned gets no other one from us."""
        if row.role != Role.ADMIN:
            return False
        claims = [
            (claimed_at, account.id, account)
            for account in self.group.accounts.values()
            if not account.released and (claimed_at := self._claimed_at(account, row))
        ]
        return bool(claims) and not min(claims)[2].usable

    def _comes_first(self, row: Row, claimed_at: datetime, account_id: str) -> bool:
        """A link to a living account moves to an earlier claim alone."""
        link = self.links.get(row.id)
        if link is None or link.account == account_id or link.since is None:
            return True
        if not self.group.accounts[link.account].usable:
            return True
        return (claimed_at, account_id) < (link.since, link.account)

    def _real(self, claimed_at: datetime) -> datetime:
        return self.now if claimed_at.year == AT_CREATION.year else claimed_at

    def _claimed_at(self, account: Account, row: Row) -> datetime | None:
        """When the account came to the row's own address. A claim by which they are linked stands,
        also when the row has another address of its own by now."""
        link = self.links.get(row.id)
        linked = link is not None and link.account == account.id and link.by == LinkedBy.ADDRESS
        since = link.since if link is not None and linked else None
        if row.own_email_since is None:
            return since
        at = account.held(row.own_email, since=row.own_email_since, now=self.now)
        if at is not None and row.created_here and account.claimed_id == row.id:
            return AT_CREATION.replace(tzinfo=at.tzinfo)
        return min(filter(None, (at, since)), default=None)

    def _is_open(self, row_id: uuid.UUID) -> bool:
        """Whether the machine may give the row an account, or another one."""
        row, link = self.group.rows[row_id], self.links.get(row_id)
        if row.busy:
            return False
        if link is None:
            return True
        account = self.group.accounts.get(link.account)
        if account is None:
            return False
        if account.deleted:
            return row.role != Role.ADMIN
        return link.by == LinkedBy.ADDRESS and may_move(row, account, self.now)

    def _free(self, account_id: str) -> None:
        for row_id, link in list(self.links.items()):
            if link.account == account_id:
                del self.links[row_id]

    def _linked(self, row: Row) -> Row:
        """The row with its link, and what the two agree on because of it."""
        link = self.links.get(row.id)
        if link is None and row.clerk_id is None:
            return row
        if link is None:
            return _unlinked(row, undone=self._is_undone(row))
        if link.account == row.clerk_id:
            return replace(row, linked_by=link.by, linked_since=link.since)
        own, since = row.own_email, row.own_email_since
        if link.invitation is not None and not same_email(link.invitation.email, own):
            own, since = normalized_email(link.invitation.email), link.invitation.sent_at
        # What it took from the account before is not the new one's: which of the two was heard of
        # first must not matter.
        name = row.own_name
        return replace(
            row,
            name=name,
            clerk_id=link.account,
            linked_by=link.by,
            linked_since=link.since,
            linked_at=self.now,
            agreed_name=name,
            agreed_name_version="",
            agreed_email=row.email,
            agreed_email_version="",
            own_email=own,
            own_email_since=since,
        )

    def _is_undone(self, row: Row) -> bool:
        """Whether the link that the row had is taken back, with what came of it."""
        account = self.group.accounts.get(row.clerk_id or "")
        return (
            account is not None
            and row.linked_by == LinkedBy.ADDRESS
            and is_untouched(row, account, self.now)
        )


def may_move(row: Row, account: Account, now: datetime) -> bool:
    """Tell whether a link that was made by an address may move to an earlier claim. Else it is
    shown."""
    return row.role != Role.ADMIN and is_untouched(row, account, now)


def is_untouched(row: Row, account: Account, now: datetime) -> bool:
    """Tell whether a link that we made is young, and nobody has relied on it or changed the row
    beside it. The sign-ins of an account that cannot be used any more do not count: they may be
    heard of after its end."""
    signed_in = account.facts.last_sign_in_at
    return (
        row.linked_at is not None
        and now - row.linked_at <= MOVES_WITHIN
        and not row.touched
        and (row.agreed_name is None or same_name(row.name, row.agreed_name))
        and (row.agreed_email is None or same_email(row.email, row.agreed_email))
        and (signed_in is None or signed_in < row.linked_at or not account.usable)
    )


def _unlinked(row: Row, *, undone: bool) -> Row:
    return replace(
        row, name=row.own_name if undone else row.name,
        clerk_id=None, linked_by="", linked_since=None, linked_at=None,
        agreed_name=None, agreed_name_version="", agreed_email=None, agreed_email_version="",
    )  # fmt: skip


def _by_age(account: Account) -> tuple[bool, datetime, str]:
    created = account.created_at
    return created is None, created or datetime.max, account.id


# --- Names and emails ------------------------------------------------------------------------


def _follow(group: Group, decisions: Decisions, now: datetime) -> uuid.UUID | None:
    """Let rows follow their accounts. Gives the reference of an invitation that cannot take
    effect, as another row has its address; None when all is solved."""
    wishes: dict[uuid.UUID, Wishes] = {}
    taken: dict[uuid.UUID, str] = {}
    for row in list(decisions.rows.values()):
        account = group.accounts.get(row.clerk_id or "")
        if row.clerk_id is None and group.rows[row.id].clerk_id is not None:
            wishes[row.id] = _wishes_of_the_unlinked(group.rows[row.id])
            continue
        if account is None or row.busy:
            taken[row.id] = row.email
            continue
        row = decisions.rows[row.id] = _with_name(row, account)
        newly = row.clerk_id != group.rows[row.id].clerk_id
        newly_invited = newly and row.linked_by == LinkedBy.INVITATION
        if wish := _wishes(row, account, newly_invited=newly_invited):
            wishes[row.id] = wish
        else:
            taken[row.id] = row.email
    at_home = {
        row_id: _at_home(group.rows[row_id], decisions.rows[row_id], wish)
        for row_id, wish in wishes.items()
    }
    solved = addresses.solve(at_home, taken=taken) or addresses.solve(wishes, taken=taken)
    if solved is None:
        return _unfulfilled(group, decisions, wishes, taken)
    for row_id, email in solved.items():
        row = decisions.rows[row_id]
        if row.clerk_id is None and not same_email(email, row.own_email):
            row = replace(row, own_email=normalized_email(email), own_email_since=now)
        decisions.rows[row_id] = replace(
            row,
            email=row.email if same_email(row.email, email) else email,
            agreed_email=email if row.clerk_id else None,
            agreed_email_version=max(wishes[row_id].version, row.agreed_email_version),
        )
    return None


def _unfulfilled(
    group: Group,
    decisions: Decisions,
    wishes: Mapping[uuid.UUID, Wishes],
    taken: Mapping[uuid.UUID, str],
) -> uuid.UUID | None:
    """Nobody in the group moves: either an invitation is to blame, or all stay as they are."""
    used = {addresses.key(email) for email in taken.values()}
    for invitation in group.invitations:
        row = decisions.rows.get(invitation.user_id)
        newly = row and row.clerk_id != group.rows[row.id].clerk_id
        if (
            newly
            and row
            and row.linked_by == LinkedBy.INVITATION
            and row.linked_since == invitation.sent_at
            and all(addresses.key(email) in used for email in wishes[row.id].addresses)
        ):
            return invitation.reference
    return None


def _with_name(row: Row, account: Account) -> Row:
    version, theirs = account.facts.name
    if not theirs or row.agreed_name is None or not same_name(row.name, row.agreed_name):
        return row
    if same_name(row.name, theirs):
        return row
    return replace(row, name=theirs, agreed_name=theirs, agreed_name_version=version)


def _wishes(row: Row, account: Account, *, newly_invited: bool) -> Wishes | None:
    """The addresses that the row may take: its account's, else the newest that the account is
    known to have had since the row's own, else its own. None for a row that stays as it is."""
    version, theirs = account.facts.email
    if row.agreed_email is None or not same_email(row.email, row.agreed_email):
        return None
    own = row.own_email or row.email
    if not theirs:
        return None if same_email(own, row.email) else Wishes("", [own])
    held = account.facts.addresses
    own_last = held[normalized_email(own)][1] if normalized_email(own) in held else None
    since = sorted(
        (last, address)
        for address, (_, last) in held.items()
        if own_last is not None and last > own_last
    )
    wished = [theirs, *(address for _, address in reversed(since)), own]
    if not newly_invited:  # else the invitation does not take effect
        wished.append(row.email)
    return Wishes(version, list(dict.fromkeys(wished)))


def _at_home(before: Row, row: Row, wish: Wishes) -> Wishes:
    """Leave out the address to which the row followed an account that is taken back."""
    moved = before.clerk_id is not None and before.clerk_id != row.clerk_id
    undone = moved and before.linked_by == row.linked_by == LinkedBy.ADDRESS
    *others, last = wish.addresses
    foreign = same_email(last, before.email) and not same_email(last, row.own_email)
    return replace(wish, addresses=others) if undone and foreign and others else wish


FIRST = "~"
"""Greater than all versions."""


def _wishes_of_the_unlinked(before: Row) -> Wishes:
    """A row that followed an account which is not its own has its own address back, before all who
    would never have got it otherwise."""
    followed = same_email(before.email, before.agreed_email)
    wished = [before.own_email, before.email] if followed else [before.email]
    return Wishes(FIRST, list(dict.fromkeys(wished)))


# --- Invitations -----------------------------------------------------------------------------


def _settle_invitations(group: Group, decisions: Decisions, now: datetime) -> None:
    for invitation in group.invitations:
        row = decisions.rows.get(invitation.user_id)
        if row is None or row.busy or invitation.status in (State.ACCEPTED, State.REVOKED):
            continue
        account = group.accounts.get(row.clerk_id or "")
        if account is not None and _came_from(account, row, invitation):
            decisions.accepted.add(invitation.reference)
        elif invitation.open and _is_overruled(row, account, invitation, now):
            decisions.closed.add(invitation.reference)


def _came_from(account: Account, row: Row, invitation: Invited) -> bool:
    if account.facts.reference.value == invitation.reference:
        return True
    if row.linked_by == LinkedBy.INVITATION:
        return row.linked_since == invitation.sent_at
    made_after = account.created_at is not None and account.created_at > invitation.sent_at
    return made_after and normalized_email(invitation.email) in account.facts.addresses


def _is_overruled(row: Row, account: Account | None, invitation: Invited, now: datetime) -> bool:
    """Whether somebody decided since what the invitation was to bring about. A link that may still
    move is no decision: who accepted may be heard of later."""
    if row.decided and row.linked_since is not None and row.linked_since > invitation.sent_at:
        return True
    if invitation.purpose == Purpose.NEW_ACCOUNT and row.clerk_id:
        return row.decided or account is None or not may_move(row, account, now)
    moved = row.own_email_since is not None and row.own_email_since > invitation.sent_at
    if invitation.purpose == Purpose.EMAIL_CHANGE:
        return moved
    return moved and not same_email(invitation.email, row.own_email)


# --- What is shown ---------------------------------------------------------------------------


def _explain(group: Group, decisions: Decisions, now: datetime) -> None:
    linked = {row.clerk_id: row for row in decisions.rows.values() if row.clerk_id}
    for account in group.accounts.values():
        row = linked.get(account.id)
        if row is not None and row.busy:
            continue
        if account.released or account.id in decisions.replaced:
            decisions.notes[account.id] = ""
            continue
        decisions.notes[account.id] = (
            _why_it_stays(row, account, decisions)
            if row is not None
            else _why_not_linked(account, group, decisions)
        )
    for row in list(decisions.rows.values()):
        if not row.busy:
            note = _why_in_doubt(row, group, decisions, now)
            decisions.rows[row.id] = replace(row, note=note)


def _why_it_stays(row: Row, account: Account, decisions: Decisions) -> str:
    """Why a row cannot follow its account. Which side moved, of what differs, is not stored: it
    is said where it is shown."""
    notes = []
    theirs = account.facts.email.value
    if theirs and not same_email(row.email, theirs):
        holders = [
            other
            for other in decisions.rows.values()
            if other.id != row.id and addresses.key(other.email) == addresses.key(theirs)
        ]
        notes += [f"Its email belongs to another builder user, {other}." for other in holders]
    columns = account.facts.snapshot.value or {}
    name = names.join(columns.get("first_name", ""), columns.get("last_name", ""))
    notes.append(unfit_name(name))
    return " ".join(filter(None, notes))


def _why_not_linked(account: Account, group: Group, decisions: Decisions) -> str:
    """Why an account that looks like one of ours belongs to nobody."""
    if not account.usable:
        return ""
    for invitation in group.invitations:
        if account.facts.reference.value == invitation.reference and invitation.can_be_accepted:
            row = decisions.rows[invitation.user_id]
            if normalized_email(invitation.email) not in account.facts.addresses:
                return f"It came from the invitation of {row}, but not with its email, verified."
            if invitation.reference in decisions.refused:
                return (
                    f"It accepted the invitation of {row}, but another builder user has its email."
                )
    columns = account.facts.snapshot.value or {}
    email = columns.get("email", "")
    holders = [row for row in decisions.rows.values() if email and same_email(row.email, email)]
    claimed = decisions.rows.get(account.claimed_id) if account.claimed_id else None
    if len(holders) > 1:
        return "Several builder users have its email. Nothing was linked."
    if holders and not columns.get("email_verified"):
        return f"{holders[0]} has its email, but it is not verified. Nothing was linked."
    if holders and holders[0].clerk_id:
        return f"{holders[0]} has its email and {_has(holders[0], group)}. Nothing was linked."
    if holders and not account.confirmed:
        return f"{holders[0]} has its email, but Clerk did not find it. Nothing was linked."
    if claimed is not None and claimed.clerk_id:
        return f"Its metadata names {claimed}, who has another Clerk account. Nothing was linked."
    if claimed is not None:
        return f"Its metadata names {claimed}. That alone is no proof, so nothing was linked."
    return ""


def _has(row: Row, group: Group) -> str:
    account = group.accounts.get(row.clerk_id or "")
    if account is not None and account.deleted:
        return "is linked to an account that was deleted in Clerk: link this one by hand"
    return "another Clerk account"


def _why_in_doubt(row: Row, group: Group, decisions: Decisions, now: datetime) -> str:
    """Why the row has no account, or not the one that it seems to belong to."""
    if row.own_email_since is None:
        return ""
    current = group.accounts.get(row.clerk_id or "")
    linked = {other.clerk_id for other in decisions.rows.values()}
    claims = sorted(
        (claimed_at, account.id)
        for account in group.accounts.values()
        if account.usable
        and account.confirmed
        and account.id not in linked
        and (claimed_at := account.held(row.own_email, since=row.own_email_since, now=now))
    )
    if claims and current is not None and current.deleted:
        return (
            f"Its Clerk account was deleted. {claims[0][1]} has had this email: link it if it is "
            "the same person."
        )
    if claims and row.linked_by == LinkedBy.ADDRESS and claims[0][0] < (row.linked_since or now):
        return (
            f"It was linked by its email, but {claims[0][1]} had that email earlier. Look at both, "
            "and link the right one."
        )
    if row.clerk_id is None:
        gone = [
            f"Its Clerk account {account.id} was {'deleted' if account.deleted else 'banned'}."
            for account in group.accounts.values()
            if not account.usable
            and not account.released
            and account.held(row.own_email, since=row.own_email_since, now=now)
        ]
        notes = [
            f"{account.id}: {decisions.notes[account.id]}"
            for account in group.accounts.values()
            if decisions.notes.get(account.id)
            and (account.claimed_id == row.id or _shows(account, row.email))
        ]
        return " ".join([*gone, *notes])
    return ""


def _shows(account: Account, email: str) -> bool:
    return same_email((account.facts.snapshot.value or {}).get("email", ""), email)
