"""What must hold, said without the code that is tested."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.campaign.inbound.clerk import Clerk, Told
from tests.campaign.inbound.office import Office
from users.models import LinkedBy, Role
from users.sync.inbound.group import Row
from users.sync.mirror.comparison import same_email, same_name


@dataclass
class Truths:
    """What was told so far, as an oracle of its own: who is dead, banned, and had which address or
    name."""

    newest: dict[str, Told] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    had: dict[str, set[str]] = field(default_factory=dict)
    named: dict[str, set[str]] = field(default_factory=dict)
    links: set[tuple[uuid.UUID, str]] = field(default_factory=set)
    """Each row with the accounts that it had so far: such a one may be given back to it, although
    it is dead, when the account that took its place is gone as well."""

    def copy(self) -> Truths:
        had = {one: set(emails) for one, emails in self.had.items()}
        named = {one: set(shown) for one, shown in self.named.items()}
        return Truths(dict(self.newest), set(self.dead), had, named, set(self.links))

    def take(self, other: Truths) -> None:
        self.newest, self.dead = other.newest, other.dead
        self.had, self.named, self.links = other.had, other.named, other.links

    def told(self, one: Told) -> None:
        if one.user is None:
            self.dead.add(one.clerk_id)
            return
        newest = self.newest.get(one.clerk_id)
        if newest is None or newest.at <= one.at:
            self.newest[one.clerk_id] = one
        self.named.setdefault(one.clerk_id, set()).add(one.user.name)
        if one.user.email and one.user.email_verified:
            self.had.setdefault(one.clerk_id, set()).add(one.user.email)

    def check(self, before: Office, after: Office, told: Told) -> None:
        rows = list(after.rows.values())
        _once([row.email.lower() for row in rows], "two rows have one email")
        _once([row.clerk_id for row in rows if row.clerk_id], "two rows have one account")
        for row in rows:
            self._check_link(before.rows[row.id], row, after)
            _check_correction(before.rows[row.id], row, told)
            _check_explained(row, after)
            self.links |= {(row.id, row.clerk_id)} if row.clerk_id else set()

    def _check_link(self, before: Row, row: Row, office: Office) -> None:
        if row.clerk_id == before.clerk_id:
            return
        if row.role == Role.ADMIN:
            _check_administrator(before, row, office)
        if row.clerk_id is not None and row.linked_by == LinkedBy.ADDRESS:
            account = row.clerk_id
            newest = self.newest[account].user
            again = (row.id, account) in self.links
            assert again or account not in self.dead, f"{row} was linked to the dead {account}"
            assert newest is not None
            assert again or not newest.banned, f"{row} was linked to the banned {account}"
            assert again or row.own_email in self.had.get(account, ()), (
                f"{account} never had {row.own_email}"
            )
            assert not office.accounts[account].released, f"{account} was released by staff"
        if row.clerk_id is not None and row.linked_by in (LinkedBy.ADDRESS, LinkedBy.INVITATION):
            same = row.own_name in self.named.get(row.clerk_id, ())
            assert same or row.name == row.own_name, f"the name of {before} was lost: {row}"
        if before.clerk_id is not None and before.linked_by in (LinkedBy.STAFF, LinkedBy.INHERITED):
            newer = row.linked_by == LinkedBy.INVITATION and row.linked_since > before.linked_since
            freed = before.clerk_id in self.dead and row.clerk_id is not None
            elsewhere = any(
                other.clerk_id == before.clerk_id and other.linked_by == LinkedBy.INVITATION
                for other in office.rows.values()
            )
            # An account that came from an invitation took its place, and was freed itself.
            replaced = office.replaced.get(before.clerk_id) == row.id
            assert newer or freed or elsewhere or replaced, f"a decision about {row} was undone"

    @staticmethod
    def check_scanned(row: Row, office: Office, clerk: Clerk) -> None:
        """After a scan a row has what Clerk has, or it is seen that it has not, and why."""
        if row.clerk_id is None:
            return
        user, account = clerk.users.get(row.clerk_id), office.accounts[row.clerk_id]
        assert account.deleted == (user is None), f"{row}: {row.clerk_id} is not as in Clerk"
        if user is None:
            return
        moved = row.agreed_email is None or not same_email(row.email, row.agreed_email)
        explained = moved or bool(office.notes.get(row.clerk_id))
        assert not user.email or same_email(row.email, user.email) or explained, f"{row}: {user}"
        moved = row.agreed_name is None or not same_name(row.name, row.agreed_name)
        assert not user.name or same_name(row.name, user.name) or moved, f"{row}: {user}"

    @staticmethod
    def end(office: Office) -> dict[str, Any]:
        """What must not depend on the order."""
        return {
            "row": {
                row.id.int: (
                    row.name, row.email, row.clerk_id, row.linked_by, row.agreed_name,
                    row.agreed_email, row.own_email, row.note,
                )
                for row in office.rows.values()
            },
            "invitation": {one.int: invited.status for one, invited in office.invitations.items()},
            "account": {
                one: (account.released, office.replaced.get(one), office.notes.get(one, ""))
                for one, account in sorted(office.accounts.items())
                if not account.deleted  # it makes no difference whether it was replaced before
            },
        }  # fmt: skip


def _once(values: list[Any], problem: str) -> None:
    twice = [value for value, times in Counter(values).items() if times > 1]
    assert not twice, f"{problem}: {twice}"


def _check_administrator(before: Row, row: Row, office: Office) -> None:
    """The machine never gives the row of an administrator to another account, nor takes it away.

    An accepted invitation is a decision of staff. An account that nobody is linked to, and that had
    the address first, may be linked. What turns out to be dead, banned or another's is taken back.
    """
    if row.clerk_id is not None and row.linked_by == LinkedBy.INVITATION:
        [invited] = [
            one for one in office.invitations.values()
            if one.user_id == row.id and one.sent_at == row.linked_since
        ]  # fmt: skip
        assert invited.for_admins, f"{row} was given to the account of an invitation of others"
        guessed = office.accounts[row.clerk_id].facts.reference.value != invited.reference
        assert not guessed, f"the administrator {row} was given to {row.clerk_id} on a guess"
    elif before.clerk_id is not None and row.clerk_id is not None:
        back = before.decided_link is not None and before.decided_link.clerk_id == row.clerk_id
        assert back, (
            f"the administrator {before} was moved from {before.clerk_id} to {row.clerk_id}"
        )


def _check_correction(before: Row, row: Row, told: Told) -> None:
    """A name that was corrected here is not reverted, unless Clerk shows that it had it, too."""
    corrected = before.agreed_name is not None and not same_name(before.name, before.agreed_name)
    shown = told.user is not None and same_name(told.user.name, before.name)
    if corrected and row.clerk_id == before.clerk_id and not shown:
        assert row.name == before.name, f"{before} was renamed here, and reverted to {row}"


def _check_explained(row: Row, office: Office) -> None:
    """A row that did not move follows its account, or the account's note says why not."""
    if row.clerk_id is None:
        return
    facts, note = office.accounts[row.clerk_id].facts, office.notes.get(row.clerk_id)
    for agreed, ours, theirs in (
        (row.agreed_name, row.name, facts.name.value),
        (row.agreed_email, row.email, facts.email.value),
    ):
        if theirs and agreed == ours and not same_name(ours, theirs):
            assert note, f"{row} has {ours}, its account {theirs}, and nobody says why"
