"""What every endpoint does before and after its own work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType

import orjson
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt
from structlog.contextvars import bind_contextvars

from cascade.addresses import client_of
from users import bodies, throttle
from users.api.answers import NOT_CONFIGURED, Rejected, answer, rejection_of
from users.clerk import session_tokens
from users.errors import ChangeFailed
from users.sync.services.front_end import Caller

logger = logging.getLogger(__name__)

MAX_BODY = 64 * 2**10
MAX_DEPTH = 20
PER_PERSON, PER_ADDRESS = 60, 600
"""Requests a minute. Many people of one company share an address."""


@dataclass(frozen=True)
class Asked:
    """A request whose person is known. `body` is {} if none was sent."""

    caller: Caller
    body: Mapping[str, object]


Handler = Callable[..., Mapping[str, object]]
View = Callable[..., HttpResponse]


def endpoint(
    method: str, *, failed: Mapping[str, object] = MappingProxyType({})
) -> Callable[[Handler], View]:
    """Make a view of a function that takes `Asked` and returns the JSON of its answer.

    An error is answered as `{**failed, "error": text}`. The view checks, in this order:

    1. The method is the right one.
    2. The address has requests left.
    3. A token proves the person.
    4. The person has requests left.
    5. The body is a JSON object.
    """

    def decorate(handle: Handler) -> View:
        @login_not_required  # only the token counts, not the session of a staff user
        @csrf_exempt  # no cookie counts, so no other page can send the request
        @wraps(handle)
        def view(request: HttpRequest, **path: str) -> HttpResponse:
            try:
                if request.method != method:
                    raise Rejected(405, "Method not allowed", headers={"Allow": method})
                return answer(handle(_asked(request), **path))
            except ChangeFailed as failure:
                rejected = rejection_of(failure)
            except Rejected as error:
                rejected = error
            except (DatabaseError, InterfaceError) as error:
                logger.error("The database failed: %s", error)
                connection.close()
                text = "The database is not available. Wait a minute and reload."
                rejected = Rejected(503, text, headers={"Retry-After": "30"})
            return answer(
                {**failed, "error": rejected.text, **rejected.more},
                status=rejected.status,
                headers=rejected.headers,
            )

        return view

    return decorate


def _asked(request: HttpRequest) -> Asked:
    _throttle(f"address {client_of(request).network}", PER_ADDRESS)
    if not session_tokens.configured():
        raise Rejected(500, NOT_CONFIGURED)
    try:
        clerk_id = session_tokens.clerk_id_of(request.headers.get("Authorization", ""))
    except session_tokens.NotSignedIn as error:
        logger.info("A request without a valid session: %s", error.reason)
        raise Rejected(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from None
    bind_contextvars(actor=clerk_id)
    _throttle(f"person {clerk_id}", PER_PERSON)
    return Asked(Caller(clerk_id), _body_of(request))


# --- How often -----------------------------------------------------------------------------------


def _throttle(who: str, limit: int) -> None:
    if seconds := throttle.seconds_to_wait(who, limit=limit):
        text = f"Too many requests. Try again in {seconds} seconds."
        raise Rejected(429, text, headers={"Retry-After": str(seconds)})


# --- The body ------------------------------------------------------------------------------------


def _body_of(request: HttpRequest) -> Mapping[str, object]:
    """Return the JSON of a request.

    Raises `Rejected`.
    """
    try:
        raw = bodies.read(request, limit=MAX_BODY)
    except RequestDataTooBig:
        raise Rejected(413, f"The body is larger than {MAX_BODY // 2**10} KiB.") from None
    except UnreadablePostError:
        raise Rejected(400, "The body could not be read.") from None
    if not raw:
        return {}
    if request.content_type != "application/json":
        raise Rejected(415, "Send the body as application/json.")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise Rejected(400, "The body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise Rejected(400, "The body must be a JSON object.")
    _require_storable(body, MAX_DEPTH)
    return body


def _require_storable(value: object, depth: int) -> None:
    """Refuse valid JSON that PostgreSQL cannot store, or only at great cost.

    Raises `Rejected`.
    """
    if depth == 0:
        raise Rejected(400, "The body is nested too deeply.")
    if isinstance(value, str) and "\0" in value:
        raise Rejected(400, "The body must not hold NUL characters.")
    if isinstance(value, dict):
        for key, entry in value.items():
            _require_storable(key, depth)
            _require_storable(entry, depth - 1)
    elif isinstance(value, list):
        for entry in value:
            _require_storable(entry, depth - 1)
