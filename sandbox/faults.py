"""Simulate faults of Clerk and of the network between Clerk and the caller."""

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
"""Kinds that answer in the end and always apply the change."""

HOWS = {
    "status": "a status",
    "close": "the connection is closed",
    "reset": "the connection is reset",
    "hang": "no answer",
}
"""What the caller of a late request receives."""

BODIES = {"html": "a page of a proxy", "json": "JSON without errors"}
"""The bodies of `foreign_4xx`. The JSON has no `errors` as Clerk's has."""

_STATUSES = {"foreign_4xx": 403}

_ids = itertools.count(1)


@dataclass
class Fault:
    """One fault of a route ("*" for all routes).

    If `apply` is true, the sandbox applies the change before it fails. The default is true only for
    `foreign_4xx`; `late` always applies the change later. `times` is how often the fault happens,
    None for always. `skip` is the number of requests that pass first. A `status` of 0 becomes the
    default of the kind. `seconds` is the delay. None means never for an answer, and "at
    `apply_late`" for a change.

    Raises `ValueError` for an unknown `kind`, `how` or `body`, and for a `foreign_4xx` with another
    status.
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
    """Store the faults that are on, and choose the one for each request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.released = threading.Event()
        """Set when the faults are cleared, so that hanging requests end."""

    def add(self, fault: Fault) -> Fault:
        """Switch a fault on, behind those that are on already."""
        with self._lock:
            if self.released.is_set():
                self.released = threading.Event()
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Switch all faults off, and end the requests that hang."""
        with self._lock:
            self._faults.clear()
            self.released.set()

    def remove(self, fault_id: int) -> None:
        """Switch one fault off. An unknown id has no effect."""
        with self._lock:
            self._faults = [fault for fault in self._faults if fault.id != fault_id]

    def all(self) -> list[dict[str, Any]]:
        """Return the faults that are on, as JSON."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def dump(self) -> list[dict[str, Any]]:
        """Return the faults for `load`, without ids: an id is valid in one run only."""
        return [{key: fault[key] for key in fault if key != "id"} for fault in self.all()]

    def load(self, kept: Iterable[dict[str, Any]]) -> None:
        """Switch the faults of a `dump` on."""
        for fault in kept:
            self.add(Fault(**fault))

    def take(self, route: str, user_id: str | None) -> Fault | None:
        """Return the first fault that applies to this request, and count it; None without one."""
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
