"""Send Clerk's webhooks: each change becomes an event, signed and sent as Svix does."""

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
"""Seconds before each retry of a failed event. Svix spreads its retries over 27 hours."""
TIMEOUT = 15.0
QUIET = 5.0


@dataclass(frozen=True)
class Event:
    """One event. `id` is the `svix-id` header, `payload` the whole body, `at` its time in ms."""

    id: str
    type: str
    payload: Json
    at: int


@dataclass
class Delivery:
    """The delivery of one event.

    `state` is "not sent" (there is no URL), "held", "waiting", "delivered", "failed" or "lost".
    `status` is the HTTP status of the last answer, or None without an answer.
    """

    event: Event
    state: str = "not sent"
    attempts: int = 0
    status: int | None = None


@dataclass(order=True)
class _Due:
    """One planned sending at a monotonic time. Sendings with the same time keep their order."""

    at: float
    number: int
    delivery: Delivery = field(compare=False)
    pauses: tuple[float, ...] = field(compare=False)


class Webhooks:
    """Record events, and send them to the URL of `send_to`.

    The thread of the sender uses only the lock of this object, which is held for short moments.
    """

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

    # --- Settings ----------------------------------------------------------------------------

    @property
    def url(self) -> str | None:
        """The URL that receives the events, or None."""
        return self._url

    def send_to(self, url: str | None, secret: str | None = None) -> None:
        """Post the events from now on to `url`; with None, stop and drop the waiting ones.

        Raises `ValueError` for a URL that is not HTTP and for a malformed secret.
        """
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
        """How events are sent.

        "live" sends at once and in order, "held" waits for `release`, and "lost" only records.
        """
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        if mode not in MODES:
            raise ValueError(f"no such mode: {mode}")
        with self._changed:
            self._mode = mode

    @property
    def held(self) -> int:
        """The number of events that wait for `release`."""
        return len(self._held)

    def dump(self) -> Json:
        """Return URL, secret, mode and held events, for `load`."""
        with self._changed:
            held = [asdict(delivery.event) for delivery in self._held]
            return {"url": self._url, "secret": self.secret, "mode": self._mode, "held": held}

    def load(self, kept: Json) -> None:
        """Restore the values of a `dump`.

        Raises `ValueError`, `KeyError` or `TypeError` for other data.
        """
        self.send_to(kept["url"], kept["secret"])
        self.mode = kept["mode"]
        with self._changed:
            for event in kept["held"]:
                delivery = Delivery(Event(**event), "held")
                self._deliveries[delivery.event.id] = delivery
                self._held.append(delivery)

    def reset(self) -> None:
        """Delete all events and the URL, and return to the mode "live"."""
        with self._changed:
            self._drop()
            self._forget()
            self._changed.notify_all()

    def stop(self) -> None:
        """Delete everything, and end the thread of the sender."""
        self.reset()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread:
            thread.join(QUIET)

    # --- Events ------------------------------------------------------------------------------

    def record(self, kind: str, data: Json) -> Event:
        """Record an event of now, and send or hold it by the mode.

        The event has a copy of `data`, so the caller may change `data` afterwards.
        """
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
        """The recorded events, oldest first."""
        with self._changed:
            return [delivery.event for delivery in self._deliveries.values()]

    def deliveries(self, last: int = KEPT_EVENTS) -> list[dict[str, Any]]:
        """Return the deliveries of the last events as JSON, newest first."""
        with self._changed:
            newest = itertools.islice(reversed(self._deliveries.values()), last)
            return [
                {"id": delivery.event.id, "type": delivery.event.type, "at": delivery.event.at,
                 "about": _about(delivery.event), "state": delivery.state,
                 "attempts": delivery.attempts, "status": delivery.status}
                for delivery in newest
            ]  # fmt: skip

    def event(self, event_id: str) -> Event | None:
        """Return an event by its id, or None."""
        with self._changed:
            delivery = self._deliveries.get(event_id)
            return delivery.event if delivery else None

    # --- Sending -----------------------------------------------------------------------------

    def signed(
        self, event: Event, *, secret: str | None = None, at: float | None = None
    ) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers of a delivery at `at` (Unix seconds, by default now)."""
        body = json.dumps(event.payload, separators=(",", ":")).encode()
        timestamp = int(time.time() if at is None else at)
        return body, {
            "svix-id": event.id,
            "svix-timestamp": str(timestamp),
            "svix-signature": sign(secret or self.secret, event.id, timestamp, body),
            "Content-Type": "application/json",
        }

    def release(self, order: str = "as_sent", twice: bool = False, lose: int = 0) -> list[Event]:
        """Send the held events, and return them in the order of sending.

        `lose` events are never sent. The others are sent once, or twice if `twice` is set. `order`
        is one of `ORDERS`.

        Raises `ValueError` for an unknown order, or if there is no URL.
        """
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
        """Send an event again with the same id, whatever its state.

        Raises `KeyError` for an unknown id, and `ValueError` if there is no URL.
        """
        with self._changed:
            self._must_have_url()
            delivery = self._deliveries[event_id]
            if delivery in self._held:
                self._held.remove(delivery)
            self._send(delivery)

    def wait_idle(self, timeout: float = 10.0) -> bool:
        """Wait until no sending is planned or running, at most `timeout` seconds.

        Held events do not count. Return whether the sender is idle.
        """
        with self._changed:
            return self._changed.wait_for(lambda: not (self._due or self._sending), timeout)

    def _must_have_url(self) -> None:
        if self._url is None:
            raise ValueError("nobody to send to: send_to(url) first")

    def _drop(self) -> None:
        """Drop the planned sendings, and wait for the one that is running."""
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
        """Wait for the next sending that is due, and return it; return None after `stop`."""
        with self._changed:
            while not self._stopped:
                wait = self._due[0].at - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    self._sending = True
                    return heapq.heappop(self._due)
                self._changed.wait(wait)
            return None


def sign(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the `svix-signature` header."""
    message = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), message, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def _about(event: Event) -> str:
    """Return the id of the user whom the event is about, or ""."""
    data = event.payload["data"]
    return str(data.get("user_id") or data.get("id") or "")


def _post(url: str, body: bytes, headers: dict[str, str]) -> int | None:
    """Post a body, and return the HTTP status, or None without an answer.

    A redirect is not followed. It counts as a failure, as with Svix.
    """
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
