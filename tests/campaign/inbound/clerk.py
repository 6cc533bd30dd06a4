"""A small Clerk: accounts that change, and the facts that each change tells."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from users.clerk import ClerkUser, emails
from users.clerk.metadata import OUR_ID, OUR_INVITATION
from users.sync.inbound import facts
from users.sync.inbound.facts import Facts

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Told:
    """One fact about one account, as an event brings it."""

    clerk_id: str
    fact: Facts
    user: ClerkUser | None
    at: datetime

    def __str__(self) -> str:
        if self.user is None:
            return f"{self.clerk_id} deleted"
        user = self.user
        verified = "" if user.email_verified else "?"
        return f"{self.clerk_id} {user.name!r} {user.email}{verified} {'banned' * user.banned}"


@dataclass
class Clerk:
    """Living accounts by id. `told` are the facts that did not go out yet."""

    now: datetime = START
    users: dict[str, ClerkUser] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    held: dict[str, set[str]] = field(default_factory=dict)
    """The addresses that each account ever had, verified: the oracle of who may have a row."""
    accepted: set[uuid.UUID] = field(default_factory=set)
    made: int = 0

    def tick(self, seconds: float = 60) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def create(self, email: str, **fields: Any) -> ClerkUser | None:
        if fields.get("email_verified", True) and self._taken(email):
            return None
        self.made += 1
        now = self.tick()
        fields = {"first_name": "Ann", "last_name": f"{self.made}"} | fields
        user = ClerkUser(
            id=f"user_{self.made}", email=email, created_at=now,
            **{"email_verified": True} | fields,
        )  # fmt: skip
        return self._save(user)

    def accept(
        self, email: str, reference: uuid.UUID, row: uuid.UUID, *, metadata: bool
    ) -> ClerkUser | None:
        """Somebody accepts an invitation; Clerk has lost metadata before."""
        ours = {OUR_ID: str(row), OUR_INVITATION: str(reference)} if metadata else {}
        user = self.create(email, public_metadata=ours)
        if user is not None:
            self.accepted.add(reference)
        return user

    def edit(self, clerk_id: str, **fields: Any) -> ClerkUser | None:
        user = replace(self.users[clerk_id], **fields)
        if user.email_verified and self._taken(user.email, but=clerk_id):
            return None
        self.tick()
        return self._save(user)

    def delete(self, clerk_id: str) -> None:
        del self.users[clerk_id]
        now = self.tick()
        self.told.append(Told(clerk_id, facts.of_deletion(now), None, now))

    def answer(self, clerk_id: str) -> Facts:
        """What an answer about a living account tells now."""
        user = replace(self.users[clerk_id], asked_at=self.tick(1))
        return facts.of_user(user, observed_at=self.now)

    def go_out(self) -> list[Told]:
        told, self.told = self.told, []
        return told

    def scan(self, known: Iterator[str]) -> list[Told]:
        """What a scan tells: everybody who lives, and who is gone."""
        now = self.tick()
        return [
            Told(clerk_id, self.answer(clerk_id), self.users[clerk_id], now)
            if clerk_id in self.users
            else Told(clerk_id, facts.of_deletion(now), None, now)
            for clerk_id in sorted({*known, *self.users})
        ]

    def _taken(self, email: str, but: str = "") -> bool:
        return any(
            user.email == email and user.email_verified and email
            for clerk_id, user in self.users.items()
            if clerk_id != but
        )

    def _save(self, user: ClerkUser) -> ClerkUser:
        user = replace(user, updated_at=self.now)
        self.users[user.id] = user
        if user.email and user.email_verified:
            self.held.setdefault(user.id, set()).add(emails.normalized(user.email))
        fact = facts.of_user(user, observed_at=self.now + timedelta(milliseconds=5))
        self.told.append(Told(user.id, fact, user, self.now))
        return user
