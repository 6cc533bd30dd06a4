"""Faults that can be switched on: what goes wrong with Clerk, and on the way to it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

KINDS = {
    "status": "answers with a status and a code of Clerk",
    "html": "answers 502 with a page of the CDN",
    "html_200": "answers 200 with a page of a proxy",
    "broken_json": "answers 200 with JSON that is cut off",
    "unreadable_error": "answers 422 with a body that is not JSON",
    "delay": "answers after the delay",
    "hang": "never answers",
    "reset": "resets the connection",
    "close": "closes the connection without an answer",
    "drip": "sends one byte of its answer after each delay",
    "late": "answers, and applies the change after the delay",
    "stale": "answers 200 with the values from before the change",
    "foreign_4xx": "applies the change, and answers 4xx with a body that is not from Clerk",
}

APPLYING = ("delay", "drip")
"""These kinds answer in the end: the change is always applied."""

HOWS = {
    "status": "a status",
    "close": "the connection is closed",
    "reset": "the connection is reset",
    "hang": "no answer",
}
"""How the caller sees a request that is applied late."""

BODIES = {"html": "a page of a proxy", "json": "JSON without errors"}
"""The bodies of `foreign_4xx`. The JSON lacks Clerk's `errors`."""

_STATUSES = {"foreign_4xx": 403}

_ids = itertools.count(1)


@dataclass
class Fault:
    """One fault of a route ("*" for all).

    `apply` makes the change first and then fails; only `foreign_4xx` does so unless told
    otherwise, and `late` always applies the change later. `times` is how often it happens, None
    for always; `skip` lets that many requests pass before. A `status` of 0 becomes the usual one
    of the kind. `seconds` is how late; None is never for an answer, and "at `apply_late`" for a
    change.
    """

    route: str
    kind: str
    status: int = 0
    code: str = "internal_clerk_error"
    message: str = "Oops, an unexpected error occurred"
    param: str = ""
    errors: list[dict[str, Any]] | None = None
    retry_after: int = 1
    seconds: float | None = 1.0
    how: str = "status"
    body: str = "html"
    apply: bool | None = None
    times: int | None = 1
    skip: int = 0
    user_id: str = ""
    id: int = field(default_factory=lambda: next(_ids))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such fault: {self.kind}")
        if self.how not in HOWS:
            raise ValueError(f"no such way to answer: {self.how}")
        if self.body not in BODIES:
            raise ValueError(f"no such body: {self.body}")
        if self.apply is None:
            self.apply = self.kind == "foreign_4xx"
        if not self.status:
            self.status = _STATUSES.get(self.kind, 500)
        if self.kind == "foreign_4xx" and not 400 <= self.status < 500:
            raise ValueError(f"foreign_4xx answers a status from 400 to 499, not {self.status}")


class Faults:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.released = threading.Event()
        """Set when faults are cleared, so that hanging requests end."""

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            if self.released.is_set():
                self.released = threading.Event()
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self.released.set()

    def remove(self, fault_id: int) -> None:
        with self._lock:
            self._faults = [fault for fault in self._faults if fault.id != fault_id]

    def all(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def dump(self) -> list[dict[str, Any]]:
        """What `load` takes. An id counts within one run only."""
        return [{key: fault[key] for key in fault if key != "id"} for fault in self.all()]

    def load(self, kept: Iterable[dict[str, Any]]) -> None:
        for fault in kept:
            self.add(Fault(**fault))

    def take(self, route: str, user_id: str | None) -> Fault | None:
        """The fault that this request meets, counted."""
        with self._lock:
            for fault in self._faults:
                if fault.route not in ("*", route) or fault.user_id not in ("", user_id):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                return fault
        return None
