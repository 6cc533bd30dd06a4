"""The sandbox's webhooks: signed as Clerk signs them, sent in order, held, shuffled, lost."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from standardwebhooks import Webhook

from sandbox import Sandbox
from sandbox.webhooks import sign
from tests.support.patience import PATIENCE

VECTOR_SECRET = "whsec_Y2xlcmstdGVzdC1zaWduaW5nLXNlY3JldC0zMmJ5dGU="
VECTOR_ID, VECTOR_TIMESTAMP = "msg_2xH8iJ0kL2mN4oP6qR8tU0vW2xY", 1767398401
VECTOR_SIGNATURE = "v1,m5bRJPAL7fC4TNKbsijYptOhDw5m04zPVGlCvFLawn0="
VECTOR_BODY = (
    b'{"data":{"id":"user_2xA1bC3dE5fG7hI9jK1lM3nO5pQ","object":"user","username":null,'
    b'"first_name":"Jane","last_name":"Smith","locale":"en-US",'
    b'"image_url":"https://img.clerk.com/eyJ0eXBlIjoiZGVmYXVsdCJ9",'
    b'"profile_image_url":"https://img.clerk.com/eyJ0eXBlIjoiZGVmYXVsdCJ9","has_image":false,'
    b'"primary_email_address_id":"idn_2xA1bCPrimary000000000000001",'
    b'"primary_phone_number_id":null,"primary_web3_wallet_id":null,"password_enabled":true,'
    b'"two_factor_enabled":false,"totp_enabled":false,"backup_code_enabled":false,'
    b'"email_addresses":[{"id":"idn_2xA1bCSecond0000000000000002","object":"email_address",'
    b'"email_address":"jane.old@example.com","reserved":false,'
    b'"verification":{"object":"verification_admin","status":"verified","strategy":"admin",'
    b'"attempts":null,"expire_at":null},"linked_to":[],"matches_sso_connection":false,'
    b'"created_at":1767225600000,"updated_at":1767225660000},'
    b'{"id":"idn_2xA1bCPrimary000000000000001","object":"email_address",'
    b'"email_address":"jane@example.com","reserved":false,'
    b'"verification":{"object":"verification_otp","status":"verified","strategy":"email_code",'
    b'"attempts":1,"expire_at":1767226200000,'
    b'"verified_at_client":"client_2x9Qe7RkLmNpVb3TzYcAaBbCcDd"},"linked_to":[],'
    b'"matches_sso_connection":false,"created_at":1767225600000,"updated_at":1767225660000}],'
    b'"phone_numbers":[],"web3_wallets":[],"passkeys":[],"external_accounts":[],'
    b'"saml_accounts":[],"enterprise_accounts":[],"password_last_updated_at":1767225600000,'
    b'"public_metadata":{"role":"homeowner"},"private_metadata":{},"unsafe_metadata":{},'
    b'"external_id":null,"last_sign_in_at":1767312000000,"banned":false,"locked":false,'
    b'"lockout_expires_in_seconds":null,"verification_attempts_remaining":100,'
    b'"created_at":1767225600000,"updated_at":1767398400000,"delete_self_enabled":true,'
    b'"create_organization_enabled":true,"create_organizations_limit":null,'
    b'"last_active_at":1767312000000,"mfa_enabled_at":null,"mfa_disabled_at":null,'
    b'"legal_accepted_at":null,"deprovisioned":false,"bypass_client_trust":false},'
    b'"event_attributes":{"http_request":{"client_ip":"203.0.113.7",'
    b'"user_agent":"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36"}},'
    b'"instance_id":"ins_2wZ0yX8vU6tS4rQ2pO0nM8lK6jI","object":"event",'
    b'"timestamp":1767398400050,"type":"user.updated"}'
)  # fmt: skip
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of 32 bytes length").decode()


@dataclass
class Receiver:
    """Somebody who listens to webhooks."""

    url: str
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[int], int] = lambda number: 200
    """The status of the n-th answer, from 0."""

    def ids(self) -> list[str]:
        return [headers["svix-id"] for headers, _ in self.got]

    def verified(self, secret: str) -> list[dict]:
        """The payloads, each checked by the library that the application uses."""
        return [
            Webhook(secret).verify(
                body, {key.replace("svix-", "webhook-"): value for key, value in headers.items()}
            )
            for headers, body in self.got
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = found.answer(len(found.got))
            found.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Receiver(f"http://127.0.0.1:{server.server_address[1]}/webhooks/clerk/")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def types(sandbox: Sandbox) -> list[str]:
    return [event.type for event in sandbox.webhooks.events]


def test_the_signature_of_a_known_vector():
    signature = sign(VECTOR_SECRET, VECTOR_ID, VECTOR_TIMESTAMP, VECTOR_BODY)
    assert signature == VECTOR_SIGNATURE


def test_every_change_is_an_event_of_clerks_shape(sandbox):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary")
    sandbox.edit(user["id"], first_name="Marie")
    sandbox.sign_in(user["id"])
    sandbox.delete(user["id"])
    assert types(sandbox) == ["user.created", "user.updated", "session.created", "user.deleted"]
    created, updated, signed_in, deleted = (event.payload for event in sandbox.webhooks.events)
    assert set(created) == {"data", "event_attributes", "instance_id", "object", "timestamp",
                            "type"}  # fmt: skip
    assert created["object"] == "event"
    assert created["timestamp"] > 1e12, "milliseconds"
    assert created["data"]["first_name"] == "Mary", "the state of that moment"
    assert updated["data"]["first_name"] == "Marie"
    assert updated["data"]["updated_at"] > created["data"]["updated_at"]
    assert signed_in["data"]["object"] == "session"
    assert signed_in["data"]["user"]["id"] == user["id"]
    assert signed_in["data"]["user"]["last_sign_in_at"] == signed_in["data"]["created_at"]
    assert deleted["data"] == {"deleted": True, "id": user["id"], "object": "user"}
    assert len({event.id for event in sandbox.webhooks.events}) == 4
    assert all(event.id.startswith("msg_") for event in sandbox.webhooks.events)


def test_a_session_that_ends_is_an_event_of_how_it_ended(sandbox):
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}

    def api(method: str, path: str, body: object = None) -> None:
        requests.request(method, sandbox.url + path, json=body, headers=headers, timeout=10)

    user = sandbox.add_user(email="mary@example.com")["id"]
    revoked, again = sandbox.sign_in(user)["id"], sandbox.sign_in(user)["id"]
    api("POST", f"/sessions/{revoked}/revoke")
    api("POST", f"/sessions/{revoked}/revoke")
    sandbox.sign_out(user)
    sandbox.sign_out(user)
    ended = sandbox.sign_in(user)["id"]
    password = {"password": "correct horse battery", "sign_out_of_other_sessions": True}
    api("PATCH", f"/users/{user}", password)
    banned = sandbox.sign_in(user)["id"]
    api("POST", f"/users/{user}/ban")
    events = [event.payload for event in sandbox.webhooks.events
              if event.type.startswith("session.") and event.type != "session.created"]  # fmt: skip
    assert [(event["type"], event["data"]["id"]) for event in events] == [
        ("session.revoked", revoked), ("session.removed", again), ("session.ended", ended),
        ("session.revoked", banned)]  # fmt: skip
    for event in events:
        assert event["type"] == f"session.{event['data']['status']}"
        assert (event["data"]["object"], event["data"]["user"]["id"]) == ("session", user)
    assert events[-1]["data"]["user"]["banned"] is True


def test_a_ban_in_the_dashboard_ends_the_sessions(sandbox):
    user = sandbox.add_user(email="mary@example.com")["id"]
    sandbox.sign_in(user)
    sandbox.edit(user, banned=True)
    assert types(sandbox)[-2:] == ["user.updated", "session.revoked"]


def test_a_call_of_the_api_is_an_event_and_a_refused_one_is_none(sandbox):
    user = sandbox.add_user(email="mary@example.com")
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}
    url = f"{sandbox.url}/users/{user['id']}"
    requests.patch(url, json={"first_name": "Marie"}, headers=headers, timeout=PATIENCE)
    requests.patch(url, json={"first_name": "x" * 300}, headers=headers, timeout=PATIENCE)
    assert types(sandbox) == ["user.created", "user.updated"]


def test_live_events_arrive_in_order_and_signed(sandbox, receiver):
    sandbox.webhooks.send_to(receiver.url, OTHER_SECRET)
    user = sandbox.add_user(email="mary@example.com")
    for number in range(20):
        sandbox.edit(user["id"], first_name=f"Mary {number}")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert receiver.ids() == [event.id for event in sandbox.webhooks.events]
    assert receiver.verified(OTHER_SECRET) == [event.payload for event in sandbox.webhooks.events]
    assert {delivery["state"] for delivery in sandbox.webhooks.deliveries()} == {"delivered"}


def test_signed_makes_any_age_and_any_secret(sandbox):
    sandbox.add_user(email="mary@example.com")
    [event] = sandbox.webhooks.events
    body, headers = sandbox.webhooks.signed(event, secret=OTHER_SECRET, at=1_700_000_000.9)
    assert json.loads(body) == event.payload
    assert headers == {
        "svix-id": event.id,
        "svix-timestamp": "1700000000",
        "svix-signature": sign(OTHER_SECRET, event.id, 1_700_000_000, body),
        "Content-Type": "application/json",
    }
    default = sandbox.webhooks.signed(event, at=1_700_000_000)[1]
    assert default["svix-signature"] == sign(sandbox.webhooks.secret, event.id, 1_700_000_000, body)


def test_a_failed_event_is_sent_again_with_its_id_and_does_not_hold_up_others(sandbox, receiver):
    receiver.answer = lambda number: {0: 500, 2: 302}.get(number, 204)
    sandbox.webhooks.pauses = (0.05, 0.05)
    sandbox.webhooks.send_to(receiver.url)
    user = sandbox.add_user(email="mary@example.com")
    sandbox.edit(user["id"], first_name="Marie")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    created, updated = (event.id for event in sandbox.webhooks.events)
    assert receiver.ids() == [created, updated, created, created]
    states = {d["id"]: (d["state"], d["attempts"], d["status"])
              for d in sandbox.webhooks.deliveries()}  # fmt: skip
    assert states == {created: ("delivered", 3, 204), updated: ("delivered", 1, 204)}


def test_an_event_that_never_arrives_is_given_up_and_can_be_sent_again(sandbox, receiver):
    receiver.answer = lambda number: 500
    sandbox.webhooks.pauses = (0.01, 0.01)
    sandbox.webhooks.send_to(receiver.url)
    sandbox.add_user(email="mary@example.com")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    [delivery] = sandbox.webhooks.deliveries()
    assert (delivery["state"], delivery["attempts"], delivery["status"]) == ("failed", 3, 500)
    receiver.answer = lambda number: 200
    sandbox.webhooks.resend(delivery["id"])
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert sandbox.webhooks.deliveries()[0]["state"] == "delivered"
    assert receiver.ids() == [delivery["id"]] * 4


def test_nobody_there_is_a_failure_too(sandbox):
    sandbox.webhooks.pauses = ()
    sandbox.webhooks.send_to("http://127.0.0.1:9/")
    sandbox.add_user(email="mary@example.com")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert sandbox.webhooks.deliveries()[0]["state"] == "failed"
    assert sandbox.webhooks.deliveries()[0]["status"] is None


def test_held_events_go_out_shuffled_twice_and_some_never(sandbox, receiver):
    sandbox.webhooks.send_to(receiver.url)
    sandbox.webhooks.mode = "held"
    user = sandbox.add_user(email="mary@example.com")
    for number in range(9):
        sandbox.edit(user["id"], first_name=f"Mary {number}")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert receiver.got == []
    sandbox.webhooks.random.seed(7)
    released = sandbox.webhooks.release("shuffled", twice=True, lose=3)
    assert sandbox.webhooks.wait_idle(PATIENCE)
    ids = [event.id for event in sandbox.webhooks.events]
    assert receiver.ids() == [event.id for event in released]
    assert receiver.ids() != sorted(receiver.ids(), key=ids.index)
    assert sorted(map(receiver.ids().count, ids)) == [0] * 3 + [2] * 7
    states = [delivery["state"] for delivery in sandbox.webhooks.deliveries()]
    assert (states.count("lost"), states.count("delivered")) == (3, 7)
    assert sandbox.webhooks.release() == [], "released once"


def test_held_events_go_out_as_they_happened(sandbox, receiver):
    sandbox.webhooks.mode = "held"
    for number in range(5):
        sandbox.add_user(email=f"mary{number}@example.com")
    sandbox.webhooks.send_to(receiver.url)
    sandbox.webhooks.release()
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert receiver.ids() == [event.id for event in sandbox.webhooks.events]


def test_lost_events_are_recorded_only(sandbox, receiver):
    sandbox.webhooks.send_to(receiver.url)
    sandbox.webhooks.mode = "lost"
    sandbox.add_user(email="mary@example.com")
    sandbox.webhooks.mode = "live"
    sandbox.add_user(email="ann@example.com")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    lost, sent = sandbox.webhooks.events
    assert receiver.ids() == [sent.id]
    sandbox.webhooks.resend(lost.id)
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert receiver.ids() == [sent.id, lost.id]


def test_reset_and_none_stop_the_sending(sandbox, receiver):
    receiver.answer = lambda number: 500
    sandbox.webhooks.pauses = (600.0,)
    sandbox.webhooks.send_to(receiver.url)
    sandbox.add_user(email="mary@example.com")
    assert not sandbox.webhooks.wait_idle(0.05), "it waits to be sent again"
    sandbox.webhooks.send_to(None)
    assert sandbox.webhooks.wait_idle(PATIENCE)
    with pytest.raises(ValueError, match="nobody to send to"):
        sandbox.webhooks.resend(sandbox.webhooks.events[0].id)
    sandbox.webhooks.mode = "lost"
    sandbox.reset()
    assert sandbox.webhooks.events == []
    assert sandbox.webhooks.mode == "live"
    assert sandbox.webhooks.url is None


def test_a_receiver_that_asks_the_api_in_turn_is_answered(sandbox, receiver):
    """The sender holds no lock of the state while it waits for the answer."""
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}

    def ask(number: int) -> int:
        return requests.get(f"{sandbox.url}/users", headers=headers, timeout=PATIENCE).status_code

    receiver.answer = ask
    sandbox.webhooks.send_to(receiver.url)
    sandbox.add_user(email="mary@example.com")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert sandbox.webhooks.deliveries()[0]["status"] == 200


def test_many_threads_change_and_every_event_arrives_once(sandbox, receiver):
    sandbox.webhooks.send_to(receiver.url)

    def work(number: int) -> None:
        for turn in range(10):
            sandbox.add_user(email=f"mary{number}.{turn}@example.com")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert receiver.ids() == [event.id for event in sandbox.webhooks.events]
    assert len(set(receiver.ids())) == 80


def test_stop_ends_the_thread():
    own = Sandbox().start()
    own.webhooks.pauses = (600.0,)
    own.webhooks.send_to("http://127.0.0.1:9/")
    own.add_user(email="mary@example.com")
    [own_thread] = [t for t in threading.enumerate() if t.name == f"webhooks of {own.port}"]
    own.stop()
    assert own_thread not in threading.enumerate()


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/", "127.0.0.1:8000", "http://"])
def test_a_url_must_be_one(sandbox, url):
    with pytest.raises(ValueError, match="http"):
        sandbox.webhooks.send_to(url)


def test_a_secret_must_be_base64(sandbox):
    with pytest.raises(ValueError):
        sandbox.webhooks.send_to("http://127.0.0.1:9/", "whsec_%%%")
