"""Reading from Clerk through requests: cursor paging, which the SDK lacks, and answers parsed
tolerantly, so that one new enum value does not hide a page (FACTS §1.2, §3.2)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from users.clerk.answers import error_of
from users.clerk.deadline import Deadline
from users.clerk.pace import Pace
from users.errors import ClerkError, ClerkRateLimited, ClerkRefused, ClerkUnknown, ClerkUnreachable

MAX_ANSWER = 50 * 2**20
ATTEMPTS = 3
FIRST_PAUSE = 0.1
CONNECT_TIMEOUT = 3.0

Params = Sequence[tuple[str, str | int]]


class Reader:
    """GETs, tried up to three times within their deadline. Writes are never tried again."""

    def __init__(self, *, url: str, key: str, version: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy and no .netrc from the environment
        self._session.headers.update(
            {
                "Authorization": f"Bearer {key}",
                "Clerk-API-Version": version,
                "Accept": "application/json",
            }
        )
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=50, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def get(
        self, path: str, params: Params = (), *, deadline: Deadline, pace: Pace | None = None
    ) -> Any:
        """The JSON at `path`. Raises `ClerkError`."""
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._get(path, params, deadline, pace, last=attempt == ATTEMPTS)
            except ClerkRateLimited as error:
                failure: ClerkError = error
                pause = max(pause, error.retry_after)
                if pace is not None:
                    pace.pause(error.retry_after)
            except ClerkRefused:
                raise
            except (ClerkUnknown, ClerkUnreachable) as error:
                failure = error
            if attempt == ATTEMPTS or pause >= deadline.remaining():
                raise failure
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _get(
        self, path: str, params: Params, deadline: Deadline, pace: Pace | None, *, last: bool
    ) -> Any:
        if pace is not None:
            pace.wait()
        # An attempt that hangs must leave time for another.
        mine = deadline if last else Deadline(deadline.remaining() * 0.6)
        left = mine.remaining()
        if left <= 0:
            raise ClerkUnknown("Clerk did not answer in time")
        try:
            with self._session.get(
                f"{self._url}{path}",
                params=list(params),
                timeout=(min(left, CONNECT_TIMEOUT), left),
                allow_redirects=False,
                stream=True,
            ) as answer:
                return _json_of(answer.status_code, _body(answer, mine), answer.headers)
        except requests.ConnectTimeout:
            raise ClerkUnreachable("Clerk could not be reached") from None
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise ClerkUnknown("Clerk did not answer in time") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            reason = getattr(error.args[0] if error.args else None, "reason", None)
            if isinstance(reason, urllib3.exceptions.NewConnectionError):
                raise ClerkUnreachable("Clerk could not be reached") from None
            raise ClerkUnknown("The connection to Clerk broke") from None


def _body(answer: requests.Response, deadline: Deadline) -> bytes:
    """The body as it comes: `content` would let a dripping server outlive the deadline."""
    body = bytearray()
    while chunk := answer.raw.read1(65536, decode_content=True):
        body += chunk
        if deadline.expired:
            raise requests.ReadTimeout("the deadline is over")
        if len(body) > MAX_ANSWER:
            raise requests.RequestException("the answer is too long")
    return bytes(body)


def _json_of(status: int, body: bytes, headers: Mapping[str, str]) -> Any:
    if status != 200:
        raise error_of(status, body, headers)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ClerkUnknown("Clerk's answer cannot be read", status=status) from None
