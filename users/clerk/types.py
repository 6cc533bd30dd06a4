"""What the rest of the application sees of Clerk: frozen types, parsed tolerantly.

Clerk adds enum values and omits fields before an SDK knows it. So only the id is required, and any
other odd value counts as absent.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from django.utils.translation import gettext as _

from users.clerk import emails, names
from users.ids import INSTANCE_ID, INVITATION_ID, SESSION_ID, USER_ID

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class ClerkEmail:
    """An email address of a Clerk user. `address` is normalized."""

    id: str
    address: str
    verified: bool

    @classmethod
    def parse(cls, data: object) -> ClerkEmail:
        """Parse an address.

        Raises `ValueError` if it is not an email address.
        """
        if not isinstance(data, dict) or data.get("object") != "email_address":
            raise ValueError("expected an email address")
        return _email(data)


@dataclass(frozen=True, slots=True)
class ClerkPhone:
    """A phone number of a Clerk user."""

    number: str
    verified: bool


@dataclass(frozen=True, slots=True)
class ClerkUser:
    """A Clerk user.

    `email` is the primary address in lower case, "" if there is none. Times are aware, in UTC, to
    the millisecond.
    """

    id: str
    email: str = ""
    email_verified: bool = False
    emails: tuple[ClerkEmail, ...] = ()
    phones: tuple[ClerkPhone, ...] = ()
    first_name: str = ""
    last_name: str = ""
    image_url: str = ""
    banned: bool = False
    locked: bool = False
    two_factor_enabled: bool = False
    password_enabled: bool = False
    password_last_updated_at: datetime | None = None
    providers: tuple[str, ...] = ()
    last_sign_in_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    external_id: str = ""
    public_metadata: Mapping[str, object] = field(default_factory=dict)
    asked_at: datetime | None = None
    """When Clerk was asked for this, by Clerk's clock; None in an event."""
    told_at: datetime | None = None
    """When Clerk sent this in an event; None in an answer."""

    @property
    def name(self) -> str:
        """Return the first and the last name as one."""
        return names.join(self.first_name, self.last_name)

    @classmethod
    def parse(cls, data: object, *, asked_at: datetime | None = None) -> ClerkUser:
        """Parse the JSON of an answer or an event.

        Raises `ValueError` if it is not a user.
        """
        mapping = _mapping(data)
        emails = tuple(_email(entry) for entry in _list(mapping, "email_addresses"))
        primary_id = _text(mapping, "primary_email_address_id")
        # Do not take the first of the list: the primary one may be anywhere in it.
        primary = next((email for email in emails if primary_id and email.id == primary_id), None)
        return cls(
            id=_id(mapping, USER_ID),
            email=primary.address if primary else "",
            email_verified=primary.verified if primary else False,
            emails=emails,
            phones=tuple(_phone(entry) for entry in _list(mapping, "phone_numbers")),
            first_name=_text(mapping, "first_name"),
            last_name=_text(mapping, "last_name"),
            image_url=_text(mapping, "image_url"),
            banned=mapping.get("banned") is True,
            locked=mapping.get("locked") is True,
            two_factor_enabled=mapping.get("two_factor_enabled") is True,
            password_enabled=mapping.get("password_enabled") is True,
            password_last_updated_at=_time(mapping, "password_last_updated_at"),
            providers=tuple(
                provider
                for account in _list(mapping, "external_accounts")
                if (provider := _text(account, "provider"))
            ),
            last_sign_in_at=_time(mapping, "last_sign_in_at"),
            created_at=_time(mapping, "created_at"),
            updated_at=_time(mapping, "updated_at"),
            external_id=_text(mapping, "external_id"),
            public_metadata=_dict(mapping, "public_metadata"),
            asked_at=asked_at,
        )


@dataclass(frozen=True, slots=True)
class ClerkInvitation:
    """An invitation, without its `url`: the url carries the ticket, which is a credential."""

    id: str
    email: str
    status: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    public_metadata: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: object) -> ClerkInvitation:
        """Parse an invitation.

        Raises `ValueError` if it is not one.
        """
        mapping = _mapping(data)
        return cls(
            id=_id(mapping, INVITATION_ID),
            email=emails.normalized(_text(mapping, "email_address")),
            status=_text(mapping, "status"),
            created_at=_time(mapping, "created_at"),
            expires_at=_time(mapping, "expires_at"),
            public_metadata=_dict(mapping, "public_metadata"),
        )


ENDED = frozenset({"abandoned", "ended", "expired", "removed", "replaced", "revoked"})
"""The statuses of sessions that nobody can use any more."""


@dataclass(frozen=True, slots=True)
class ClerkSession:
    """A session of a user, with what Clerk tells of its last use. Any of that may be unknown."""

    id: str
    user_id: str
    status: str
    browser: str = ""
    system: str = ""
    ip_address: str = ""
    city: str = ""
    country: str = ""
    created_at: datetime | None = None
    last_active_at: datetime | None = None

    @property
    def has_ended(self) -> bool:
        """Tell whether the session is over. A status that is not known counts as not over."""
        return self.status in ENDED

    @property
    def is_pending(self) -> bool:
        """Tell whether the person still has a task to do before the sign-in is finished."""
        return self.status == "pending"

    @property
    def device(self) -> str:
        """Return the browser and the system, as far as they are known."""
        return " on ".join(filter(None, (self.browser, self.system))) or _("Unknown device")

    @property
    def place(self) -> str:
        """Return the city and the country, as far as they are known."""
        return ", ".join(filter(None, (self.city, self.country)))

    @classmethod
    def parse(cls, data: object) -> ClerkSession:
        """Parse a session.

        Raises `ValueError` if it is not one.
        """
        mapping = _mapping(data)
        activity = _dict(mapping, "latest_activity")
        return cls(
            id=_id(mapping, SESSION_ID),
            user_id=_text(mapping, "user_id"),
            status=_text(mapping, "status"),
            browser=_text(activity, "browser_name"),
            system=_text(activity, "device_type"),
            ip_address=_text(activity, "ip_address"),
            city=_text(activity, "city"),
            country=_text(activity, "country"),
            created_at=_time(mapping, "created_at"),
            last_active_at=_time(mapping, "last_active_at"),
        )


@dataclass(frozen=True, slots=True)
class ClerkInstance:
    """The instance that a secret key belongs to.

    `environment` is "production" or "development", or "" if Clerk does not say.
    """

    id: str
    environment: str = ""

    @classmethod
    def parse(cls, data: object) -> ClerkInstance:
        """Parse an instance.

        Raises `ValueError` if it is not one.
        """
        mapping = _mapping(data)
        return cls(id=_id(mapping, INSTANCE_ID), environment=_text(mapping, "environment_type"))


@dataclass(frozen=True)
class UserPage:
    """A page of the list of users, as Clerk sent it.

    It is parsed at first use, because a scan asks for the next page before that.
    """

    entries: Sequence[object] = ()
    asked_at: datetime | None = None

    @property
    def size(self) -> int:
        """Return how many entries Clerk sent, readable or not.

        A page below its limit is the last.
        """
        return len(self.entries)

    @property
    def last_id(self) -> str | None:
        """Return the cursor for the next page, or None for an empty page."""
        return next(filter(None, map(_id_or_none, reversed(self.entries))), None)

    @property
    def users(self) -> tuple[ClerkUser, ...]:
        """Return the entries that could be parsed."""
        return self._parsed[0]

    @property
    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """Return `(id or "?", reason)` for each entry that is not a user."""
        return self._parsed[1]

    def only(self, clerk_ids: Collection[str]) -> UserPage:
        """Return the page with only the entries of these users."""
        entries = [entry for entry in self.entries if _id_or_none(entry) in clerk_ids]
        return UserPage(entries, self.asked_at)

    @cached_property
    def _parsed(self) -> tuple[tuple[ClerkUser, ...], tuple[tuple[str, str], ...]]:
        users, unreadable = [], []
        for entry in self.entries:
            try:
                users.append(ClerkUser.parse(entry, asked_at=self.asked_at))
            except ValueError as error:
                named = entry.get("id") if isinstance(entry, dict) else None
                unreadable.append((str(named or "?")[:100], str(error)))
        return tuple(users), tuple(unreadable)


# A scan parses hundreds of thousands of users, so the functions below must be fast.


def _mapping(data: object) -> dict[str, object]:
    if not isinstance(data, dict):
        raise ValueError(f"expected an object, got {type(data).__name__}")
    return data


def _id(data: dict[str, object], pattern: re.Pattern[str]) -> str:
    value = data.get("id")
    if not isinstance(value, str) or not pattern.match(value):
        raise ValueError("its id is missing or not one of Clerk's")
    return value


def _id_or_none(entry: object) -> str | None:
    try:
        return _id(_mapping(entry), USER_ID)
    except ValueError:
        return None


def _text(data: object, key: str) -> str:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, str):
        return ""
    if value.isascii() and "\0" not in value:
        return value
    # PostgreSQL has no NUL, and UTF-8 no lone surrogates; JSON can hold both.
    return value.replace("\0", "").encode("utf-8", "replace").decode()


def _list(data: dict[str, object], key: str) -> list[object]:
    value = data.get(key)
    return value if isinstance(value, list) else []


def _dict(data: dict[str, object], key: str) -> dict[str, object]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _time(data: dict[str, object], key: str) -> datetime | None:
    return time_from(data.get(key))


def time_from(value: object) -> datetime | None:
    """Return the time for Clerk's milliseconds since 1970. Anything else is None."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return _EPOCH + value * _MILLISECOND
    except (OverflowError, ValueError):
        return None


def _email(entry: object) -> ClerkEmail:
    return ClerkEmail(
        id=_text(entry, "id"),
        address=emails.normalized(_text(entry, "email_address")),
        verified=_verified(entry),
    )


def _phone(entry: object) -> ClerkPhone:
    return ClerkPhone(number=_text(entry, "phone_number"), verified=_verified(entry))


def _verified(entry: object) -> bool:
    verification = entry.get("verification") if isinstance(entry, dict) else None
    return _text(verification, "status") == "verified"
