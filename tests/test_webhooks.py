"""The webhook's door: who may come in, how often, and what happens when it cannot take effect."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import logging
import os
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.admin.utils import quote
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sandbox import Event
from tests.support.change_form import stored, text_of
from tests.support.commands import run
from tests.support.events import URL, arrive, happened, mistaken, post
from tests.support.factories import BuilderUserFactory, SyncAttemptFactory, change_here, linked
from tests.support.unknown import time_is_over
from users.models import (
    BuilderUser,
    ClerkAccount,
    DeliveryStatus,
    RememberedInstance,
    SyncAttempt,
    WebhookDelivery,
)
from users.sync import maintenance
from users.sync.inbound import deliveries, events
from users.sync.inbound.decisions import derive
from users.sync.mirror import instance

pytestmark = pytest.mark.django_db(transaction=True)

STRANGE_BODIES = int(os.environ.get("STRANGE_BODIES", "1000"))

VECTOR = {  # of Clerk's signing, made with the reference library
    "secret": "whsec_Y2xlcmstdGVzdC1zaWduaW5nLXNlY3JldC0zMmJ5dGU=",
    "svix-id": "msg_2xH8iJ0kL2mN4oP6qR8tU0vW2xY",
    "svix-timestamp": "1767398401",
    "svix-signature": "v1,m5bRJPAL7fC4TNKbsijYptOhDw5m04zPVGlCvFLawn0=",
}
VECTOR_BODY = (Path(__file__).parent / "support" / "signed_event.json").read_bytes()


@pytest.fixture
def event(sandbox) -> Event:
    """Somebody's name was changed in Clerk; the user is the only one."""
    user = linked(sandbox)
    happened(sandbox)
    sandbox.edit(user.clerk_id, last_name="Jones")
    [event] = happened(sandbox)
    return event


def name() -> str:
    return BuilderUser.objects.get().name


class TestSigned:
    def test_the_vector_of_the_reference_library(self, sandbox, settings, monkeypatch):
        settings.CLERK_WEBHOOK_SIGNING_SECRET = VECTOR["secret"]
        instance.remember(json.loads(VECTOR_BODY)["instance_id"], "development")
        then = datetime.fromtimestamp(int(VECTOR["svix-timestamp"]) + 60).astimezone()

        class Then(datetime):
            @classmethod
            def now(cls, tz=None):
                return then.astimezone(tz)

        monkeypatch.setattr("standardwebhooks.webhooks.datetime", Then)
        headers = {name: value for name, value in VECTOR.items() if name != "secret"}
        response = Client().post(URL, VECTOR_BODY, content_type="application/json", headers=headers)
        assert response.status_code == 200
        assert WebhookDelivery.objects.get().pk == VECTOR["svix-id"]
        assert ClerkAccount.objects.get().last_name == "Smith"
        spoilt = VECTOR_BODY.replace(b"Smith", b"Smyth")
        response = Client().post(URL, spoilt, content_type="application/json", headers=headers)
        assert response.status_code == 400

    def test_an_event_takes_effect(self, sandbox, event):
        assert post(sandbox, event).status_code == 200
        assert name() == "Mary Ann Jones"
        delivery = WebhookDelivery.objects.get()
        assert (delivery.type, delivery.payload, delivery.error) == ("user.updated", None, "")

    def test_with_another_secret_it_is_refused(self, sandbox, event):
        other = "whsec_YW5vdGhlciBzZWNyZXQ="
        assert post(sandbox, event, secret=other).status_code == 400
        assert name() == "Mary Ann Smith"
        assert not WebhookDelivery.objects.exists()

    @pytest.mark.parametrize(("seconds", "status"), [(-295, 200), (-305, 400), (305, 400)])
    def test_five_minutes_either_way(self, sandbox, event, seconds, status):
        assert post(sandbox, event, at=int(time.time()) + seconds).status_code == status

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("svix-signature", ""),
            ("svix-signature", "v1"),
            ("svix-signature", "v1,"),
            ("svix-signature", "v1,é"),
            ("svix-signature", "v2,AAAA"),
            ("svix-signature", "v1,not base64!"),
            ("svix-timestamp", "yesterday"),
            ("svix-timestamp", "9" * 400),
            ("svix-timestamp", "-1"),
            ("svix-timestamp", "nan"),
            ("svix-id", ""),
            ("svix-id", "msg_other"),
            ("Content-Length", "many"),
        ],
    )
    def test_malformed_headers(self, sandbox, event, header, value):
        body, headers = sandbox.webhooks.signed(event)
        headers.pop("Content-Type")
        response = Client().post(
            URL, body, content_type="application/json", headers=headers | {header: value}
        )
        assert response.status_code == 400
        assert name() == "Mary Ann Smith"

    @pytest.mark.parametrize("header", ["svix-id", "svix-timestamp", "svix-signature"])
    def test_missing_headers(self, sandbox, event, header):
        body, headers = sandbox.webhooks.signed(event)
        del headers[header], headers["Content-Type"]
        response = Client().post(URL, body, content_type="application/json", headers=headers)
        assert response.status_code == 400

    def test_one_of_several_signatures_is_enough(self, sandbox, event):
        """As while a secret is being changed."""
        body, headers = sandbox.webhooks.signed(event)
        headers["svix-signature"] = f"v1,AAAA {headers['svix-signature']}"
        content_type = headers.pop("Content-Type")
        response = Client().post(URL, body, content_type=content_type, headers=headers)
        assert response.status_code == 200

    def test_each_of_our_secrets_is_enough(self, sandbox, settings, event):
        """As while one endpoint replaces another."""
        other = "whsec_YW5vdGhlciBzZWNyZXQ="
        settings.CLERK_WEBHOOK_SIGNING_SECRET = f"{other}, {sandbox.webhooks.secret}"
        assert post(sandbox, event).status_code == 200
        assert post(sandbox, event, secret=other).status_code == 200
        assert post(sandbox, event, secret="whsec_YSB0aGlyZCBvbmU=").status_code == 400
        assert name() == "Mary Ann Jones"

    def test_no_other_method_and_nothing_big(self, sandbox):
        assert Client().get(URL).status_code == 405
        response = Client().post(URL, b"x" * (2**20 + 1), content_type="application/json")
        assert response.status_code == 413

    def test_no_cookie_and_no_token_are_needed(self, sandbox, event):
        body, headers = sandbox.webhooks.signed(event)
        content_type = headers.pop("Content-Type")
        client = Client(enforce_csrf_checks=True)
        assert client.post(URL, body, content_type=content_type, headers=headers).status_code == 200


class TestOnce:
    def test_a_replayed_delivery_does_nothing(self, sandbox, event):
        assert post(sandbox, event).status_code == 200
        change_here(BuilderUser.objects.get(), name="Changed since")
        assert post(sandbox, event).status_code == 200
        assert name() == "Changed since"
        assert SyncAttempt.objects.count() == 1

    def test_an_unknown_type_is_fine_and_leaves_nothing(self, sandbox, event):
        event.payload["type"] = "organization.created"
        assert post(sandbox, event).status_code == 200
        assert not WebhookDelivery.objects.exists()

    def test_a_database_that_is_down_is_said_so_that_it_comes_again(
        self, sandbox, event, monkeypatch
    ):
        def down():
            raise OperationalError("the server closed the connection")

        with monkeypatch.context() as patch:
            patch.setattr(connection, "cursor", lambda *args, **kwargs: down())
            assert post(sandbox, event).status_code == 503
        assert post(sandbox, event).status_code == 200
        assert name() == "Mary Ann Jones"


class TestRefused:
    """What is refused is remembered with its reason, in a bounded space."""

    def refused(self) -> list[tuple[bool, str]]:
        return [(last.signed, last.reason) for last in deliveries.last_refused()]

    def test_an_event_of_another_instance(self, sandbox, event):
        event.payload["instance_id"] = "ins_elsewhere"
        response = post(sandbox, event)
        assert (response.status_code, b"ins_elsewhere" in response.content) == (400, True)
        [(signed, reason)] = self.refused()
        assert signed
        assert f"ins_elsewhere; the one of our users is {sandbox.instance_id}" in reason
        assert not WebhookDelivery.objects.exists()
        assert name() == "Mary Ann Smith"

    @pytest.mark.parametrize("named", [None, "", "x" * 5000, "\0", ["ins_1"]])
    def test_an_event_that_names_no_instance(self, sandbox, event, named):
        event.payload["instance_id"] = named
        event.payload["type"] = "organization.created"
        assert post(sandbox, event).status_code == 400
        assert "It is of no Clerk instance" in self.refused()[0][1]

    def test_the_first_event_learns_the_instance_from_clerk(self, sandbox, event):
        RememberedInstance.objects.all().delete()
        other = replace(event, payload=event.payload | {"instance_id": "ins_elsewhere"})
        assert post(sandbox, other).status_code == 400
        assert "ins_elsewhere; the one of our users is" in self.refused()[0][1]
        assert name() == "Mary Ann Smith"
        assert post(sandbox, event).status_code == 200
        assert name() == "Mary Ann Jones"

    def test_in_an_empty_installation_the_first_event_learns_the_instance(self, sandbox):
        sandbox.add_user(email="ann@example.com")
        [event] = happened(sandbox)
        other = replace(event, payload=event.payload | {"instance_id": "ins_elsewhere"})
        assert post(sandbox, other).status_code == 400
        assert not ClerkAccount.objects.exists()
        assert post(sandbox, event).status_code == 200
        assert ClerkAccount.objects.exists()

    def test_an_event_is_taken_while_clerk_cannot_say_which_instance_is_ours(self, sandbox, event):
        RememberedInstance.objects.all().delete()
        sandbox.fault("GET /instance", "status", status=503, times=None)
        answer = post(sandbox, event)
        assert (answer.status_code, answer.content) == (200, b"ok\n")
        assert name() == "Mary Ann Jones"

    def test_events_wait_while_the_instance_of_the_key_has_none_of_our_users(self, sandbox, event):
        RememberedInstance.objects.all().delete()
        other = replace(
            event, id="msg_other", payload=event.payload | {"instance_id": "ins_elsewhere"}
        )
        sandbox.delete(ClerkAccount.objects.get().pk)
        for one in (other, event):
            answer = post(sandbox, one)
            assert (answer.status_code, answer.content) == (200, b"kept for another try\n")
        assert name() == "Mary Ann Smith"
        assert "which Clerk instance is ours" in WebhookDelivery.objects.first().error
        assert run("clerk_check", "--accept-instance", sandbox.instance_id)[1]
        maintenance.run()
        assert name() == "Mary Ann Jones"
        kept = WebhookDelivery.objects.get(pk="msg_other")
        assert kept.state == DeliveryStatus.UNUSABLE
        assert "ins_elsewhere; the one of our users is" in kept.error

    def test_a_wrong_signature_takes_the_place_of_no_signed_refusal(self, sandbox, event):
        event.payload["instance_id"] = "ins_elsewhere"
        post(sandbox, event)
        for number in range(5):
            event.payload["number"] = number
            assert post(sandbox, event, secret="whsec_YW5vdGhlciBzZWNyZXQ=").status_code == 400
        [(signed, reason), (other, _)] = self.refused()
        assert (signed, other) == (False, True)
        assert "No matching signature found" in reason

    def test_an_old_event_says_that_it_is_old(self, sandbox, event):
        assert post(sandbox, event, at=int(time.time()) - 400).status_code == 400
        assert "Message timestamp too old" in self.refused()[0][1]

    def test_a_request_without_a_signature_leaves_nothing(self, sandbox):
        assert Client().post(URL, b"{}", content_type="application/json").status_code == 400
        assert self.refused() == []


class TestUnusable:
    """What can never take effect is kept with its reason, answered 200, and tried no more."""

    def kept(self, sandbox, payload) -> WebhookDelivery:
        response = post(sandbox, Event(id="msg_1", type="x", payload=payload, at=0))
        assert response.status_code == 200
        delivery = WebhookDelivery.objects.get()
        assert response.content.decode() == f"cannot be applied: {delivery.error}\n"
        assert delivery.state == DeliveryStatus.UNUSABLE
        return delivery

    @pytest.mark.parametrize("data", [{}, {"id": "user_../.."}, {"id": None}, {"id": "\0\ud800"}])
    @pytest.mark.parametrize("kind", ["user.created", "user.deleted", "session.created"])
    def test_no_user(self, sandbox, event, kind, data):
        delivery = self.kept(sandbox, event.payload | {"type": kind, "data": data})
        assert delivery.type == kind
        assert set(delivery.payload["data"]) == set(data)

    @pytest.mark.parametrize(
        "payload",
        [None, [], "x", 1, {}, {"type": "user.created"}, {"type": 1, "data": {}}, {"data": {}}],
    )
    def test_no_event(self, sandbox, payload):
        assert "not an event" in self.kept(sandbox, payload).error

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[" * 100_000, b"NaN", b'{"a": "\x00"}'],
        ids=["empty", "cut", "deep", "nan", "nul"],
    )
    def test_no_json(self, sandbox, body):
        response = post_signed(sandbox, body)
        assert response.status_code == 200
        assert response.content == b"cannot be applied: the body is signed, but it is not JSON\n"
        assert WebhookDelivery.objects.get().state == DeliveryStatus.UNUSABLE

    @pytest.mark.parametrize("body", [b"\xff", b'{"a": "M\xe4rz"}', b"\xed\xa0\x80\xff"])
    def test_no_utf_8(self, sandbox, body):
        response = post_signed(sandbox, body)
        assert response.status_code == 200
        assert response.content == b"cannot be applied: the body is signed, but it is not UTF-8\n"
        delivery = WebhookDelivery.objects.get()
        assert delivery.state == DeliveryStatus.UNUSABLE
        assert "\ufffd" in delivery.payload

    def test_no_utf_8_of_a_stranger(self, sandbox):
        headers = VECTOR | {"svix-timestamp": str(int(time.time()))}
        response = Client().post(URL, b"\xff", content_type="application/json", headers=headers)
        assert response.status_code == 400
        assert b"no valid signature" in response.content
        assert not WebhookDelivery.objects.exists()

    @pytest.mark.parametrize(
        "value",
        [b"1e999", b"-1e999", b"9" * 4000, *(b"[" * deep + b"]" * deep for deep in (700, 900))],
        ids=["infinite", "negative", "long", "deep", "deeper"],
    )
    def test_values_that_postgresql_does_not_take_as_they_are(self, sandbox, value):
        body = b'{"type": "user.created", "data": {"x": %s}}' % value
        assert post_signed(sandbox, body).status_code == 200
        assert WebhookDelivery.objects.get().state == DeliveryStatus.UNUSABLE

    def test_the_worker_leaves_it_alone_and_the_command_names_it(self, sandbox, event, capsys):
        delivery = self.kept(sandbox, event.payload | {"data": {}})
        assert maintenance.run().left == 0
        delivery.refresh_from_db()
        assert delivery.attempts == 1
        call_command("clerk_replay")
        assert f"msg_1: cannot be applied: {delivery.error}" in capsys.readouterr().out
        call_command("clerk_replay", "--json")
        said = json.loads(capsys.readouterr().out)
        assert (said["left"], said["events"][0]["unusable"]) == (0, True)

    def test_the_list_tells_it_from_what_waits(self, client, sandbox, event):
        self.kept(sandbox, event.payload | {"data": {}})
        with mistaken():
            post(sandbox, event)
        page = reverse("admin:users_webhookdelivery_changelist")
        shown = {
            state: [
                pk for pk in ("msg_1", event.id)
                if f">{pk}<" in text_of(client.get(page, {"status": state}))
            ]
            for state in ("taken", "waiting", "unusable")
        }  # fmt: skip
        assert shown == {"taken": [], "waiting": [event.id], "unusable": ["msg_1"]}
        assert "Cannot be applied" in text_of(client.get(page, {"status": "unusable"}))

    def test_a_version_that_can_read_it_takes_it_by_replay(self, client, sandbox, event):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(events.EFFECTS, "user.updated", _unreadable)
            assert post(sandbox, event).status_code == 200
        assert name() == "Mary Ann Smith"
        page = reverse("admin:users_webhookdelivery_replay", args=[event.id])
        assert "has taken effect now" in text_of(client.post(page, follow=True))
        assert name() == "Mary Ann Jones"
        assert WebhookDelivery.objects.get().state == DeliveryStatus.TAKEN


def signature(secret: str, prefix: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, prefix.encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def post_signed(sandbox, body):
    """A body that the sandbox would never send."""
    now = datetime.now(UTC)
    headers = {
        "svix-id": "msg_1",
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": signature(
            sandbox.webhooks.secret, f"msg_1.{int(now.timestamp())}.", body
        ),
    }
    return Client().post(URL, body, content_type="application/json", headers=headers)


def _unreadable(payload):
    raise events.Unusable("an unknown shape")


def pending_email(user: BuilderUser) -> SyncAttempt:
    """A change of email that recovery does not send again."""
    return SyncAttemptFactory(
        user=user, operation="replace_email", changes={"email": [user.email, "new@example.com"]}
    )


class TestPending:
    """What Clerk has is known at once. The row of a pending change follows when it is resolved."""

    def test_recovery_settles_the_change_and_the_row_follows(self, sandbox, event):
        pending_email(BuilderUser.objects.get())
        SyncAttempt.objects.update(late_until=timezone.now() + timedelta(hours=1))
        response = post(sandbox, event)
        assert (response.status_code, response.content) == (200, b"ok\n")
        assert ClerkAccount.objects.get().last_name == "Jones"
        with pytest.raises(SystemExit) as left:
            call_command("clerk_recover", "--json")  # its request may still arrive
        assert left.value.code == 2
        assert name() == "Mary Ann Smith"
        time_is_over()
        call_command("clerk_recover", "--json")
        assert name() == "Mary Ann Jones"
        assert not SyncAttempt.objects.filter(status="started").exists()
        assert not ClerkAccount.objects.get().reconcile_due


class TestKept:
    """An event that cannot take effect now is kept with its reason, and tried again."""

    @pytest.fixture
    def kept(self, sandbox, event) -> Event:
        with mistaken():
            response = post(sandbox, event)
        assert (response.status_code, response.content) == (200, b"kept for another try\n")
        return event

    def test_the_reason_stands_in_the_admin(self, client, kept):
        delivery = WebhookDelivery.objects.get()
        assert delivery.processed_at is None
        assert delivery.payload["type"] == "user.updated"
        page = reverse("admin:users_webhookdelivery_change", args=[quote(kept.id)])
        assert "It failed with ZeroDivisionError" in text_of(client.get(page))
        assert "somebody's name" not in delivery.error
        assert ClerkAccount.objects.get().last_name == "Smith"
        assert name() == "Mary Ann Smith"

    def test_replay_in_the_admin(self, client, kept):
        page = reverse("admin:users_webhookdelivery_replay", args=[kept.id])
        assert client.get(page).status_code == 405
        with mistaken():
            assert "ZeroDivisionError" in text_of(client.post(page, follow=True))
        assert "has taken effect now" in text_of(client.post(page, follow=True))
        assert name() == "Mary Ann Jones"
        assert WebhookDelivery.objects.get().payload is None

    def test_replay_of_an_id_that_django_takes_for_an_escape(self, client, sandbox, event):
        """The admin reads “_22” in an address as a quotation mark."""
        event = replace(event, id="msg_22AB")
        with mistaken():
            assert post(sandbox, event).status_code == 200
        page = reverse("admin:users_webhookdelivery_replay", args=[event.id])
        shown = client.post(page, follow=True)
        assert "has taken effect now" in text_of(shown)
        assert shown.redirect_chain[-1][0].endswith("/change/")
        assert name() == "Mary Ann Jones"

    def test_replay_of_several(self, client, kept):
        client.post(
            reverse("admin:users_webhookdelivery_changelist"),
            {"action": "replay", "_selected_action": [kept.id]},
        )
        assert name() == "Mary Ann Jones"

    def test_replay_by_command(self, kept, capsys):
        with mistaken(), pytest.raises(SystemExit) as left:
            call_command("clerk_replay", kept.id)
        assert left.value.code == 2
        assert "ZeroDivisionError" in capsys.readouterr().out
        call_command("clerk_replay", "--json")
        assert json.loads(capsys.readouterr().out)["left"] == 0
        assert name() == "Mary Ann Jones"
        with pytest.raises(CommandError, match="are not known, or do not wait"):
            call_command("clerk_replay", kept.id)

    def test_what_the_database_cannot_hold_is_kept_and_not_sent_again_for_ever(
        self, sandbox, event, monkeypatch
    ):
        def too_much(group, *, now):
            decisions = derive(group, now=now)
            for row in list(decisions.rows.values()):
                decisions.rows[row.id] = replace(row, name="x" * 300)
            return decisions

        with monkeypatch.context() as patch:
            patch.setattr("users.sync.inbound.reconcile.derive", too_much)
            assert post(sandbox, event).status_code == 200
        assert "DataError" in WebhookDelivery.objects.get().error
        maintenance.run()
        assert name() == "Mary Ann Jones"

    def test_clerk_sends_it_again(self, sandbox, kept):
        assert post(sandbox, kept).status_code == 200
        assert name() == "Mary Ann Jones"


def test_strange_bodies(sandbox, caplog):
    """Signed, badly signed or not at all, whatever they hold: an answer, never a 500, and the
    users stay as they are. `make campaign` sends 10,000 of them; the suite sends fewer."""
    user = linked(sandbox)
    before = stored(user)
    [created] = happened(sandbox)[:1]
    chance, answers = random.Random(5), {}
    client = Client()
    caplog.set_level(logging.CRITICAL)
    for number in range(STRANGE_BODIES):
        payload = _spoilt(chance, json.loads(json.dumps(created.payload)))
        event = Event(id=f"msg_{number}", type="x", payload=payload, at=0)
        body, headers = sandbox.webhooks.signed(event)
        headers.pop("Content-Type")
        if number % 10 == 0:
            body = _garbled(chance, body)
        elif number % 10 == 1:
            headers = _spoilt_headers(chance, headers)
        response = client.post(URL, body, content_type="application/json", headers=headers)
        answers[response.status_code] = answers.get(response.status_code, 0) + 1
    assert set(answers) == {200, 400}
    assert min(answers.values()) > STRANGE_BODIES / 20
    assert stored(user).email == before.email
    assert BuilderUser.objects.count() == 1


STRANGE = [
    None, True, False, 0, -1, 1.5, 10**30, -(10**18), 9e300, "", "\0", "\ud800", "x" * 5000,
    [], {}, [[]], [None], {"id": None}, "user_x", "user_../..", "user.updated", "user.deleted",
    "session.created", ["user_1"], {"a": {"b": []}},
]  # fmt: skip


def _spoilt(chance: random.Random, payload):
    """The payload with some of its values replaced or gone; the user's id is never ours."""
    payload["data"]["id"] = f"user_{chance.randrange(50)}"
    payload["data"]["email_addresses"][0]["email_address"] = f"{chance.randrange(50)}@example.com"
    payload["type"] = chance.choice([*events.EFFECTS, "user.unheard-of"])
    if payload["type"] == "session.created" and chance.random() < 0.8:
        payload["data"] = {"id": "sess_1", "object": "session", "user": payload["data"]}
    for _ in range(chance.randrange(1, 4)):
        place = payload
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = chance.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8:
                place = place[key]
                continue
            if isinstance(place, dict) and chance.random() < 0.3:
                del place[key]
            else:
                place[key] = copy.deepcopy(chance.choice(STRANGE))
            break
    return payload


def _spoilt_headers(chance: random.Random, headers: dict[str, str]) -> dict[str, str]:
    """One of the three gone, replaced or cut; sometimes all."""
    if chance.random() < 0.2:
        return {}
    name = chance.choice(list(headers))
    value = headers[name]
    wrong = ["", " ", ",", "v1", "v1,", "v1,,", "v2," + value, "é", "\x00", "9" * 400, "-1", "1e9",
             "nan", value[: len(value) // 2], value + " " + value[::-1], "x" * 5000]  # fmt: skip
    return headers | {name: chance.choice(wrong)}


def _garbled(chance: random.Random, body: bytes) -> bytes:
    place = chance.randrange(len(body))
    return chance.choice(
        [body[:place], body[:place] + b"\xff" + body[place:], b"[" * 100_000, b"", b"null"]
    )


def test_the_worker_does_it_in_the_background(sandbox, event, transactional_db):
    """Arrives, is kept, and maintenance brings it: what `run_upkeep` does every minute."""
    from users.tasks import forget_old_deliveries, run_upkeep

    user = BuilderUserFactory()
    attempt = pending_email(BuilderUser.objects.exclude(pk=user.pk).get())
    post(sandbox, event)
    run_upkeep(timestamp=0)
    attempt.refresh_from_db()
    assert attempt.status == "dropped"
    assert BuilderUser.objects.exclude(pk=user.pk).get().name == "Mary Ann Jones"
    WebhookDelivery.objects.update(processed_at="2020-01-01T00:00:00Z")
    forget_old_deliveries(timestamp=0)
    assert not WebhookDelivery.objects.exists()
    assert arrive(sandbox) == []
