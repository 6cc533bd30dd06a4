"""Store the state of this Clerk: users, invitations, sessions, mails. One lock protects it."""

from __future__ import annotations

import bisect
import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sandbox.errors import not_found

if TYPE_CHECKING:
    from sandbox.instance import Instance

Json = dict[str, Any]

_created_at = itemgetter(0)


class Encoded(str):
    """A text that is JSON already."""

    __slots__ = ()


class State:
    """Store all objects; `lock` is held during each request.

    Users are stored as the text that the API answers with. `user` returns a copy to change, and
    `save` stores it and updates the indices. So 300,000 users fit into memory, a page only joins
    texts, and a refused request leaves no partial change.
    """

    def __init__(self, instance: Instance, clock: Callable[[], float] = time.time) -> None:
        self.instance = instance
        self.lock = threading.RLock()
        self.clock = clock
        self.listeners: list[Callable[[str, Json], Any]] = []
        self._random = random.Random()
        self._count = count(1)
        self.clear()

    def clear(self) -> None:
        """Delete all objects."""
        with self.lock:
            self._texts: dict[str, str] = {}
            self._order: list[tuple[int, str]] = []
            """(created_at, id) of all users, sorted."""
            self._by_address: dict[str, tuple[str, ...]] = {}
            self.invitations: dict[str, Json] = {}
            self.sessions: dict[str, Json] = {}
            self.mails: list[Json] = []

    def now(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self.clock() * 1000)

    def new_id(self, prefix: str) -> str:
        """Return a unique id with a prefix such as "user"."""
        return f"{prefix}_{next(self._count):07d}{self._random.getrandbits(80):020x}"

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._texts

    # --- Users, read ---------------------------------------------------------------------------

    def user(self, user_id: str) -> Json:
        """Return a copy of a user. Raises the 404 `Refusal` for an unknown id."""
        return json.loads(self.text(user_id))

    def text(self, user_id: str) -> Encoded:
        """Return a user as JSON text. Raises the 404 `Refusal` for an unknown id."""
        try:
            return Encoded(self._texts[user_id])
        except KeyError:
            raise not_found("user", user_id) from None

    def users(self) -> list[Json]:
        """Return copies of all users, in the order in which they were stored."""
        return [json.loads(text) for text in self._texts.values()]

    def ids_by_address(self, address: str) -> tuple[str, ...]:
        """Return the ids of the users who have an address. Case does not matter."""
        return self._by_address.get(address.lower(), ())

    def by_address(self, address: str) -> list[Json]:
        """Return copies of the users who have an address. Case does not matter."""
        return [self.user(user_id) for user_id in self.ids_by_address(address)]

    def mentioning(self, text: str) -> Iterator[Json]:
        """Yield copies of the users whose JSON contains `text` as a value."""
        wanted = json.dumps(text)
        return (json.loads(found) for found in self._texts.values() if wanted in found)

    def window(
        self,
        *,
        after: int | None = None,
        before: int | None = None,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> range:
        """Return the positions, for `texts_at`, of the users created in a time window.

        `after` and `before` are in milliseconds and exclusive. The window starts behind `cursor`,
        the id of a user. Users with the same time are in the order of their ids.
        """
        low, high = 0, len(self._order)
        if after is not None:
            low = bisect.bisect_right(self._order, after, key=_created_at)
        if before is not None:
            high = bisect.bisect_left(self._order, before, key=_created_at)
        if cursor is not None:
            place = (self.user(cursor)["created_at"], cursor)
            if newest_first:
                high = min(high, bisect.bisect_left(self._order, place))
            else:
                low = max(low, bisect.bisect_right(self._order, place))
        return range(low, high)[::-1] if newest_first else range(low, high)

    def only(self, ids: set[str], places: range) -> list[int]:
        """Return the positions of these users, if they are among `places`."""
        keys = ((self.user(one)["created_at"], one) for one in ids if one in self._texts)
        found = {bisect.bisect_left(self._order, key) for key in keys}
        return sorted((at for at in found if at in places), reverse=places.step < 0)

    def texts_at(self, places: Iterable[int]) -> Iterator[str]:
        """Yield the users at these positions as JSON texts."""
        return (self._texts[self._order[place][1]] for place in places)

    # --- Users, written ------------------------------------------------------------------------

    def save(self, user: Json) -> None:
        """Store a new or changed user. The instance may normalize the names."""
        self.instance.store_names(user)
        old = self._texts.get(user["id"])
        if old is None:
            self._index(user)
        else:
            before = json.loads(old)
            if _keys(before) != _keys(user):
                self._unindex(before)
                self._index(user)
        self._texts[user["id"]] = json.dumps(user)

    def save_all(self, users: Iterable[Json]) -> list[str]:
        """Store many new users at once, and return their ids."""
        ids = []
        for user in users:
            self._order.append((user["created_at"], user["id"]))
            self._index_addresses(user)
            self._texts[user["id"]] = json.dumps(user)
            ids.append(user["id"])
        self._order.sort()
        return ids

    def remove(self, user: Json) -> None:
        """Delete a user from the texts and the indices."""
        self._unindex(json.loads(self._texts.pop(user["id"])))

    def touch(self, user: Json) -> None:
        """Save the user with a later `updated_at`.

        The time grows at each change, even within one millisecond.
        """
        user["updated_at"] = max(self.now(), user["updated_at"] + 1)
        self.save(user)

    def _index(self, user: Json) -> None:
        bisect.insort(self._order, (user["created_at"], user["id"]))
        self._index_addresses(user)

    def _index_addresses(self, user: Json) -> None:
        for address in _addresses(user):
            others = self._by_address.get(address, ())
            self._by_address[address] = (*others, user["id"])

    def _unindex(self, user: Json) -> None:
        place = (user["created_at"], user["id"])
        del self._order[bisect.bisect_left(self._order, place)]
        for address in _addresses(user):
            others = tuple(other for other in self._by_address[address] if other != user["id"])
            if others:
                self._by_address[address] = others
            else:
                del self._by_address[address]

    # --- Events --------------------------------------------------------------------------------

    def emit(self, kind: str, data: Json) -> None:
        """Pass an event to the listeners, as Clerk does by webhook.

        Listeners must copy the data and must not wait.
        """
        shown = self.instance.shown(data)
        for listener in self.listeners:
            listener(kind, shown)

    def changed(self, user: Json) -> Json:
        """Save a changed user with a new time, emit the event, and return the user."""
        self.touch(user)
        self.emit("user.updated", user)
        return user

    # --- A file --------------------------------------------------------------------------------

    def dump(self, more: Json) -> str:
        """Return the state as JSON for `load`, with the keys of `more` beside it."""
        users = ",".join(self._texts.values())
        rest = {"invitations": self.invitations, "sessions": self.sessions, "mails": self.mails}
        return f'{{"users": [{users}], {json.dumps(rest | more)[1:]}'

    def load(self, kept: Json) -> None:
        """Replace all objects by those of a `dump`. Other keys are ignored."""
        with self.lock:
            self.clear()
            self.save_all(kept["users"])
            self.invitations = kept["invitations"]
            self.sessions = kept["sessions"]
            self.mails = kept["mails"]


def _addresses(user: Json) -> set[str]:
    return {email["email_address"].lower() for email in user["email_addresses"]}


def _keys(user: Json) -> tuple[int, set[str]]:
    return user["created_at"], _addresses(user)
