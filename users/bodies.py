"""The body of a request that a machine sends, up to a limit."""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError


def read(request: HttpRequest, *, limit: int) -> bytes:
    """Give the body, up to `limit` bytes. Raises `RequestDataTooBig` and `UnreadablePostError`.

    Django reads as much as Content-Length says, and so nothing of a chunked body. The server
    ends the stream of one itself. `BodyLimitMiddleware` answers a length that is not digits alone.
    """
    if not request.META.get("wsgi.input_terminated") or "Content-Length" in request.headers:
        return _with_length(request, limit)
    try:
        body: bytes = request.META["wsgi.input"].read(limit + 1)
    except OSError as error:
        raise UnreadablePostError(*error.args) from error
    if len(body) > limit:
        raise RequestDataTooBig
    return body


def _with_length(request: HttpRequest, limit: int) -> bytes:
    if int(request.headers.get("Content-Length") or 0) > limit:
        raise RequestDataTooBig
    return request.body
