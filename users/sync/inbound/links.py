"""Decide which account belongs to which row; in doubt none.

The newest decision of staff counts, and an accepted invitation is one. Without a decision, the row
belongs to the account that had its verified address first.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from users.models import Invitation, LinkedBy, Role
from users.sync.inbound.facts import UNSET
from users.sync.inbound.group import Account, DecidedLink, Decisions, Group, Invited, Row
from users.sync.mirror.comparison import normalized_email, same_email, same_name

MOVES_WITHIN = timedelta(hours=28)
"""How long a link that was made by an address may move to an earlier claim.

Svix tries to deliver an event for 28 hours.
"""

AT_CREATION = datetime.min
"""The time of the claim of an account that our own create made: before all other claims."""

Purpose = Invitation.Purpose


@dataclass(frozen=True)
class _Link:
    account: str
    by: str
    since: datetime | None
    invitation: Invited | None = None
    restored: bool = False


class Links:
    """Decide which account belongs to which row.

    Invitations in `refused` cannot be applied: another row has their address. Nor can those whose
    author may not manage administrators, once the row is an administrator's.
    """

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
        """Return the rows with their links, and the accounts that were replaced.

        Accepted invitations are applied first, newest first; then the remaining rows are claimed by
        address.
        """
        pairs = sorted(self._accepted(), key=lambda pair: pair[0].sent_at, reverse=True)
        for invitation, account in pairs:
            self._accept(invitation, account)
        replaced = dict(self._replaced(pairs))
        # Accounts that accepted an invitation which cannot be applied.
        in_doubt = {account.id for one, account in pairs if self._is_refused(one)}
        self._claim({*in_doubt, *replaced})
        held = {link.account for link in self.links.values()}
        return Decisions(
            rows={row.id: self._linked(row) for row in self.group.rows.values()},
            replaced={one: row_id for one, row_id in replaced.items() if one not in held},
        )

    # Invitations

    def _accepted(self) -> Iterator[tuple[Invited, Account]]:
        """Yield the invitations that were accepted, each with the account that came from it.

        The invitation counts even if the account was banned or deleted since.
        """
        for invitation in self.group.invitations:
            if not invitation.can_be_accepted or invitation.user_id not in self.group.rows:
                continue
            came = [
                account
                for account in self.group.accounts.values()
                if account.facts.reference.value == invitation.reference
                and normalized_email(invitation.email) in account.facts.addresses
            ] or self._without_metadata(invitation)
            if came:
                yield invitation, min(came, key=lambda one: (not one.usable, *_by_age(one)))

    def _without_metadata(self, invitation: Invited) -> list[Account]:
        """Return the accounts that came from the invitation by their address alone.

        Clerk has lost metadata before. Then an account counts if it was made with the address, and
        exactly one open invitation was sent to this address before. This does not apply to
        administrators.
        """
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
            and account.facts.reference is UNSET
            and account.was_made_with(address)
            and account.created_at is not None
            and account.created_at > invitation.sent_at
        ]

    def _is_guess(self, row: Row, invitation: Invited) -> bool:
        """Return whether the row's account came from the invitation by its address alone.

        Then a better or an earlier account may still become known.
        """
        chosen = self.group.accounts.get(_accepted_by(row, invitation) or "")
        account = self.group.accounts.get(row.clerk_id or "")
        return (
            chosen is not None
            and chosen.facts.reference.value != invitation.reference
            and account is not None
            and may_move(row, account, self.now)
        )

    def _is_provisional(self, row: Row, invitation: Invited) -> bool:
        """Return whether no person chose the row's account.

        The row would not have this account if the acceptance had been known first.
        """
        since = row.linked_at if row.linked_by == LinkedBy.ADDRESS else None
        return (since is not None and since > invitation.sent_at) or self._is_guess(row, invitation)

    def _accept(self, invitation: Invited, account: Account) -> None:
        """Link the account to the row of its invitation, unless staff decided otherwise since.

        The newest decision of staff wins; the time of an invitation is the time at which it was
        sent.
        """
        row = self.group.rows[invitation.user_id]
        link = self.links.get(row.id)
        if row.busy or account.released or self._is_refused(invitation):
            return
        if link is not None and link.account == account.id and link.by == LinkedBy.INVITATION:
            return
        if link is not None and _accepted_by(row, invitation) == account.id:
            return  # it was deleted since, and another account has the row by its address
        if self._is_decided_since(row, invitation):
            return
        if any(
            other.account == account.id and other_id != row.id and not self._is_open(other_id)
            for other_id, other in self.links.items()
        ):
            return
        self._free(account.id)
        self.links[row.id] = _Link(account.id, LinkedBy.INVITATION, invitation.sent_at, invitation)

    def _is_decided_since(self, row: Row, invitation: Invited) -> bool:
        """Return whether a later decision about the row's link overrules the invitation.

        A decision whose time is not known overrules it, too.
        """
        link, decision = self.links.get(row.id), row.decision
        if link is not None and link.invitation is not None:
            decided_at = link.since
        elif decision is not None and not self._is_guess(row, invitation):
            decided_at = decision.linked_since
        else:
            return False
        return decided_at is None or decided_at >= invitation.sent_at

    def _replaced(
        self, pairs: Sequence[tuple[Invited, Account]]
    ) -> Iterator[tuple[str, uuid.UUID]]:
        """Yield the accounts that a newer invitation of their row replaced, with the id of the row.

        These are the accounts of older invitations, and the account that the row had before.
        """
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
                if account.id != link.account and not account.released:
                    yield account.id, row.id

    # Claims by address

    def _is_refused(self, invitation: Invited) -> bool:
        row = self.group.rows[invitation.user_id]
        return invitation.reference in self.refused or not invitation.may_link(row)

    def _claim(self, in_doubt: Collection[str]) -> None:
        """Link the rows without a decided account to the accounts that had their address.

        The earliest claim comes first. Accounts in `in_doubt` get no link.
        """
        self._undo_links()
        self._date_links()
        ambiguous = self._ambiguous()
        open_rows = [
            row
            for row in self.group.rows.values()
            if self._is_open(row.id)
            and row.id not in ambiguous
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
                self.links[row.id] = _Link(account_id, LinkedBy.ADDRESS, self._date_of(claimed_at))

    def _ambiguous(self) -> set[uuid.UUID]:
        """Return the rows that share their own email with another row that may still have it.

        Emails are unique, so the row that got a shared one last has it, and the others left it.
        Old rows may have the same one, and then none of them counts.
        """
        sharing: dict[str, list[Row]] = defaultdict(list)
        for row in self.group.rows.values():
            sharing[normalized_email(row.own_email)].append(row)
        ambiguous: set[uuid.UUID] = set()
        for email, rows in sharing.items():
            *others, last = sorted(rows, key=_own_since)
            ambiguous |= {row.id for row in others}
            together = any(_own_since(row) == _own_since(last) for row in others)
            if together or sum(same_email(row.email, email) for row in rows) > 1:
                ambiguous.add(last.id)
        return ambiguous

    def _undo_links(self) -> None:
        """Take back links by address that would not be made with what is known now.

        That is so if the account cannot be used any more, if it had left the address before the row
        got it, or if the decided account still exists after all. Only links that nobody here has
        relied on are taken back; the decided account is restored. A sign-in does not keep such a
        link: it does not show whose account it is, and its event may arrive before or after.
        """
        for row in self.group.rows.values():
            link = self.links.get(row.id)
            account = self.group.accounts.get(link.account) if link else None
            if (
                link is None
                or account is None
                or link.by != LinkedBy.ADDRESS
                or row.busy
                or not is_untouched(row, self.now)
            ):
                continue
            decided = self._decided_account(row)
            exists = decided is not None and not decided.deleted
            if exists or not account.usable or self._is_void(link, account, row):
                self._undo(row)

    def _date_links(self) -> None:
        """Date links by address by the earliest claim of their account that is known."""
        for row_id, link in self.links.items():
            row, account = self.group.rows[row_id], self.group.accounts.get(link.account)
            if row.busy or account is None or link.by != LinkedBy.ADDRESS or link.since is None:
                continue
            claimed_at = self._claimed_at(account, row)
            if claimed_at is not None and self._date_of(claimed_at) < link.since:
                self.links[row_id] = replace(link, since=claimed_at)

    def _is_void(self, link: _Link, account: Account, row: Row) -> bool:
        """Return whether the claim of the link is not true with what is known now.

        A row that got another address since keeps its link.
        """
        since = row.own_email_since
        if since is None or link.since is None or since > link.since:
            return False
        return account.held(row.own_email, since=since, now=self.now) is None

    def _decided_account(self, row: Row) -> Account | None:
        """Return the account that was decided for the row before it was linked by its address."""
        decided = row.decided_link
        account = self.group.accounts.get(decided.clerk_id or "") if decided else None
        return None if account is None or account.released else account

    def _undo(self, row: Row) -> None:
        """Take the account from the row, and restore the account that was decided before."""
        del self.links[row.id]
        decided, account = row.decided_link, self._decided_account(row)
        held = {link.account for link in self.links.values()}
        if decided and account and account.id not in held:
            by, since = decided.linked_by, decided.linked_since
            self.links[row.id] = _Link(account.id, by, since, restored=True)

    def _waits_for_a_person(self, row: Row) -> bool:
        """Return whether staff must choose the account of this row.

        If an administrator's account was deleted or banned, the row gets no other account
        automatically.
        """
        if row.role != Role.ADMIN:
            return False
        claims = [
            (claimed_at, account.id, account)
            for account in self.group.accounts.values()
            if not account.released and (claimed_at := self._claimed_at(account, row))
        ]
        return bool(claims) and not min(claims)[2].usable

    def _comes_first(self, row: Row, claimed_at: datetime, account_id: str) -> bool:
        """Return whether the claim comes before the row's link.

        A link to a usable account moves only to an earlier claim.
        """
        link = self.links.get(row.id)
        if link is None or link.account == account_id or link.since is None:
            return True
        if not self.group.accounts[link.account].usable:
            return True
        return (claimed_at, account_id) < (link.since, link.account)

    def _date_of(self, claimed_at: datetime) -> datetime:
        """Return the time to store for a claim: now, if the claim is that of our own create."""
        return self.now if claimed_at.year == AT_CREATION.year else claimed_at

    def _claimed_at(self, account: Account, row: Row) -> datetime | None:
        """Return when the account got the row's own address, None if it never did.

        A claim by which both are already linked stands, even if the row has another address now.
        """
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
        """Return whether the row may be given an account, or another one, automatically."""
        row, link = self.group.rows[row_id], self.links.get(row_id)
        if row.busy:
            return False
        if link is None:
            return True
        account = self.group.accounts.get(link.account)
        if account is None or link.invitation is not None:
            return False  # the acceptance counts first, even if its account was deleted since
        if account.deleted:
            return row.role != Role.ADMIN
        return link.by == LinkedBy.ADDRESS and may_move(row, account, self.now)

    def _free(self, account_id: str) -> None:
        """Take the account from the row that has it."""
        for row_id, link in list(self.links.items()):
            if link.account == account_id:
                self._undo(self.group.rows[row_id])

    def _linked(self, row: Row) -> Row:
        """Return the row with its link, and with the values on which it agrees with the account."""
        link = self.links.get(row.id)
        if link is None and row.clerk_id is None:
            return row if row.lost_account else replace(row, decided_link=None)
        if link is None:
            return _unlinked(row, undone=self._is_undone(row))
        if link.restored:
            return _with_restored_link(row)
        invited = link.invitation
        if invited is not None and not same_email(invited.email, row.own_email):
            own_email = normalized_email(invited.email)
            row = replace(row, own_email=own_email, own_email_since=invited.sent_at)
        if link.account == row.clerk_id:
            return replace(row, linked_by=link.by, linked_since=link.since)
        account = self.group.accounts[link.account]
        # Drop the name that came from the earlier account: the result must not depend on which of
        # the two accounts became known first, nor on when the account had the row's name.
        name = row.own_name
        agreed = any(same_name(name, one) for one in account.facts.names)
        return replace(
            row,
            name=name,
            clerk_id=link.account,
            linked_by=link.by,
            linked_since=link.since,
            linked_at=self.now,
            agreed_name=name if agreed else None,
            agreed_name_version="",
            agreed_email=row.email,
            agreed_email_version="",
            decided_link=self._to_restore(row) if link.by == LinkedBy.ADDRESS else None,
        )

    def _to_restore(self, row: Row) -> DecidedLink | None:
        """Return the link to restore if the account that the row gets now is taken back.

        This is the present link if a person decided it or has relied on it.
        """
        if not row.decided and (row.clerk_id is None or is_untouched(row, self.now)):
            return row.decided_link if row.clerk_id is not None else None
        names_agree = row.agreed_name is not None and same_name(row.name, row.agreed_name)
        emails_agree = row.agreed_email is not None and same_email(row.email, row.agreed_email)
        return DecidedLink(
            row.clerk_id,
            row.linked_by,
            row.linked_since,
            agreed_name=row.own_name if names_agree else row.agreed_name,
            agreed_name_version=row.agreed_name_version,
            agreed_email=row.own_email if emails_agree else row.agreed_email,
            agreed_email_version=row.agreed_email_version,
        )

    def _is_undone(self, row: Row) -> bool:
        """Return whether the row's link is taken back together with its effects."""
        return row.linked_by == LinkedBy.ADDRESS and is_untouched(row, self.now)


def _accepted_by(row: Row, invitation: Invited) -> str | None:
    """Return the account that the row got, or had before its present one, from the invitation."""
    decision = row.decision
    if decision is None or decision.linked_by != LinkedBy.INVITATION:
        return None
    return decision.clerk_id if decision.linked_since == invitation.sent_at else None


def may_move(row: Row, account: Account, now: datetime) -> bool:
    """Return whether a link that was made by an address may move to an earlier claim.

    If it may not, the doubt is only shown. A sign-in since the link counts as reliance, except of
    an account that cannot be used any more: its events may arrive late.
    """
    signed_in = account.facts.last_sign_in_at
    return (
        row.role != Role.ADMIN
        and is_untouched(row, now)
        and (
            row.linked_at is None
            or signed_in is None
            or signed_in < row.linked_at
            or not account.usable
        )
    )


def is_untouched(row: Row, now: datetime) -> bool:
    """Return whether an automatic link is young, and nobody here has relied on it.

    Changes of the row and actions of staff since the link count as reliance.
    """
    return (
        row.linked_at is not None
        and now - row.linked_at <= MOVES_WITHIN
        and not row.touched
        and (row.agreed_name is None or same_name(row.name, row.agreed_name))
        and (row.agreed_email is None or same_email(row.email, row.agreed_email))
    )


def _unlinked(row: Row, *, undone: bool) -> Row:
    """Return the row without an account, with the decision that it has none, if there was one."""
    decision = row.decided_link if row.decided_link and not row.decided_link.clerk_id else None
    lost = DecidedLink(
        clerk_id=row.clerk_id, linked_by=LinkedBy.ADDRESS, linked_since=row.linked_since,
        agreed_name=None, agreed_name_version="", agreed_email=None, agreed_email_version="",
    )  # fmt: skip
    return replace(
        row, name=row.own_name if undone else row.name,
        clerk_id=None, linked_at=None, decided_link=lost if undone else None,
        linked_by=decision.linked_by if decision else "",
        linked_since=decision.linked_since if decision else None,
        agreed_name=None, agreed_name_version="", agreed_email=None, agreed_email_version="",
    )  # fmt: skip


def _with_restored_link(row: Row) -> Row:
    """Return the row with its decided account, as it was before it got the other one.

    Its email is solved together with those of all other rows.
    """
    link = row.decided_link
    assert link is not None, row
    return replace(
        row, name=row.own_name, linked_at=None, decided_link=None,
        clerk_id=link.clerk_id, linked_by=link.linked_by, linked_since=link.linked_since,
        agreed_name=link.agreed_name, agreed_name_version=link.agreed_name_version,
        agreed_email=link.agreed_email, agreed_email_version=link.agreed_email_version,
    )  # fmt: skip


def _own_since(row: Row) -> datetime:
    """Return when the row got its own email; the end of time if that is not known."""
    return row.own_email_since or datetime.max.replace(tzinfo=UTC)


def _by_age(account: Account) -> tuple[bool, datetime, str]:
    created = account.created_at
    return created is None, created or datetime.max, account.id
