"""Read from Clerk through requests.

The SDK has no cursor paging, and it refuses a whole page for one new enum value. Answers are
parsed tolerantly here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

import orjson
import requests
from django.utils.translation import gettext as _

from users.clerk.answers import error_of, http_date
from users.clerk.deadline import Deadline
from users.clerk.pace import Pace, pause_bulk_work
from users.clerk.transport import DeadlineAdapter, DeadlineTransport, until
from users.errors import ClerkError, ClerkRateLimited, ClerkUnknown, ClerkUnreachable

ATTEMPTS = 3
FIRST_PAUSE = 0.1
CONNECT_TIMEOUT = 3.0

Params = Sequence[tuple[str, str | int]]


class Reader:
    """Sends GET requests, up to three times within their deadline. Writes are never repeated."""

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
        adapter = DeadlineAdapter(DeadlineTransport(connect_within=CONNECT_TIMEOUT))
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def get(
        self, path: str, params: Params = (), *, deadline: Deadline, pace: Pace | None = None
    ) -> object:
        """Return the JSON at `path`.

        Raises `ClerkError`.
        """
        return self._try(path, params, deadline, pace)[0]

    def date(self, path: str, *, deadline: Deadline) -> datetime:
        """Return the time that Clerk's clock shows in the header of an answer.

        Raises `ClerkError`.
        """
        _, headers = self._try(path, (), deadline, None)
        date = http_date(headers.get("Date", ""))
        if date is None:
            raise ClerkUnknown("Clerk's answer does not say its time")
        return date

    def _try(
        self, path: str, params: Params, deadline: Deadline, pace: Pace | None
    ) -> tuple[object, Mapping[str, str]]:
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._get(path, params, deadline, pace, last=attempt == ATTEMPTS)
            except (ClerkRateLimited, ClerkUnknown, ClerkUnreachable) as error:
                failure: ClerkError = error
            if failure.retry_after is not None:
                pause = max(pause, failure.retry_after)
                pause_bulk_work(pace, failure.retry_after)
            if attempt == ATTEMPTS or pause >= deadline.remaining():
                raise failure
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _get(
        self, path: str, params: Params, deadline: Deadline, pace: Pace | None, *, last: bool
    ) -> tuple[object, Mapping[str, str]]:
        if pace is not None:
            pace.wait()
        # A try that hangs must leave time for the next one.
        mine = deadline if last else Deadline(deadline.remaining() * 0.6)
        if mine.expired:
            raise ClerkUnknown(_("Clerk did not answer in time"))
        with until(mine):
            answer = self._session.get(
                f"{self._url}{path}", params=list(params), allow_redirects=False
            )
        return _json_of(answer.status_code, answer.content, answer.headers), answer.headers


def _json_of(status: int, body: bytes, headers: Mapping[str, str]) -> object:
    if status != 200:
        raise error_of(status, body, headers)
    try:
        return orjson.loads(body)
    except ValueError:
        pass  # orjson refuses lone surrogates, but one odd text must not hide a page
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ClerkUnknown(_("Clerk's answer cannot be read"), status=status) from None
