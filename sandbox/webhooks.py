"""Clerk's webhooks: every change becomes an event, signed and sent as Svix does."""

from __future__ import annotations

import base64
import hashlib
import heapq
import hmac
import http.client
import itertools
import json
import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sandbox.state import Json

KEPT_EVENTS = 20_000
MODES = ("live", "held", "lost")
ORDERS = ("as_sent", "shuffled")
PAUSES = (0.5, 2.0, 8.0, 30.0)
"""Seconds before an event that failed is sent again; Svix takes 27 hours for it."""
TIMEOUT = 15.0
QUIET = 5.0


@dataclass(frozen=True)
class Event:
    """`id` is the header `svix-id`; `payload` the whole event; `at` its milliseconds."""

    id: str
    type: str
    payload: Json
    at: int


@dataclass
class Delivery:
    """What became of an event. `state`: "not sent" (nobody listens), "held", "waiting",
    "delivered", "failed" or "lost"; `status` is that of the last answer, None without one."""

    event: Event
    state: str = "not sent"
    attempts: int = 0
    status: int | None = None


@dataclass(order=True)
class _Due:
    """One sending that waits for its moment (monotonic), in the order of its number."""

    at: float
    number: int
    delivery: Delivery = field(compare=False)
    pauses: tuple[float, ...] = field(compare=False)


class Webhooks:
    """Records events, and sends them where `send_to` says. The sender's thread waits for no
    lock but this object's own, which is held for moments only."""

    def __init__(
        self, now: Callable[[], int], instance_id: Callable[[], str], name: str = "webhooks"
    ) -> None:
        self._name = name
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.pauses = PAUSES
        self.random = random.Random()
        self._now = now
        self._instance_id = instance_id
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._sending = False
        self._forget()

    def _forget(self) -> None:
        self._url: str | None = None
        self._mode = "live"
        self._deliveries: dict[str, Delivery] = {}
        self._held: list[Delivery] = []
        self._due: list[_Due] = []

    # --- What is set -------------------------------------------------------------------------

    @property
    def url(self) -> str | None:
        return self._url

    def send_to(self, url: str | None, secret: str | None = None) -> None:
        """Events from now on are posted to `url`; None: no more, the waiting ones are dropped."""
        if url is not None and (urlsplit(url).scheme not in ("http", "https")
                                or not urlsplit(url).hostname):  # fmt: skip
            raise ValueError("a URL must be of http or https")
        if secret is not None:
            _key(secret)
            self.secret = secret
        with self._changed:
            self._url = url
            if url is None:
                self._drop()

    @property
    def mode(self) -> str:
        """ "live": at once, in order; "held": until `release`; "lost": recorded, never sent."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"no such mode: {mode}")
        with self._changed:
            self._mode = mode

    @property
    def held(self) -> int:
        """How many wait for `release`."""
        return len(self._held)

    def dump(self) -> Json:
        """Target, mode and held events, for `load`."""
        with self._changed:
            held = [asdict(delivery.event) for delivery in self._held]
            return {"url": self._url, "secret": self.secret, "mode": self._mode, "held": held}

    def load(self, kept: Json) -> None:
        """Raises `ValueError`, `KeyError`, `TypeError` for what `dump` has not given."""
        self.send_to(kept["url"], kept["secret"])
        self.mode = kept["mode"]
        with self._changed:
            for event in kept["held"]:
                delivery = Delivery(Event(**event), "held")
                self._deliveries[delivery.event.id] = delivery
                self._held.append(delivery)

    def reset(self) -> None:
        """As new: no events, nobody to send to."""
        with self._changed:
            self._drop()
            self._forget()
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends the sender's thread."""
        self.reset()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread:
            thread.join(QUIET)

    # --- What happened -----------------------------------------------------------------------

    def record(self, kind: str, data: Json) -> Event:
        """An event of now. `data` may change afterwards: a copy is kept."""
        at = self._now()
        payload: Json = {
            "data": data,
            "event_attributes": {"http_request": {"client_ip": "127.0.0.1", "user_agent": ""}},
            "instance_id": self._instance_id(),
            "object": "event",
            "timestamp": at,
            "type": kind,
        }
        event = Event(f"msg_{secrets.token_hex(12)}", kind, json.loads(json.dumps(payload)), at)
        delivery = Delivery(event)
        with self._changed:
            self._deliveries[event.id] = delivery
            if len(self._deliveries) > KEPT_EVENTS:
                del self._deliveries[next(iter(self._deliveries))]
            if self._mode == "lost":
                delivery.state = "lost"
            elif self._mode == "held":
                delivery.state = "held"
                self._held.append(delivery)
            elif self._url:
                self._send(delivery)
        return event

    @property
    def events(self) -> list[Event]:
        """Oldest first."""
        with self._changed:
            return [delivery.event for delivery in self._deliveries.values()]

    def deliveries(self, last: int = KEPT_EVENTS) -> list[dict[str, Any]]:
        """What became of the last events, newest first."""
        with self._changed:
            newest = itertools.islice(reversed(self._deliveries.values()), last)
            return [
                {"id": delivery.event.id, "type": delivery.event.type, "at": delivery.event.at,
                 "about": _about(delivery.event), "state": delivery.state,
                 "attempts": delivery.attempts, "status": delivery.status}
                for delivery in newest
            ]  # fmt: skip

    def event(self, event_id: str) -> Event | None:
        with self._changed:
            delivery = self._deliveries.get(event_id)
            return delivery.event if delivery else None

    # --- Sending -----------------------------------------------------------------------------

    def signed(
        self, event: Event, *, secret: str | None = None, at: float | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """The body and headers of a delivery at `at` (Unix seconds, now if not given)."""
        body = json.dumps(event.payload, separators=(",", ":")).encode()
        timestamp = int(time.time() if at is None else at)
        return body, {
            "svix-id": event.id,
            "svix-timestamp": str(timestamp),
            "svix-signature": sign(secret or self.secret, event.id, timestamp, body),
            "Content-Type": "application/json",
        }

    def release(self, order: str = "as_sent", twice: bool = False, lose: int = 0) -> list[Event]:
        """Send what is held: `lose` of them never, the rest once or twice, as it happened or
        shuffled. Returns the events in the order in which they go out."""
        if order not in ORDERS:
            raise ValueError(f"no such order: {order}")
        with self._changed:
            self._must_have_url()
            held, self._held = self._held, []
            for delivery in self.random.sample(held, min(max(lose, 0), len(held))):
                delivery.state = "lost"
            going = [d for d in held if d.state == "held" for _ in range(2 if twice else 1)]
            if order == "shuffled":
                self.random.shuffle(going)
            for delivery in going:
                self._send(delivery)
            return [delivery.event for delivery in going]

    def resend(self, event_id: str) -> None:
        """Send one again, whatever became of it, with the same id."""
        with self._changed:
            self._must_have_url()
            delivery = self._deliveries[event_id]
            if delivery in self._held:
                self._held.remove(delivery)
            self._send(delivery)

    def wait_idle(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is being sent or waits for it; held events do not count."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._due or self._sending), timeout)

    def _must_have_url(self) -> None:
        if self._url is None:
            raise ValueError("nobody to send to: send_to(url) first")

    def _drop(self) -> None:
        """Nothing goes out after this: what is being sent right now is waited for."""
        for due in self._due:
            due.delivery.state = "not sent"
        self._due.clear()
        if threading.current_thread() is not self._thread:
            self._changed.wait_for(lambda: not self._sending, QUIET)
        self._due.clear()

    def _send(self, delivery: Delivery) -> None:
        delivery.state = "waiting"
        self._put(delivery, 0.0, self.pauses)

    def _put(self, delivery: Delivery, pause: float, pauses: tuple[float, ...]) -> None:
        moment = time.monotonic() + pause if pause else 0.0
        heapq.heappush(self._due, _Due(moment, next(self._numbers), delivery, pauses))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while (due := self._next()) is not None:
            url, delivery = self._url, due.delivery
            status = _post(url, *self.signed(delivery.event)) if url else None
            with self._changed:
                self._sending = False
                delivery.attempts += 1
                delivery.status = status
                if status is not None and 200 <= status < 300:
                    delivery.state = "delivered"
                elif due.pauses and self._url == url:
                    self._put(delivery, due.pauses[0], due.pauses[1:])
                else:
                    delivery.state = "failed"
                self._changed.notify_all()

    def _next(self) -> _Due | None:
        """The next that is due; None at the end."""
        with self._changed:
            while not self._stopped:
                wait = self._due[0].at - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    self._sending = True
                    return heapq.heappop(self._due)
                self._changed.wait(wait)
            return None


def sign(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The header `svix-signature`."""
    message = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), message, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def _about(event: Event) -> str:
    """The user whom an event is about."""
    data = event.payload["data"]
    return str(data.get("user_id") or data.get("id") or "")


def _post(url: str, body: bytes, headers: dict[str, str]) -> int | None:
    """The status of the answer, None without one. A redirect is a failure, as with Svix."""
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=TIMEOUT)
    path = parts.path or "/"
    try:
        connection.request("POST", f"{path}?{parts.query}" if parts.query else path, body, headers)
        answer = connection.getresponse()
        answer.read(65_536)
        return answer.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
