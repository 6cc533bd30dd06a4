"""Run a Clerk locally: its Backend API with state, refusals, rate limits and faults.

Tests and pages switch the faults on. The sandbox binds to 127.0.0.1 only and does not depend on the
application.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox import invitations, person, sessions, tokens, users
from sandbox.api import Api
from sandbox.control import Control
from sandbox.faults import Fault, Faults
from sandbox.instance import Instance
from sandbox.keep import Keeper, StateFileError
from sandbox.late import LateRequests
from sandbox.limits import Limiter, Limits
from sandbox.requests import Request
from sandbox.routes import ROUTES
from sandbox.server import Server
from sandbox.site import Site
from sandbox.state import Json, State
from sandbox.webhooks import Event, Webhooks

__all__ = ["Event", "Fault", "Limits", "Request", "Sandbox", "StateFileError"]

LOG_LENGTH = 20_000


class Sandbox(Instance):
    """A running Clerk.

    `url` is the value for CLERK_API_URL. `root` is the address of the pages. `latency` is in
    seconds and delays each answer. `clock` returns Unix time in seconds.

    Raises `StateFileError` if the state file cannot be read, and `OSError` if the port is in use.
    """

    def __init__(
        self,
        *,
        secret_key: str = "sk_test_sandbox",
        port: int = 0,
        latency: float = 0.0,
        limits: Limits | None = None,
        state_file: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(secret_key)
        self.latency = latency
        self.state = State(self, clock)
        self.faults = Faults()
        self._late = LateRequests()
        self.limiter = Limiter(limits, clock)
        self.api = Api(self.state, self.limiter, secret_key)
        self.control = Control(self)
        self.site = Site(self)
        self._log: list[Request] = []
        self._server = Server(port, self)
        self.port = self._server.server_address[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"
        self.webhooks = Webhooks(
            self.state.now, lambda: self.instance_id, name=f"webhooks of {self.port}"
        )
        self.state.listeners.append(self.webhooks.record)
        self._keeper = self._kept_in(state_file) if state_file else None

    def _kept_in(self, file: Path) -> Keeper:
        try:
            return Keeper(file, self._dump, self._load)
        except StateFileError:
            self._server.server_close()
            raise

    def _dump(self) -> str:
        with self.state.lock:
            return self.state.dump(
                {
                    "webhooks": self.webhooks.dump(),
                    "faults": self.faults.dump(),
                    "instance": self.settings(),
                }
            )

    def _load(self, kept: Json) -> None:
        self.state.load(kept)
        if "webhooks" in kept:
            self.webhooks.load(kept["webhooks"])
        self.faults.load(kept.get("faults", []))
        self.change_settings(kept.get("instance", {}))

    def start(self) -> Sandbox:
        """Serve requests in a thread of its own, and return the sandbox."""
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="sandbox", daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """Stop the server and drop the late requests. The state file keeps everything else."""
        self._server.shutdown()
        self._late.drop()
        if self._keeper:
            self._keeper.stop()
        self.faults.clear()
        self.webhooks.stop()
        self._server.server_close()

    def reset(self) -> None:
        """Return to the initial state: no users, faults, late requests, events or log."""
        self._late.drop()
        self.faults.clear()
        self.reset_instance()
        self.webhooks.reset()
        self.state.clear()
        self.limiter = Limiter(self.limiter.limits, self.state.clock)
        self.api = Api(self.state, self.limiter, self.secret_key)
        self.latency = 0.0
        self.clear_requests()

    # --- Contents ----------------------------------------------------------------------------

    def user(self, clerk_id: str) -> Json | None:
        """Return a copy of a user, or None for an unknown id."""
        with self.state.lock:
            return self.state.user(clerk_id) if clerk_id in self.state else None

    def users(self) -> list[Json]:
        """Return copies of all users, in the order in which they were stored."""
        with self.state.lock:
            return self.state.users()

    def find(self, email: str) -> list[Json]:
        """Return copies of the users who have an email address. Case does not matter."""
        with self.state.lock:
            return self.state.by_address(email)

    def invitations(self) -> list[Json]:
        """Return copies of all invitations, oldest first.

        A pending invitation that has expired is still "pending" here.
        """
        with self.state.lock:
            return copy.deepcopy(list(self.state.invitations.values()))

    def mails(self) -> list[Json]:
        """Return copies of the mails that this Clerk has sent, oldest first."""
        with self.state.lock:
            return copy.deepcopy(self.state.mails)

    # --- Events inside Clerk -----------------------------------------------------------------

    def add_user(self, *, email: str | None = None, verified: bool = True, **fields: Any) -> Json:
        """Create a user, and emit the event. The other fields are those of Clerk's User."""
        with self.state.lock:
            user = users.person(self.state, email=email, verified=verified, **fields)
            self.state.save(user)
            self.state.emit("user.created", user)
            return user

    def fill(self, count: int, make: Callable[[int], Json]) -> list[str]:
        """Create `count` users without events, as if they had always existed; return their ids.

        `make(n)` returns the arguments of `add_user` for the user with number n.
        """
        with self.state.lock:
            return self.state.save_all(
                users.person(self.state, **make(number)) for number in range(count)
            )

    def edit(self, clerk_id: str, **fields: Any) -> Json:
        """Change a user as in Clerk's dashboard or on the person's profile page."""
        with self.state.lock:
            return person.edit(self.state, clerk_id, **fields)

    def link_google(self, clerk_id: str) -> Json:
        """Connect a Google account with the person's primary address."""
        with self.state.lock:
            return person.link_google(self.state, clerk_id)

    def unlink_google(self, clerk_id: str) -> Json:
        """Disconnect all Google accounts of the person."""
        with self.state.lock:
            return person.unlink_google(self.state, clerk_id)

    def delete(self, clerk_id: str) -> None:
        """Delete a user as in Clerk's dashboard, and emit the event."""
        with self.state.lock:
            users.delete_user(self.state, Request("DELETE", ""), clerk_id)

    def accept(self, invitation_id: str, **answers: str) -> Json:
        """Accept an invitation as the invited person, and return the new user.

        `answers` may have `first_name`, `last_name` and `password`.
        """
        with self.state.lock:
            return invitations.accept(self.state, invitation_id, **answers)

    def sign_in(self, clerk_id: str, *, pending: bool = False, **activity: Any) -> Json:
        """Sign the person in, and return a copy of the new session.

        A `pending` session is of a person who still has a task before the sign-in is finished.
        `activity` replaces fields of its `latest_activity`, such as `city`.
        """
        with self.state.lock:
            new = sessions.sign_in(self.state, clerk_id, pending=pending, **activity)
            return copy.deepcopy(new)

    def session_token(
        self, clerk_id: str, *, azp: str | None = None, lifetime: int = tokens.LIFETIME
    ) -> str:
        """Return the token that the person's browser sends to a server as proof of identity.

        `azp` is the origin of the page. `lifetime` is in seconds. The person signs in first if they
        have no active session.
        """
        with self.state.lock:
            return tokens.issue(self.state, self.session_key, clerk_id, azp=azp, lifetime=lifetime)

    @property
    def session_key(self) -> tokens.Key:
        """The key that signs the tokens. Its `public_pem` is the value for CLERK_JWT_KEY."""
        return tokens.key_of(self.secret_key)

    def sign_out(self, clerk_id: str) -> None:
        """Sign the person out on all devices."""
        with self.state.lock:
            sessions.end_sessions(self.state, self.state.user(clerk_id)["id"], "removed")

    # --- Faults and the log ------------------------------------------------------------------

    def fault(self, route: str, kind: str, **options: Any) -> Fault:
        """Switch a fault on; `options` are the fields of `sandbox.faults.Fault`.

        Raises `ValueError` for an unknown route or kind.
        """
        if route != "*" and route not in ROUTES:
            raise ValueError(f"no such route: {route}")
        return self.faults.add(Fault(route, kind, **options))

    def clear_faults(self) -> None:
        """Switch all faults off. Late requests stay."""
        self.faults.clear()

    def late(self) -> int:
        """Return how many requests were answered but are not applied yet."""
        return len(self._late)

    def apply_late(self) -> None:
        """Apply the late requests now, in the order of their arrival."""
        self._late.apply_all()

    def drop_late(self) -> None:
        """Lose the late requests: they are never applied."""
        self._late.drop()

    def apply_later(self, call: Callable[[], object], seconds: float | None) -> None:
        """Store a request until its seconds are over, or until `apply_late` if there are none."""
        self._late.add(call, seconds)

    def log(self, request: Request) -> None:
        """Append a request to the log, which keeps the last `LOG_LENGTH` requests."""
        self._log.append(request)
        del self._log[:-LOG_LENGTH]

    def requests(self) -> list[Request]:
        """Return the requests to the API, oldest first. "(set)" replaces each password."""
        return [_without_password(request) for request in list(self._log)]

    def writes(self) -> list[Request]:
        """Return the logged requests that are not GET."""
        return [request for request in self.requests() if request.method != "GET"]

    def clear_requests(self) -> None:
        """Empty the log."""
        self._log.clear()


def _without_password(request: Request) -> Request:
    if not request.body or "password" not in request.body:
        return request
    return Request(
        request.method,
        request.path,
        request.query,
        request.body | {"password": "(set)"},
        request.version,
        request.status,
    )
