"""Read the body of a request that a machine sent, up to a limit."""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError


def read(request: HttpRequest, *, limit: int) -> bytes:
    """Return the body, which may have at most `limit` bytes.

    Django reads Content-Length bytes, which is nothing for a chunked body. For a chunked body the
    server ends the stream itself, so read the stream. `BodyLimitMiddleware` answers requests whose
    Content-Length is not digits alone.

    Raises `RequestDataTooBig` for a larger body, and `UnreadablePostError` for a broken one.
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
