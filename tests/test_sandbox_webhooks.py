"""The sandbox sends events as Clerk does: signed, in order or not, again or never."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_c2VjcmV0IG9mIGEgdGVzdA=="


class Receiver:
    """A server that keeps what it was sent, and answers as it is told."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def clerk(sandbox, receiver):
    sandbox.webhooks.send_to(receiver.url, SECRET)
    return sandbox


def test_every_change_is_an_event_signed_with_the_secret(clerk, receiver):
    user = clerk.add_user(email="a@example.com")
    clerk.edit(user["id"], first_name="Ann")
    clerk.sign_in(user["id"])
    clerk.delete(user["id"])
    assert clerk.webhooks.wait_idle()
    assert receiver.types == ["user.created", "user.updated", "session.created", "user.deleted"]
    for headers, body in receiver.got:
        signed = {f"webhook-{k}": headers[f"svix-{k}"] for k in ("id", "timestamp", "signature")}
        event = Webhook(SECRET).verify(body, signed)
        assert event["object"] == "event"
        assert event["data"]["object"] in ("user", "session")
    session = json.loads(receiver.got[2][1])["data"]
    assert session["user"]["id"] == session["user_id"] == user["id"]
    assert json.loads(receiver.got[3][1])["data"] == {
        "object": "user",
        "id": user["id"],
        "deleted": True,
    }


def test_a_failed_delivery_is_tried_again_with_the_same_id(clerk, receiver):
    receiver.answers = [500]
    clerk.add_user(email="a@example.com")
    assert clerk.webhooks.wait_idle()
    first, second = (headers["svix-id"] for headers, _ in receiver.got)
    assert first == second
    [event] = clerk.webhooks.events
    assert (event.tries, event.status) == (2, 200)


def test_events_can_be_held_shuffled_doubled_and_lost(clerk, receiver):
    clerk.webhooks.switch("held")
    users = [clerk.add_user(email=f"{number}@example.com") for number in range(20)]
    assert clerk.webhooks.wait_idle()
    assert receiver.got == []
    assert clerk.webhooks.release(order="shuffled", twice=True) == 40
    assert clerk.webhooks.wait_idle()
    about = [json.loads(body)["data"]["id"] for _, body in receiver.got]
    assert sorted(about) == sorted([user["id"] for user in users] * 2)
    assert about != [user["id"] for user in users] * 2
    clerk.webhooks.switch("lost")
    clerk.edit(users[0]["id"], first_name="Ann")
    clerk.webhooks.resend(clerk.webhooks.events[-1].id)
    assert clerk.webhooks.wait_idle()
    assert receiver.types[40:] == ["user.updated"]


def test_a_refused_change_is_no_event(clerk, receiver):
    user = clerk.add_user(email="a@example.com")
    requests.patch(
        f"{clerk.url}/users/{user['id']}",
        json={"first_name": "x" * 300},
        headers={"Authorization": f"Bearer {clerk.secret_key}"},
        timeout=30,
    )
    assert clerk.webhooks.wait_idle()
    assert receiver.types == ["user.created"]


def test_the_pages_and_the_switches_over_http(clerk, receiver):
    clerk.add_user(email="<b>@example.com")
    assert clerk.webhooks.wait_idle()
    page = requests.get(f"{clerk.root}/webhooks", timeout=30).text
    assert "user.created" in page
    assert "200, 1 tried" in page
    requests.post(f"{clerk.root}/_sandbox/webhooks/mode", json={"mode": "held"}, timeout=30)
    clerk.add_user(email="b@example.com")
    answer = requests.post(f"{clerk.root}/_sandbox/webhooks/release", json={}, timeout=30)
    assert answer.json() == {"deliveries": 1}
    wrong = requests.post(f"{clerk.root}/_sandbox/webhooks/mode", json={"mode": "x"}, timeout=30)
    assert wrong.status_code == 400
