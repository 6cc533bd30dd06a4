"""Serve HTTP on 127.0.0.1 with one thread for each connection and keep-alive."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from sandbox import routes
from sandbox.api import Answer, faulty, refused
from sandbox.control import PREFIX
from sandbox.errors import Refusal
from sandbox.faults import APPLYING, Fault
from sandbox.requests import Request

if TYPE_CHECKING:
    from sandbox import Sandbox

_BREAKING = ("hang", "reset", "close")


class Server(ThreadingHTTPServer):
    """A threading server that knows its sandbox. Port 0 chooses a free port."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of a connection: clients may close it at any time."""


class Handler(BaseHTTPRequestHandler):
    """Answer the API under "/v1/", and the controls and pages elsewhere."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log: the sandbox has its own one, without passwords."""

    def _handle(self) -> None:
        self.url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        self.raw_body = self.rfile.read(length)
        if self.url.path.startswith("/v1/"):
            self._api()
        else:
            self._send(self._own())

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _handle

    def _api(self) -> None:
        sandbox = self.server.sandbox
        query = parse_qsl(self.url.query, keep_blank_values=True)
        versions = [value for key, value in query if key == "__clerk_api_version"]
        if header := self.headers.get("Clerk-API-Version"):
            versions.append(header)
        body, malformed = self._json()
        request = Request(self.command, self.url.path.removeprefix("/v1"), query, body)
        found = routes.find(request.method, request.path)
        route, ids = found or ("", {})
        fault = sandbox.faults.take(route, ids.get("user_id"))
        sandbox.log(request)
        if sandbox.latency:
            time.sleep(sandbox.latency)
        authorization = self.headers.get("Authorization")

        def call() -> Answer:
            return sandbox.api.answer(request, authorization, versions, malformed)

        if fault is None:
            answer = call()
            request.status = answer.status
            self._send(answer)
            return
        answer = self._met(fault, request, call)
        end = fault.how if fault.kind == "late" else fault.kind
        if end in _BREAKING:
            self._break(end)
            return
        if fault.kind == "delay":
            sandbox.faults.released.wait(fault.seconds)
        answer = faulty(fault, answer)
        request.status = answer.status
        if fault.kind == "drip":
            self._drip(answer, fault.seconds)
        else:
            self._send(answer)

    def _met(self, fault: Fault, request: Request, call: Callable[[], Answer]) -> Answer:
        """Return the API's answer to a request that has a fault. `call` applies the request."""
        sandbox, is_write = self.server.sandbox, request.method != "GET"
        if fault.kind == "late":
            if is_write:
                sandbox.apply_later(call, fault.seconds)
            return Answer(200, b"{}")
        if fault.kind == "stale" and is_write:
            before = sandbox.api.before(request)
            answer = call() if fault.apply else before
            return before if answer.status == 200 else answer
        if fault.apply or fault.kind in (*APPLYING, "stale"):
            return call()
        return Answer(200, b"{}")

    def _own(self) -> Answer:
        """Answer a request to the controls or the pages, which Clerk does not have."""
        sandbox, path = self.server.sandbox, self.url.path.rstrip("/") or "/"
        try:
            if path.startswith(PREFIX):
                return sandbox.control.answer(self.command, path, self.raw_body)
            if self.command == "POST":
                return sandbox.site.post(path, self.raw_body)
            return sandbox.site.get(path, self.url.query)
        except Refusal as refusal:
            return refused(refusal)
        except (KeyError, TypeError, ValueError) as error:
            return Answer(400, json.dumps({"error": str(error)}).encode())

    def _json(self) -> tuple[dict[str, Any] | None, bool]:
        if not self.raw_body:
            return None, False
        try:
            body = json.loads(self.raw_body)
        except ValueError:
            return None, True
        return (body, False) if isinstance(body, dict) else (None, True)

    def _break(self, kind: str) -> None:
        if kind == "hang":
            self.server.sandbox.faults.released.wait(600)
        if kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        # Close the descriptor itself: Python's own close would shut the connection down cleanly.
        os.close(self.connection.detach())

    def _drip(self, answer: Answer, seconds: float | None) -> None:
        self._headers(answer)
        for number in range(len(answer.body)):
            if self.server.sandbox.faults.released.wait(seconds):
                break
            self.wfile.write(answer.body[number : number + 1])
            self.wfile.flush()
        self.close_connection = True

    def _send(self, answer: Answer) -> None:
        self._headers(answer)
        self.wfile.write(answer.body)

    def _headers(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
