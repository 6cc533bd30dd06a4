"""Read from Clerk through requests.

The SDK has no cursor paging, and it refuses a whole page for one new enum value. Answers are
parsed tolerantly here.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import requests
import urllib3
from requests.adapters import HTTPAdapter

from users.clerk.answers import error_of, http_date
from users.clerk.clock import Call
from users.clerk.deadline import Deadline
from users.clerk.pace import Pace
from users.clerk.transport import left, until
from users.errors import ClerkError, ClerkRateLimited, ClerkUnknown, ClerkUnreachable

MAX_ANSWER = 50 * 2**20
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
        adapter = _Adapter(pool_connections=4, pool_maxsize=50, max_retries=0)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    def get(
        self, path: str, params: Params = (), *, deadline: Deadline, pace: Pace | None = None
    ) -> Any:
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
    ) -> tuple[Any, Mapping[str, str]]:
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._get(path, params, deadline, pace, last=attempt == ATTEMPTS)
            except (ClerkRateLimited, ClerkUnknown, ClerkUnreachable) as error:
                failure: ClerkError = error
            if failure.retry_after is not None:
                pause = max(pause, failure.retry_after)
                if pace is not None:
                    pace.pause(failure.retry_after)
            if attempt == ATTEMPTS or pause >= deadline.remaining():
                raise failure
            time.sleep(pause)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")

    def _get(
        self, path: str, params: Params, deadline: Deadline, pace: Pace | None, *, last: bool
    ) -> tuple[Any, Mapping[str, str]]:
        if pace is not None:
            pace.wait()
        # A try that hangs must leave time for the next one.
        mine = deadline if last else Deadline(deadline.remaining() * 0.6)
        seconds = mine.remaining()
        if seconds <= 0:
            raise ClerkUnknown("Clerk did not answer in time")
        call = Call()
        try:
            with (
                until(mine),
                self._session.get(
                    f"{self._url}{path}",
                    params=list(params),
                    timeout=(min(seconds, CONNECT_TIMEOUT), seconds),
                    allow_redirects=False,
                    stream=True,
                ) as answer,
            ):
                call.learn(http_date(answer.headers.get("Date", "")))
                data = _json_of(answer.status_code, _body(answer), answer.headers)
                return data, answer.headers
        except requests.ConnectTimeout:
            raise ClerkUnreachable("Clerk could not be reached") from None
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise ClerkUnknown("Clerk did not answer in time") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            reason = getattr(error.args[0] if error.args else None, "reason", None)
            if isinstance(reason, urllib3.exceptions.NewConnectionError):
                raise ClerkUnreachable("Clerk could not be reached") from None
            raise ClerkUnknown("The connection to Clerk broke") from None


def _body(answer: requests.Response) -> bytes:
    """Read the body piece by piece, because `content` would read an endless one."""
    body = bytearray()
    while chunk := answer.raw.read1(65536, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER:
            raise requests.RequestException("the answer is too long")
    return bytes(body)


def _json_of(status: int, body: bytes, headers: Mapping[str, str]) -> Any:
    if status != 200:
        raise error_of(status, body, headers)
    try:
        return orjson.loads(body)
    except ValueError:
        pass  # orjson refuses lone surrogates, but one odd text must not hide a page
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ClerkUnknown("Clerk's answer cannot be read", status=status) from None


# --- The connections below requests --------------------------------------------------------------
# A timeout of requests applies to a single socket operation: a server that sends a header a second
# would hold a read for ever. Here every operation gets the rest of the deadline.


class _Reading(io.RawIOBase):
    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw = sock, raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(left(TimeoutError))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Reading(sock, self.fp.detach()), 2**16)


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Answer


class _TLSConnection(urllib3.connection.HTTPSConnection):
    response_class = _Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
