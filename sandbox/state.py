"""What this Clerk knows: users, invitations, sessions, mails. One lock over all of it."""

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
    """Holds the lock for each request.

    Users are kept as the text that the API answers with: `user` gives a copy to change, `save`
    takes it back and keeps the indices true. So 300,000 of them fit into memory, a page costs
    no more than joining its texts, and a refused request leaves nothing half done.
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
        with self.lock:
            self._texts: dict[str, str] = {}
            self._order: list[tuple[int, str]] = []
            """(created_at, id) of everybody, sorted."""
            self._by_address: dict[str, tuple[str, ...]] = {}
            self.invitations: dict[str, Json] = {}
            self.sessions: dict[str, Json] = {}
            self.mails: list[Json] = []

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self.clock() * 1000)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._count):07d}{self._random.getrandbits(80):020x}"

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._texts

    # --- Users, read ---------------------------------------------------------------------------

    def user(self, user_id: str) -> Json:
        """A copy. Raises the 404."""
        return json.loads(self.text(user_id))

    def text(self, user_id: str) -> Encoded:
        """The user as JSON. Raises the 404."""
        try:
            return Encoded(self._texts[user_id])
        except KeyError:
            raise not_found("user", user_id) from None

    def users(self) -> list[Json]:
        """Everybody, in the order in which they came."""
        return [json.loads(text) for text in self._texts.values()]

    def ids_by_address(self, address: str) -> tuple[str, ...]:
        return self._by_address.get(address.lower(), ())

    def by_address(self, address: str) -> list[Json]:
        return [self.user(user_id) for user_id in self.ids_by_address(address)]

    def mentioning(self, text: str) -> Iterator[Json]:
        """Users whose JSON has the text somewhere."""
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
        """The places, for `texts_at`, of users created after and before those times, and from
        behind the cursor, a user's id. Ties are in the order of ids."""
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
        """The places of these users, as far as they are among `places`."""
        keys = ((self.user(one)["created_at"], one) for one in ids if one in self._texts)
        found = {bisect.bisect_left(self._order, key) for key in keys}
        return sorted((at for at in found if at in places), reverse=places.step < 0)

    def texts_at(self, places: Iterable[int]) -> Iterator[str]:
        return (self._texts[self._order[place][1]] for place in places)

    # --- Users, written ------------------------------------------------------------------------

    def save(self, user: Json) -> None:
        """A new user, or one that was changed. The names become what the instance stores."""
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
        """Many new users at once; returns their ids."""
        ids = []
        for user in users:
            self._order.append((user["created_at"], user["id"]))
            self._index_addresses(user)
            self._texts[user["id"]] = json.dumps(user)
            ids.append(user["id"])
        self._order.sort()
        return ids

    def remove(self, user: Json) -> None:
        self._unindex(json.loads(self._texts.pop(user["id"])))

    def touch(self, user: Json) -> None:
        """`updated_at` moves at every change, also within one millisecond."""
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
        """Tell of an event, as Clerk would by webhook. Listeners keep copies, and do not wait."""
        shown = self.instance.shown(data)
        for listener in self.listeners:
            listener(kind, shown)

    def changed(self, user: Json) -> Json:
        """A user was changed: it is kept, its time moves, the event goes out, and it is the
        answer."""
        self.touch(user)
        self.emit("user.updated", user)
        return user

    # --- A file --------------------------------------------------------------------------------

    def dump(self, more: Json) -> str:
        """All of it as JSON, for `load`, with `more` beside it."""
        users = ",".join(self._texts.values())
        rest = {"invitations": self.invitations, "sessions": self.sessions, "mails": self.mails}
        return f'{{"users": [{users}], {json.dumps(rest | more)[1:]}'

    def load(self, kept: Json) -> None:
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
