"""Write to Clerk through its SDK, with fixed rules instead of the SDK's own.

They replace its retries, its timeouts, its choice of error classes, its API version, and its use
of proxies and redirects.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TypeVar

import httpx
from clerk_backend_api import Clerk as ClerkSDK
from clerk_backend_api.models import ClerkBaseError
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from pydantic import BaseModel

from users.clerk import sdk_models
from users.clerk.answers import error_of
from users.clerk.deadline import Deadline
from users.clerk.transport import DeadlineTransport, tls, until
from users.errors import ClerkError, ClerkUnknown, ClerkUnreadable

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Writer:
    """Sends each write once. Threads share the SDK, but each thread has its own deadline."""

    def __init__(
        self, *, url: str, key: str, version: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        # At INFO httpx logs URLs, which contain people's addresses.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        sdk_models.install()

        def pin_version(request: httpx.Request) -> None:
            # Runs after the SDK's own hook, which sends an older version than that of its models.
            request.headers["Clerk-API-Version"] = version

        self._sdk = ClerkSDK(
            bearer_auth=key,
            server_url=url,
            client=httpx.Client(
                transport=transport or DeadlineTransport(),
                trust_env=False,
                follow_redirects=False,
                timeout=None,  # noqa: S113 (the transport has a deadline)
                event_hooks={"request": [pin_version]},
            ),
            async_client=httpx.AsyncClient(trust_env=False, verify=tls()),  # never used
            retry_config=None,
        )

    @sensitive_variables()
    def write(
        self,
        call: Callable[[ClerkSDK], BaseModel],
        parse: Callable[[object], T],
        deadline: Deadline,
    ) -> T:
        """Make one call of the SDK and parse Clerk's answer.

        Raises `ClerkError`.
        """
        try:
            with until(deadline):
                data = call(self._sdk).model_dump(mode="json")
        except ClerkBaseError as error:
            status, body, headers = error.status_code, error.body, error.headers
            # Use the status of the answer itself: the SDK reports another for an unreadable body.
            if error.raw_response is not None:
                status = error.raw_response.status_code
        except ClerkError:
            raise  # from the transport
        except Exception as error:
            # Count any failure as unknown. Hide its frames, because they may hold a password.
            logger.error("Clerk's SDK failed with %s", type(error).__name__)
            raise ClerkUnknown(_("The call of Clerk failed in its SDK")) from None
        else:
            return _read(parse, data)
        if status == 200:
            # Clerk made the change. The SDK refuses an answer with a single unknown value.
            return _read(parse, _json(body))
        raise error_of(status, body, headers) from None


def _json(body: str) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _read(parse: Callable[[object], T], data: object) -> T:
    try:
        return parse(data)
    except ValueError:
        raise ClerkUnreadable(
            _("Clerk answered that it did it, but the answer cannot be read"), status=200
        ) from None
