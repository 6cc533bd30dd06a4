"""Define the input and output of decisions: related rows, accounts and invitations."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from users.models import InvitationStatus, LinkedBy, Role
from users.sync.inbound.facts import Facts, holds_now
from users.sync.mirror.comparison import normalized_email, same_email

AT_ONCE = timedelta(seconds=30)
"""How long after its creation the first state of an account may be dated."""


@dataclass(frozen=True)
class Account:
    """An account as all facts show it.

    `released` says that staff, or a newer account, detached it from its row.
    """

    id: str
    facts: Facts
    released: bool = False

    @property
    def deleted(self) -> bool:
        """Return whether the account was deleted in Clerk."""
        return self.facts.deleted_at is not None

    @property
    def banned(self) -> bool:
        """Return whether the newest state is banned."""
        return bool((self.facts.snapshot.value or {}).get("banned"))

    @property
    def usable(self) -> bool:
        """Return whether the account may be linked to a row automatically."""
        return not (self.deleted or self.banned or self.released)

    @property
    def confirmed(self) -> bool:
        """Return whether Clerk's last answer about the account was not a 404.

        A 404 may be true for a moment only. So an existing link stays, but the account gets no new
        link.
        """
        return self.facts.not_found_at is None

    @property
    def created_at(self) -> datetime | None:
        """Return when the account was created in Clerk, None if that is not known."""
        created: datetime | None = (self.facts.snapshot.value or {}).get("clerk_created_at")
        return created

    def was_made_with(self, address: str) -> bool:
        """Return whether the account is known to have had the verified address from the beginning.

        All facts agree about it, however late they arrive: a person cannot change the address
        within `AT_ONCE`.
        """
        held = self.facts.addresses.get(normalized_email(address))
        return bool(held and self.created_at and held[0] - self.created_at < AT_ONCE)

    @property
    def claimed_id(self) -> uuid.UUID | None:
        """Return the row id in the account's metadata, None if there is none."""
        claimed: uuid.UUID | None = (self.facts.snapshot.value or {}).get("claimed_id")
        return claimed

    def held(self, address: str, *, since: datetime, now: datetime) -> datetime | None:
        """Return when the account first had the verified address, at or after `since`.

        None if it never had.
        """
        held = self.facts.addresses.get(normalized_email(address))
        if held is None:
            return None
        first, last = held
        if not holds_now(self.facts, normalized_email(address)) and last < since:
            return None
        return max(first, since)


@dataclass(frozen=True)
class DecidedLink:
    """The link that a person decided for a row, with the agreed values.

    Without `clerk_id`, the person decided that the row has no account. The decision is stored while
    the row is linked by its address to another account. If that account is taken from the row, the
    decided link is restored. A link by an address that somebody has relied on is stored and
    restored in the same way.

    A row without an account stores here the link that it lost, as long as it has the email of that
    account (`Row.lost_account`). Such a link is never restored.
    """

    clerk_id: str | None
    linked_by: str
    linked_since: datetime | None
    agreed_name: str | None
    agreed_name_version: str
    agreed_email: str | None
    agreed_email_version: str


@dataclass(frozen=True)
class Row:
    """A row, with what is stored about it in `users.models.Agreement`.

    `own_name` and `own_email` are the values that the row has by itself, not from its account; it
    has the address since `own_email_since`. A `busy` row has a pending change, or is being saved,
    and stays as it is. `touched` says that staff acted on it since `linked_at`. `created_here` says
    that our own create asked Clerk for an account of the row, and that the row has none yet.
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
    decided_link: DecidedLink | None = None
    busy: bool = False
    touched: bool = False
    created_here: bool = False

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def decided(self) -> bool:
        """Return whether a person decided the link of the row, or that it has none."""
        return self.linked_by not in ("", LinkedBy.ADDRESS)

    @property
    def decision(self) -> Row | DecidedLink | None:
        """Return what a person last decided about the link, None if nobody did."""
        link: Row | DecidedLink | None = self if self.decided else self.decided_link
        return None if link is None or link.linked_by == LinkedBy.ADDRESS else link

    def is_decided_since(self, moment: datetime) -> bool:
        """Return whether a person decided about the link at this moment or later.

        A decision whose time is not known counts as later.
        """
        decided_at = self.decision.linked_since if self.decision is not None else None
        return self.decision is not None and (decided_at is None or decided_at >= moment)

    @property
    def waits_for_own_email(self) -> bool:
        """Return whether the row has the email of an account that it lost, and not its own email.

        Another row had the row's own email at that time. The row gets it back when it is free.
        """
        brought = self.agreed_email is not None and same_email(self.email, self.agreed_email)
        return brought and not same_email(self.email, self.own_email)

    @property
    def lost_account(self) -> str | None:
        """Return the account that the row lost, None if it has an account or its own email.

        The email that the row still has comes from that account.
        """
        if self.clerk_id is not None or self.decided_link is None or not self.waits_for_own_email:
            return None
        return self.decided_link.clerk_id

    def is_restored(self, earlier: Row) -> bool:
        """Return whether the row has its decided account again, in place of the `earlier` one."""
        link = earlier.decided_link if earlier.clerk_id is not None else None
        return link is not None and link.clerk_id is not None and self.clerk_id == link.clerk_id


@dataclass(frozen=True)
class Invited:
    """An invitation that was sent, or that waits to be sent.

    `for_admins` says that it may give the row of an administrator to whoever accepts it.
    """

    reference: uuid.UUID
    user_id: uuid.UUID
    email: str
    purpose: str
    status: str
    sent_at: datetime
    for_admins: bool

    def may_link(self, row: Row) -> bool:
        """Return whether the author of the invitation was allowed to invite to this row.

        Another application may have made the user an administrator since.
        """
        return self.for_admins or row.role != Role.ADMIN

    @property
    def open(self) -> bool:
        """Return whether the invitation waits to be sent or to be accepted."""
        return self.status in (InvitationStatus.WAITING, InvitationStatus.PENDING)

    @property
    def can_be_accepted(self) -> bool:
        """Return whether an account can come from the invitation, now or in a late event."""
        return self.status in (
            InvitationStatus.PENDING,
            InvitationStatus.EXPIRED,
            InvitationStatus.ACCEPTED,
        )


@dataclass(frozen=True)
class Group:
    """Rows and accounts that are related by links, addresses or invitations."""

    accounts: Mapping[str, Account]
    rows: Mapping[uuid.UUID, Row]
    invitations: Sequence[Invited] = ()


@dataclass
class Decisions:
    """The target state of a group.

    `rows` holds the rows as they should be. `notes` says for each account why it is not linked or
    does not match. `accepted` and `closed` are references of invitations. `replaced` maps each
    replaced account to its row. `refused` holds invitations that cannot be applied because another
    row has their address.
    """

    rows: dict[uuid.UUID, Row]
    notes: dict[str, str] = field(default_factory=dict)
    accepted: set[uuid.UUID] = field(default_factory=set)
    closed: set[uuid.UUID] = field(default_factory=set)
    replaced: dict[str, uuid.UUID] = field(default_factory=dict)
    refused: set[uuid.UUID] = field(default_factory=set)
