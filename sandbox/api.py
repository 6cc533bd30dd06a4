"""Answer requests to the Backend API as Clerk does."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from sandbox import routes, stale
from sandbox.errors import Refusal, problem
from sandbox.faults import Fault
from sandbox.limits import Limiter
from sandbox.requests import Request
from sandbox.state import Encoded, State

VERSIONS = ("2026-05-12", "2025-11-10")
RAY = {"cf-ray": "9f00ba11deadbeef"}


@dataclass
class Answer:
    """An HTTP answer of the sandbox."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class Api:
    """Check a request and pass it to the handler of its route.

    The order of the checks is: key, API version, route, body, rate limit.
    """

    def __init__(self, state: State, limiter: Limiter, secret_key: str) -> None:
        self._state = state
        self._limiter = limiter
        self._secret_key = secret_key

    def answer(
        self, request: Request, authorization: str | None, versions: list[str], malformed: bool
    ) -> Answer:
        """Return the answer to a request; a refusal is also an answer.

        `versions` are the API versions from the header and the query. `malformed` says that the
        body is not a JSON object.
        """
        try:
            self._authenticate(authorization)
            request.version = _version(versions)
            route, ids = routes.checked(request.method, request.path, request.query)
            if malformed:
                raise Refusal(400, problem("request_body_invalid", "Request body invalid"))
            with self._state.lock:
                self._limiter.check(route, ids.get("user_id"))
                return self._done(routes.ROUTES[route](self._state, request, **ids))
        except Refusal as refusal:
            return refused(refusal)

    def before(self, request: Request) -> Answer:
        """Return the answer with the values from before a write. The write is not applied."""
        try:
            route, ids = routes.checked(request.method, request.path, request.query)
            with self._state.lock:
                return self._done(stale.before(self._state, route, request, ids))
        except Refusal as refusal:
            return refused(refusal)

    def _done(self, body: Any) -> Answer:
        body = self._state.instance.shown(body)
        text = body if isinstance(body, Encoded) else json.dumps(body)
        return Answer(200, text.encode())

    def _authenticate(self, authorization: str | None) -> None:
        if not authorization:
            raise Refusal(401, problem("authentication_invalid", "Invalid authentication",
                                       "Unable to authenticate the request."))  # fmt: skip
        scheme, _, key = authorization.partition(" ")
        if scheme != "Bearer" or not key:
            text = 'Invalid Authorization header format. Must be "Bearer <YOUR_API_KEY>"'
            raise Refusal(401, problem("authorization_header_format_invalid", text))
        if not secrets.compare_digest(key.encode(), self._secret_key.encode()):
            text = (
                "The provided Clerk Secret Key is invalid. "
                "Make sure that your Clerk Secret Key is correct."
            )
            raise Refusal(401, problem("clerk_key_invalid", text))


def _version(versions: list[str]) -> str:
    if not versions:
        return VERSIONS[-1]
    if len(versions) > 1 or versions[0] not in VERSIONS:
        raise Refusal(400, problem("api_version_invalid", "Invalid API version",
                                   "The API version is not one that Clerk has."))  # fmt: skip
    return versions[0]


def refused(refusal: Refusal) -> Answer:
    """Return the answer that a refusal makes, with Clerk's error format and trace id."""
    trace_id = secrets.token_hex(16)
    body = {"errors": refusal.errors, "clerk_trace_id": trace_id}
    headers = {"cf-ray": trace_id[:16], **refusal.headers}
    return Answer(refusal.status, json.dumps(body).encode(), headers)


def faulty(fault: Fault, answer: Answer) -> Answer:
    """Return the answer that a fault puts in the place of the real one."""
    match fault.kind:
        case "status" | "late":
            errors: list[dict[str, Any]] = fault.errors or [
                problem(fault.code, fault.message, param=fault.param)
            ]
            headers = {"Retry-After": str(fault.retry_after)} if fault.status == 429 else {}
            return refused(Refusal(fault.status, *errors, headers=headers))
        case "html":
            return _page(502, RAY)
        case "html_200":
            return _page(200, {})
        case "foreign_4xx":
            return _foreign(fault)
        case "broken_json":
            return Answer(200, answer.body[: len(answer.body) // 2] or b"{")
        case "unreadable_error":
            return Answer(422, b"\x00<not json", RAY)
        case _:
            return answer


def _foreign(fault: Fault) -> Answer:
    """Return a refusal that does not come from Clerk."""
    if fault.body == "json":
        return Answer(fault.status, json.dumps({"error": "Request blocked"}).encode(), RAY)
    return _page(fault.status, RAY)


def _page(status: int, headers: dict[str, str]) -> Answer:
    """Return an HTML page of a system between the caller and Clerk."""
    html = (
        f"<html><head><title>{status}</title></head><body><h1>{status}</h1>cloudflare</body></html>"
    )
    return Answer(status, html.encode(), headers, "text/html")
