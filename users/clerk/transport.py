"""The connections below the SDK and below requests: each request ends at a deadline in all cases.

A timeout of httpx or requests applies to a single socket operation: a server that sends a byte a
second would hold a request for ever. Here every operation gets the rest of one deadline. Only this
module turns the errors of httpcore into ours. Only before the connection is made is it certain that
Clerk was not reached.
"""

from __future__ import annotations

import io
import ssl
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from math import inf

import httpcore
import httpx
import requests
from django.utils.translation import gettext as _
from requests.adapters import BaseAdapter

from users.clerk.answers import http_date
from users.clerk.clock import Call
from users.clerk.deadline import Deadline
from users.clerk.metrics import observed
from users.errors import ClerkUnknown, ClerkUnreachable

MAX_ANSWER = 50 * 2**20
"""The most bytes of an answer, decompressed. A longer one does not come from Clerk."""

_OF_THE_WIRE = {b"content-encoding", b"content-length", b"transfer-encoding"}
"""Headers that describe the body as it was sent, compressed."""

_deadline: ContextVar[Deadline] = ContextVar("deadline of the call under way")


@contextmanager
def until(deadline: Deadline) -> Generator[None]:
    """End all requests of this thread at `deadline`."""
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


@cache
def tls() -> ssl.SSLContext:
    """Return what all connections of this process trust. To read it takes longer than a save."""
    return ssl.create_default_context()


class DeadlineTransport(httpx.BaseTransport):
    """A transport that raises `ClerkUnreachable` and `ClerkUnknown`, never an httpx error."""

    def __init__(self, *, connect_within: float = inf) -> None:
        """Give up a connection that is not made in `connect_within` seconds, if not before."""
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls(),
            max_connections=100,
            max_keepalive_connections=20,
            # Shorter than any server's: no write must use a connection that the server is closing.
            keepalive_expiry=4.0,
            network_backend=_Backend(connect_within),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request, read the whole answer, and compare the clocks.

        Raises `ClerkUnreachable` if nothing was sent, and `ClerkUnknown` if it may have been sent.
        """
        with observed(request.method, str(request.url)) as sent:
            response = self._send(request)
            sent.status = str(response.status_code)
        return response

    def _send(self, request: httpx.Request) -> httpx.Response:
        call = Call()
        try:
            answer = self._pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions={"timeout": {"pool": _deadline.get().remaining()}},
                )
            )
            response = _read(answer, request)
        except (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout):
            raise ClerkUnreachable(_("Clerk could not be reached")) from None
        except (httpcore.TimeoutException, TimeoutError):
            raise ClerkUnknown(_("Clerk did not answer in time")) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpx.DecodingError, OSError):
            raise ClerkUnknown(_("The connection to Clerk broke before the answer came")) from None
        call.learn(http_date(response.headers.get("Date", "")))
        return response

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


def _read(answer: httpcore.Response, request: httpx.Request) -> httpx.Response:
    """Read the body piece by piece, because it may have no end. Return it decompressed."""
    body = bytearray()
    try:
        encoded = httpx.Response(
            answer.status, headers=answer.headers, content=answer.iter_stream()
        )
        for chunk in encoded.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER:
                raise httpcore.RemoteProtocolError("the answer is too long")
    finally:
        answer.close()
    headers = [(name, value) for name, value in answer.headers if name.lower() not in _OF_THE_WIRE]
    return httpx.Response(answer.status, headers=headers, content=bytes(body), request=request)


class DeadlineAdapter(BaseAdapter):
    """Sends the requests of a `requests.Session` through a `DeadlineTransport`.

    Its own adapter stands on urllib3, where only private classes could be given the deadline.
    """

    def __init__(self, transport: DeadlineTransport) -> None:
        super().__init__()
        self._transport = transport

    def send(
        self, request: requests.PreparedRequest, *_: object, **__: object
    ) -> requests.Response:
        """Send a request without a body, and read the whole answer.

        The session's timeouts do not apply. Raises what `DeadlineTransport` raises.
        """
        received = self._transport.handle_request(
            httpx.Request(request.method or "GET", request.url or "", headers=request.headers)
        )
        answer = requests.Response()
        answer.status_code = received.status_code
        answer.headers.update(received.headers)
        answer.raw = io.BytesIO(received.content)
        answer.url = request.url or ""
        answer.request = request
        return answer

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()


class _Backend(httpcore.NetworkBackend):
    """httpcore's own backend, with the timeout of each operation taken from the deadline."""

    def __init__(self, connect_within: float) -> None:
        self._connect_within = connect_within
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(
            self._backend.connect_tcp(
                host,
                port,
                timeout=min(self._connect_within, left(httpcore.ConnectTimeout)),
                local_address=local_address,
                socket_options=socket_options,
            )
        )


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout=left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        rest = left(httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout=rest))

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def left(timed_out: type[Exception]) -> float:
    """Return the remaining seconds of this thread's deadline.

    Raises `timed_out` when it is over.
    """
    seconds = _deadline.get().remaining()
    if seconds <= 0:
        raise timed_out("the deadline is over")
    return seconds
