"""What decisions are derived from, and what they are: rows, accounts and invitations that have to
do with one another."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from users.models import InvitationStatus, LinkedBy
from users.sync.inbound.facts import Facts, holds_now
from users.sync.mirror.comparison import normalized_email


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
class DecidedLink:
    """The link, or none, that a person decided for a row, and what the row and that account agree
    on. It is kept while the row has another account by its address, and is given back with it."""

    clerk_id: str | None
    linked_by: str
    linked_since: datetime | None
    agreed_name: str | None
    agreed_name_version: str
    agreed_email: str | None
    agreed_email_version: str


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
    decided_link: DecidedLink | None = None
    busy: bool = False
    touched: bool = False
    created_here: bool = False

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def decided(self) -> bool:
        """Whether a person decided its link, or its having none."""
        return self.linked_by not in ("", LinkedBy.ADDRESS)

    @property
    def decision(self) -> Row | DecidedLink | None:
        """What a person decided last about its link."""
        return self if self.decided else self.decided_link

    def is_given_back(self, earlier: Row) -> bool:
        """Tell whether it has the decided account again, in place of one that it had since."""
        link = earlier.decided_link
        return link is not None and link.clerk_id is not None and self.clerk_id == link.clerk_id


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
        return self.status in (InvitationStatus.WAITING, InvitationStatus.PENDING)

    @property
    def can_be_accepted(self) -> bool:
        """Whether an account can come from it, now or in an event that comes late."""
        return self.status in (
            InvitationStatus.PENDING,
            InvitationStatus.EXPIRED,
            InvitationStatus.ACCEPTED,
        )


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
