"""Slow clients behind the shipped nginx hold no thread of the application."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support import nginx
from tests.support.nginx import unverified
from tests.support.patience import PATIENCE
from tests.support.server import serving

pytestmark = pytest.mark.django_db(transaction=True)

SLOW = 20
"""Slow clients of each kind."""
THREADS = 2
HOST = "cascade.example.com"
PRODUCTION = {
    "DEBUG": "",
    "SECRET_KEY": "s" * 60,
    "CLERK_WEBHOOK_SIGNING_SECRET": "whsec_b25seS1mb3ItdGVzdHM=",
}


def asked(port: int, path: str, *, secure: bool = True, **headers: str) -> http.client.HTTPResponse:
    connection: http.client.HTTPConnection
    if secure:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=PATIENCE, context=unverified()
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": HOST, **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@contextmanager
def behind_nginx(**environment: str) -> Iterator[tuple[int, int]]:
    """Run the application with few threads and nginx before it; yield HTTP and HTTPS ports."""
    nginx.found()
    with (
        serving(
            threads=THREADS, ALLOWED_HOSTS=HOST, TRUSTED_PROXY_COUNT="1", **environment
        ) as port,
        nginx.in_front_of(port) as ports,
    ):
        yield ports


def sent(port: int, text: str) -> socket.socket:
    """Open a connection and send a part of a request, which never gets longer."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)  # the rest of an answer has to wait
    plain.settimeout(PATIENCE)
    plain.connect(("127.0.0.1", port))
    secure = unverified().wrap_socket(plain)
    secure.sendall(text.encode())
    return secure


HALF_A_HEADER = f"GET /healthz/ HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: "
HALF_A_BODY = (
    f"POST /webhooks/clerk/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    "Content-Length: 1000\r\n\r\n{"
)
READS_NOTHING = f"GET /static/admin/js/vendor/jquery/jquery.js HTTP/1.1\r\nHost: {HOST}\r\n\r\n"


def test_slow_clients_stop_nobody():
    """There are many more of them than threads, and they stay while others are answered."""
    with behind_nginx() as (_, port), ExitStack() as clients:
        for text in (HALF_A_HEADER, HALF_A_BODY, READS_NOTHING):
            for _ in range(SLOW):
                clients.enter_context(sent(port, text))
        for _ in range(5):
            assert asked(port, "/admin/login/").status == 200


def test_nginx_tells_the_application_the_truth_about_a_request():
    """What the client claims of its scheme does not reach the application."""
    with behind_nginx(**PRODUCTION) as (plain, secure):
        moved = asked(plain, "/", secure=False, **{"X-Forwarded-Proto": "https"})
        assert (moved.status, moved.headers["Location"]) == (301, f"https://{HOST}/")
        answer = asked(secure, "/", **{"X-Forwarded-Proto": "http"})
        assert (answer.status, answer.headers["Location"]) == (302, "/admin/")


@pytest.mark.parametrize("path", ["/webhooks/clerk/", "/api/sync-user"])
def test_nginx_refuses_a_body_that_the_application_would_refuse_in_its_words(path):
    body = b"x" * (2**20 + 1)
    with serving(threads=THREADS, ALLOWED_HOSTS=HOST) as port, nginx.in_front_of(port) as ports:
        answers = [
            posted(connection, path, body)
            for connection in (
                http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE),
                http.client.HTTPSConnection(
                    "127.0.0.1", ports[1], timeout=PATIENCE, context=unverified()
                ),
            )
        ]
    assert answers[0] == answers[1]
    assert answers[0][0] == 413


@pytest.mark.parametrize(
    ("path", "kind"), [("/admin/", "text/plain"), ("/api/sync-user", "application/json")]
)
def test_nginx_says_that_the_application_does_not_answer(path, kind):
    with nginx.in_front_of(nginx.free_port()) as (_, port):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=PATIENCE, context=unverified()
        )
        status, said, text = posted(connection, path, b"{}")
    assert (status, said) == (502, kind)
    assert "The application does not answer." in text
    assert kind != "application/json" or "error" in json.loads(text)


def posted(connection: http.client.HTTPConnection, path: str, body: bytes) -> tuple[int, str, str]:
    """Send a body; return the status, the type and the text."""
    connection.request("POST", path, body, {"Host": HOST})
    answer = connection.getresponse()
    text, kind = answer.read().decode(), answer.headers["Content-Type"]
    connection.close()
    return answer.status, kind, text
