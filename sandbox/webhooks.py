"""Events: recorded for every change, signed and sent as Clerk does through Svix (FACTS §4)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import queue
import random
import threading
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass
from typing import Any

from sandbox.state import Json, State

KEPT = 50_000
PAUSES = (0.2, 1.0, 5.0, 30.0)
"""Seconds before each further try of a delivery that was not answered with 2xx."""

MODES = ("live", "held", "lost")
ORDERS = ("as_sent", "shuffled")


@dataclass
class Event:
    """One event. `status` is the last answer's, None before one; `tries` counts deliveries."""

    id: str
    type: str
    payload: Json
    at: int
    status: int | None = None
    tries: int = 0
    error: str = ""


class Webhooks:
    """`mode` "live" sends at once and in order, "held" keeps events until `release`, "lost"
    never sends them. Nothing is sent before `send_to` names an address."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._random = random.Random(1)
        self.default_secret = "whsec_" + base64.b64encode(b"a secret of the sandbox").decode()
        self._stopped = threading.Event()
        self._queue: queue.Queue[tuple[Event, str] | None] = queue.Queue()
        self._under_way = 0
        self._thread: threading.Thread | None = None
        self.reset()
        state.listeners.append(self._record)

    def reset(self) -> None:
        """No events, nothing on its way, no address."""
        with self._lock:
            self.events: deque[Event] = deque(maxlen=KEPT)
            self.held: list[Event] = []
            self.mode = "live"
            self.secret = self.default_secret
            self._url: str | None = None

    def send_to(self, url: str | None, secret: str | None = None) -> None:
        with self._lock:
            self._url = url
            self.secret = secret or self.secret
            if url and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()

    @property
    def url(self) -> str | None:
        return self._url

    def switch(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"no such mode: {mode}")
        self.mode = mode

    def release(self, *, order: str = "as_sent", twice: bool = False, lose: int = 0) -> int:
        """Send what was held; gives how many deliveries that makes. `lose` drops the first."""
        if order not in ORDERS:
            raise ValueError(f"no such order: {order}")
        with self._lock:
            events, self.held = self.held[lose:], []
            if twice:
                events = events + events
            if order == "shuffled":
                self._random.shuffle(events)
            for event in events:
                self._send(event)
            return len(events)

    def resend(self, event_id: str) -> None:
        """Send one again, with the same id, as Svix does at a replay."""
        with self._lock:
            self._send(next(event for event in self.events if event.id == event_id))

    def wait_idle(self, timeout: float = 30.0) -> bool:
        """Until nothing is on its way; False when that took too long."""
        with self._lock:
            return self._idle.wait_for(lambda: self._under_way == 0, timeout)

    def stop(self) -> None:
        self._stopped.set()
        self._queue.put(None)
        if self._thread:
            self._thread.join(10)

    def signed(
        self, event: Event, *, secret: str | None = None, at: int | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Body and headers as Clerk sends them; `at` is the time of sending in seconds."""
        body = json.dumps(event.payload).encode()
        timestamp = str(int(self._state.clock()) if at is None else at)
        key = base64.b64decode((secret or self.secret).removeprefix("whsec_"))
        message = f"{event.id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
        return body, {
            "svix-id": event.id,
            "svix-timestamp": timestamp,
            "svix-signature": f"v1,{signature}",
            "Content-Type": "application/json",
        }

    # --- Inside --------------------------------------------------------------------------------

    def _record(self, kind: str, data: Json) -> None:
        """A change happened. The state's lock is held, so nothing is sent from here."""
        now = self._state.now()
        event = Event(
            id=self._state.new_id("msg"),
            type=kind,
            payload={
                "object": "event",
                "type": kind,
                "data": data,
                "timestamp": now,
                "instance_id": "ins_sandbox",
                "event_attributes": {
                    "http_request": {"client_ip": "127.0.0.1", "user_agent": "sandbox"}
                },
            },
            at=now,
        )
        with self._lock:
            self.events.append(event)
            if self.mode == "held":
                self.held.append(event)
            elif self.mode == "live":
                self._send(event)

    def _send(self, event: Event) -> None:
        if self._url is not None:
            self._under_way += 1
            self._queue.put((event, self._url))

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            self._deliver(*waiting)
            with self._lock:
                self._under_way -= 1
                self._idle.notify_all()

    def _deliver(self, event: Event, url: str) -> None:
        """Try until it is taken; an address that was given up meanwhile gets nothing more."""
        for pause in (*PAUSES, 0):
            if self._url != url or self._stopped.is_set():
                return
            event.tries += 1
            event.status, event.error = self._post(event, url)
            if event.status is not None and 200 <= event.status < 300:
                return
            self._stopped.wait(pause)

    def _post(self, event: Event, url: str) -> tuple[int | None, str]:
        body, headers = self.signed(event)
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310
        try:
            with _OPENER.open(request, timeout=15) as answer:
                return answer.status, ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, ""
        except OSError as error:
            return None, type(error).__name__


_OPENER: Any = urllib.request.build_opener(urllib.request.ProxyHandler({}))
