"""What this Clerk knows: users, invitations, sessions, mails, events. One lock over all of it."""

from __future__ import annotations

import copy
import itertools
import random
import string
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from sandbox.errors import not_found

Json = dict[str, Any]


class State:
    """Holds the lock for each request; hands out copies, never its own objects."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.listeners: list[Callable[[str, Json], None]] = []
        self._random = random.Random()
        self._count = itertools.count(1)
        self.clear()

    def clear(self) -> None:
        with self.lock:
            self.users: dict[str, Json] = {}
            self.invitations: dict[str, Json] = {}
            self.sessions: dict[str, Json] = {}
            self.mails: list[Json] = []

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self.clock() * 1000)

    def new_id(self, prefix: str) -> str:
        letters = "".join(self._random.choices(string.ascii_letters + string.digits, k=20))
        return f"{prefix}_{next(self._count):07d}{letters}"

    def user(self, user_id: str) -> Json:
        """The user itself, for those who hold the lock."""
        try:
            return self.users[user_id]
        except KeyError:
            raise not_found("user", user_id) from None

    def touch(self, user: Json) -> None:
        """`updated_at` moves at every change, also within one millisecond."""
        user["updated_at"] = max(self.now(), user["updated_at"] + 1)

    def by_address(self, address: str) -> Iterator[Json]:
        wanted = address.lower()
        for user in self.users.values():
            if any(email["email_address"].lower() == wanted for email in user["email_addresses"]):
                yield user

    def emit(self, kind: str, data: Json) -> None:
        """Tell of an event, as Clerk would by webhook."""
        for listener in self.listeners:
            listener(kind, copy.deepcopy(data))

    def changed(self, user: Json) -> Json:
        """A user was changed: its time moves, the event goes out, and it is the answer."""
        self.touch(user)
        self.emit("user.updated", user)
        return copy.deepcopy(user)
