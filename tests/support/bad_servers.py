"""Servers in Clerk's place that answer what they are told, too slowly, or without end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.support.patience import PATIENCE


@dataclass
class Server:
    url: str
    requests: int = 0
    outlasted: bool = False
    """Whether a client let an answer without end go on for as long as a test waits."""


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[Server]:
    """A server that reads a request and lets `answer` write whatever it likes."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    stopped = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        with connection, suppress(OSError):
            while b"\r\n\r\n" not in connection.recv(65_536):
                pass
            server.requests += 1
            try:
                answer(connection)
            except TimeoutError:
                server.outlasted = True

    def accept() -> None:
        while not stopped.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        stopped.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def answering(status: int, body: object, *headers: str) -> Callable[[socket.socket], None]:
    text = json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} Said", "Content-Type: application/json",
            f"Content-Length: {len(text)}", "Connection: close", *headers]  # fmt: skip
    return lambda connection: connection.sendall("\r\n".join([*head, "", ""]).encode() + text)


def hang(connection: socket.socket) -> None:
    while connection.recv(65_536):
        pass  # the rest of the request; nothing comes once the client has hung up


def _drip(connection: socket.socket, bytes_of_one: bytes) -> None:
    """Send the same again and again, until the client hangs up."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        connection.sendall(bytes_of_one)
        time.sleep(0.1)
    raise TimeoutError


def drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    _drip(connection, b"X: y\r\n")


def drip_status(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK")
    _drip(connection, b" ")


def drip_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                       b"Content-Length: 100000\r\n\r\n")  # fmt: skip
    _drip(connection, b" ")


def drip_chunks(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n")  # fmt: skip
    _drip(connection, b"1\r\n \r\n")


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    for _ in range(1000):
        connection.sendall(b" " * 2**20)
    raise TimeoutError
