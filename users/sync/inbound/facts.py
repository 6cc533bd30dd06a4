"""Join facts about Clerk accounts.

An answer, an event, a user in a list and a deletion are facts. The known state of an account is the
join of all facts about it. The join is commutative, associative and idempotent: it does not matter
in which order, how often and how late facts arrive.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import orjson
from django.utils.translation import gettext as _

from users.clerk import ClerkUser, emails
from users.clerk.metadata import OUR_ID, OUR_INVITATION
from users.models import BuilderUser
from users.validation import CONTROL

AHEAD = timedelta(minutes=5)
"""How far an account's `updated_at` may lie after the time at which it was observed.

The clocks differ a little. A time that is further ahead is wrong and would hide all later states,
so the time of the observation counts instead.
"""

LONGEST_NAME = BuilderUser._meta.get_field("name").max_length or 10_000
"""Characters of a name that the column can hold; Clerk accepts more than twice as many."""
MOST_NAMES = 50
"""Number of names that are stored for an account; people may rename themselves without limit."""
LONGEST_EMAIL = BuilderUser._meta.get_field("email").max_length or 10_000

_EPOCH, _MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

Moment = TypeVar("Moment", datetime, int)


class Register(NamedTuple):
    """A value, with the version of the state that showed it. A join keeps the greater version."""

    version: str = ""
    value: Any = None


UNSET = Register()

Held = tuple[datetime, datetime]
"""The first and the last time at which an account is known to have had an address."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The known state of one account.

    `snapshot` holds the columns of the newest state. `name` and `email` are the last values that
    were not empty and that fit into the row; `reference` is that of the invitation from which the
    account came. `names` holds the newest names that the account has shown, each with the version
    of the last state that had it. `addresses` holds those that were the verified primary address. A
    later answer that shows the account removes `deleted_at` and `not_found_at`.
    """

    snapshot: Register = UNSET
    name: Register = UNSET
    email: Register = UNSET
    reference: Register = UNSET
    names: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, Held] = field(default_factory=dict)
    last_sign_in_at: datetime | None = None
    answered_at: datetime | None = None
    seen_at: datetime | None = None
    deleted_at: datetime | None = None
    not_found_at: datetime | None = None


def of_user(user: ClerkUser, *, observed_at: datetime) -> Facts:
    """Return the facts that a Clerk user shows, from an answer or an event.

    `observed_at` is the time at which Clerk had this state; for an answer, the time of the request.
    """
    updated_at = user.updated_at or observed_at
    if updated_at > observed_at + AHEAD:
        updated_at = observed_at
    columns = _columns_of(user, updated_at)
    reference = _uuid(user.public_metadata.get(OUR_INVITATION))
    version = _version(updated_at, observed_at, columns | {"reference": reference})
    email, name = emails.normalized(user.email), "" if unfit_name(user.name) else user.name
    held = (min(updated_at, observed_at), observed_at)
    return Facts(
        snapshot=Register(version, columns),
        name=Register(version, name) if name else UNSET,
        email=Register(version, email) if 0 < len(email) <= LONGEST_EMAIL else UNSET,
        reference=Register(version, reference) if reference else UNSET,
        names={name: version} if name else {},
        addresses={email: held} if email and user.email_verified else {},
        last_sign_in_at=user.last_sign_in_at,
        answered_at=user.asked_at,
        seen_at=observed_at,
    )


def emails_of(known: Facts) -> set[str]:
    """Return all emails by which an account is known."""
    return {*known.addresses, emails.normalized(known.email.value or "")} - {""}


def of_deletion(deleted_at: datetime) -> Facts:
    """Return the facts of a deletion.

    It comes from an event of our instance, from our own delete, or from a complete scan.
    """
    return Facts(deleted_at=deleted_at, seen_at=deleted_at)


def of_not_found(asked_at: datetime) -> Facts:
    """Return the facts of a 404 of our own instance, which may be true for a moment only."""
    return Facts(not_found_at=asked_at, seen_at=asked_at)


def join(one: Facts, other: Facts) -> Facts:
    """Return the join of both facts."""
    answered_at = _later(one.answered_at, other.answered_at)
    return Facts(
        snapshot=max(one.snapshot, other.snapshot, key=_version_of),
        name=max(one.name, other.name, key=_version_of),
        email=max(one.email, other.email, key=_version_of),
        reference=max(one.reference, other.reference, key=_version_of),
        names=_join_names(one.names, other.names),
        addresses=_join_addresses(one.addresses, other.addresses),
        last_sign_in_at=_later(one.last_sign_in_at, other.last_sign_in_at),
        answered_at=answered_at,
        seen_at=_later(one.seen_at, other.seen_at),
        deleted_at=_unless_answered(_later(one.deleted_at, other.deleted_at), answered_at),
        not_found_at=_unless_answered(_later(one.not_found_at, other.not_found_at), answered_at),
    )


def unfit_name(name: str) -> str:
    """Return why a row never takes this name from Clerk; empty for any other name."""
    if len(name) > LONGEST_NAME:
        return _("Its name is longer than {count} letters.").format(count=LONGEST_NAME)
    if CONTROL.search(name):
        return _("Its name has control characters.")
    return ""


def holds_now(facts: Facts, address: str) -> bool:
    """Return whether the newest state has the address as its verified primary one."""
    columns = facts.snapshot.value or {}
    return bool(columns.get("email_verified")) and emails.normalized(columns["email"]) == address


def _version_of(register: Register) -> str:
    return register.version


def _join_addresses(one: Mapping[str, Held], other: Mapping[str, Held]) -> Mapping[str, Held]:
    if not other or one == other:
        return one
    joined = dict(one)
    for address, (first, last) in other.items():
        known = joined.get(address)
        joined[address] = (min(known[0], first), max(known[1], last)) if known else (first, last)
    return joined


def _join_names(one: Mapping[str, str], other: Mapping[str, str]) -> Mapping[str, str]:
    """Join two sets of names, and keep the newest `MOST_NAMES`.

    A name that is among the newest of all is also among the newest of each part, so the order of
    the joins does not matter.
    """
    if not other or one == other:
        return one
    last = {name: max(one.get(name, ""), other.get(name, "")) for name in {*one, *other}}
    newest = sorted(last.items(), key=lambda known: (known[1], known[0]), reverse=True)
    return dict(newest[:MOST_NAMES])


def _later(one: Moment | None, other: Moment | None) -> Moment | None:
    if one is None or other is None:
        return one if other is None else other
    return max(one, other)


def _unless_answered(gone_at: datetime | None, answered_at: datetime | None) -> datetime | None:
    """Return when the account was gone, None if a later answer of Clerk shows it."""
    return None if gone_at and answered_at and answered_at > gone_at else gone_at


def _columns_of(user: ClerkUser, updated_at: datetime) -> dict[str, object]:
    return {
        "email": user.email,
        "email_verified": user.email_verified,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "image_url": user.image_url,
        "banned": user.banned,
        "locked": user.locked,
        "two_factor_enabled": user.two_factor_enabled,
        "password_enabled": user.password_enabled,
        "providers": list(user.providers),
        "clerk_created_at": user.created_at,
        "clerk_updated_at": updated_at,
        "claimed_id": _uuid(user.public_metadata.get(OUR_ID)),
    }


def _version(updated_at: datetime, observed_at: datetime, columns: Mapping[str, object]) -> str:
    """Return a text that orders states by their own time, then by the time of observation.

    Versions compare as the times do. The digest of the columns orders states that are equal in
    both, independently of the order of arrival.
    """
    digest = hashlib.sha1(orjson.dumps(columns), usedforsecurity=False).hexdigest()[:12]
    return f"{_number(updated_at):017d}-{_number(observed_at):017d}-{digest}"


def _number(moment: datetime) -> int:
    return max(0, (moment - _EPOCH) // _MICROSECOND)


def _uuid(value: object) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(value)) if value else None
    except ValueError:
        return None


SNAPSHOT = tuple(_columns_of(ClerkUser(id=""), _EPOCH))
"""The columns of `ClerkAccount` that the snapshot fills."""
