"""Rows, accounts and invitations in memory, for what is derived from them without a database."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

from users.clerk import ClerkUser
from users.clerk.metadata import OUR_ID, OUR_INVITATION
from users.models import Invitation, InvitationStatus, LinkedBy, Role
from users.sync.inbound import decisions, facts
from users.sync.inbound.facts import Facts
from users.sync.inbound.group import Account, Decisions, Group, Invited, Row

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
ANN, LEE, EVE = "ann@example.com", "lee@example.com", "eve@example.com"


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


NOW = at(600)


def id_of(number: int) -> uuid.UUID:
    return uuid.UUID(int=number)


def shown(
    minute: float,
    email: str = ANN,
    name: str = "Ann Lee",
    *,
    verified: bool = True,
    created: float | None = None,
    claims: int | None = None,
    accepted: int | None = None,
    signed_in: float | None = None,
    answer: bool = False,
    banned: bool = False,
) -> Facts:
    """What an account showed at a minute. `claims` is a row, `accepted` an invitation."""
    first, _, last = name.partition(" ")
    metadata = {
        OUR_ID: claims and str(id_of(claims)),
        OUR_INVITATION: accepted and str(id_of(accepted)),
    }
    user = ClerkUser(
        id="", email=email, email_verified=verified, first_name=first, last_name=last,
        banned=banned, updated_at=at(minute), public_metadata=metadata,
        created_at=None if created is None else at(created),
        last_sign_in_at=None if signed_in is None else at(signed_in),
        asked_at=at(minute) if answer else None,
    )  # fmt: skip
    return facts.of_user(user, observed_at=at(minute))


def deleted(minute: float) -> Facts:
    return facts.of_deletion(at(minute))


def not_found(minute: float) -> Facts:
    return facts.of_not_found(at(minute))


def account(name: str, *known: Facts, released: bool = False) -> Account:
    return Account(name, reduce(facts.join, known), released=released)


def row(number: int, email: str = ANN, name: str = "Ann Lee", **fields: Any) -> Row:
    """A row that has had its name and its email since the beginning."""
    values = {
        "own_name": name, "own_email": email, "own_email_since": at(0), "role": Role.BUILDER,
        "clerk_id": None,
    }  # fmt: skip
    return Row(id=id_of(number), name=name, email=email, **(values | fields))


def linked(to: str, by: str = LinkedBy.ADDRESS, *, since: float | None = 30, **fields: Any) -> Any:
    """The columns of a row that agrees with its account; a link by address is an hour old."""
    values = {
        "clerk_id": to, "linked_by": by, "linked_since": None if since is None else at(since),
        "linked_at": at(540) if by == LinkedBy.ADDRESS else None,
        "agreed_name": "Ann Lee", "agreed_email": ANN,
    }  # fmt: skip
    return values | fields


def invited(
    number: int, to: int = 1, email: str = ANN, *, sent: float = 100, **fields: Any
) -> Invited:
    values = {
        "purpose": Invitation.Purpose.NEW_ACCOUNT, "status": InvitationStatus.PENDING,
        "for_admins": False,
    }  # fmt: skip
    return Invited(
        reference=id_of(number),
        user_id=id_of(to),
        email=email,
        sent_at=at(sent),
        **(values | fields),
    )


def derive(*known: Row | Account | Invited, now: datetime = NOW) -> Decisions:
    """Derive what follows, whatever the order in which it is known."""
    decided = decisions.derive(_group(known), now=now)
    assert decisions.derive(_group(known[::-1]), now=now) == decided
    return decided


def _group(known: Iterable[Row | Account | Invited]) -> Group:
    known = list(known)
    return Group(
        accounts={one.id: one for one in known if isinstance(one, Account)},
        rows={one.id: one for one in known if isinstance(one, Row)},
        invitations=[one for one in known if isinstance(one, Invited)],
    )


def account_of(decided: Decisions, number: int = 1) -> str | None:
    return decided.rows[id_of(number)].clerk_id


def link_of(decided: Decisions, number: int = 1) -> tuple[str | None, str, datetime | None]:
    one = decided.rows[id_of(number)]
    return one.clerk_id, one.linked_by, one.linked_since


def values_of(decided: Decisions, number: int = 1) -> tuple[str, str]:
    one = decided.rows[id_of(number)]
    return one.name, one.email
