"""The records of changes, invitations and events: found, read and exported by staff."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.admin.utils import quote
from django.test import Client
from django.utils import timezone

from tests.support.change_form import stored, text_of
from tests.support.commands import run
from tests.support.events import happened, post
from tests.support.factories import SyncAttemptFactory, linked
from tests.support.personas import browser_of, staff_who_may
from users import guard
from users.models import SyncAttempt, WebhookDelivery

pytestmark = pytest.mark.django_db(transaction=True)

ATTEMPTS = "/admin/users/syncattempt/"


def labels(client, **query) -> list[str]:
    return [one.label for one in client.get(ATTEMPTS, query).context["cl"].result_list]


@pytest.fixture
def two(sandbox, staff):
    """An edit by staff today, and one of an event a year ago."""
    mary = linked(sandbox, name="Mary Ann Smith", email="mary@example.com")
    changes = {"name": ["=Mary", "Mary Ann Smith"]}
    SyncAttemptFactory(user=mary, label="Mary", changes=changes, actor=staff)
    john = linked(sandbox, email="john@example.com")
    old = SyncAttemptFactory(user=john, label="John", source="webhook")
    SyncAttempt.objects.filter(pk=old.pk).update(
        started_at=timezone.now() - timedelta(days=400), status="applied", settled_at=timezone.now()
    )
    return mary, john


def test_changes_are_found_by_date_person_source_outcome_and_email(client, two, staff):
    today = f"{timezone.now():%Y-%m-%d} 00:00:00+00:00"

    for query in (
        {"started_at__gte": today},
        {"by": str(staff.pk)},
        {"source__exact": "admin"},
        {"status__exact": "started"},
        {"q": "MARY@example.com"},
        {"q": "mary@"},
    ):
        assert labels(client, **query) == ["Mary"], query
    assert labels(client, source__exact="webhook") == ["John"]


def test_a_former_address_finds_the_changes_too(client, sandbox):
    user = linked(sandbox, email="old@example.com")
    account = user.account
    account.addresses = {"former@example.com": [1, 2]}
    account.save()
    SyncAttemptFactory(user=user, label="Renamed")

    assert labels(client, q="former@example.com") == ["Renamed"]


def test_the_list_of_changes_shows_before_and_after(client, two):
    assert "name: =Mary → Mary Ann Smith" in text_of(client.get(ATTEMPTS))


def test_the_export_of_changes_has_what_the_list_shows(client, two):
    answer = client.get(f"{ATTEMPTS}export/", {"source__exact": "admin"})

    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    assert [(row["name"], row["status"]) for row in rows] == [("Mary", "Waiting for Clerk")]
    assert rows[0]["changes"] == "name: =Mary → Mary Ann Smith"


@pytest.mark.parametrize("model", ["syncattempt", "invitation", "webhookdelivery", "bulkrun"])
def test_who_may_not_view_a_record_may_not_export_it(client, staff, model):
    assert client.get(f"/admin/users/{model}/export/").status_code == 200
    staff.is_superuser = False
    staff.save()

    assert client.get(f"/admin/users/{model}/export/").status_code == 403


def test_a_record_has_no_history(client, two):
    WebhookDelivery.objects.create(svix_id="msg_1", type="user.updated")

    for page in (
        f"{ATTEMPTS}{SyncAttempt.objects.first().pk}",
        "/admin/users/webhookdelivery/msg_5F1",
    ):
        assert client.get(f"{page}/change/").status_code == 200
        assert "historylink" not in client.get(f"{page}/change/").content.decode()
        assert client.get(f"{page}/history/").status_code == 404


def test_times_of_records_name_their_zone_and_are_in_the_viewers(chromium, live_server, staff):
    attempt = SyncAttemptFactory(label="Mary", changes={"name": ["Mary", "Bob"]})
    SyncAttempt.objects.update(started_at="2026-11-28T23:30:15Z")
    client = Client()
    client.force_login(staff)
    assert "2026-11-28 23:30:15 UTC</time>" in text_of(client.get("/admin/users/syncattempt/"))
    context = chromium.new_context(base_url=live_server.url, timezone_id="Asia/Tokyo")
    cookie = client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
    page = context.new_page()
    for address in ("", f"{attempt.pk}/change/"):
        page.goto(f"/admin/users/syncattempt/{address}")
        page.get_by_text("2026-11-29 08:30:15 GMT+9").wait_for()
    context.close()


DELIVERIES = "/admin/users/webhookdelivery/"
LONG = "".join(random.Random(1).choices("abcdefghijklmnop", k=9000))


@pytest.fixture
def mary(sandbox):
    """A user whose name was changed in Clerk, and whose event was taken. Another has one, too."""
    users = linked(sandbox, email="mary@example.com"), linked(sandbox, email="ann@example.com")
    for user in users:
        happened(sandbox)
        sandbox.edit(user.clerk_id, last_name="Jones")
        assert post(sandbox, *happened(sandbox)).status_code == 200
    return stored(users[0])


def test_a_delivery_links_the_user_that_its_event_is_about(client, mary):
    link = f'<a href="{mary.get_absolute_url()}">{mary.name}</a>'
    delivery = WebhookDelivery.objects.get(clerk_id=mary.clerk_id)
    assert delivery.payload is None

    assert link in text_of(client.get(DELIVERIES))
    assert link in text_of(client.get(f"{DELIVERIES}{quote(delivery.pk)}/change/"))


def test_who_may_not_open_users_reads_the_clerk_id_of_a_delivery(mary):
    client = browser_of(staff_who_may("users.view_webhookdelivery"))

    page = text_of(client.get(DELIVERIES))
    assert mary.clerk_id in page
    assert mary.name not in page
    assert "2 webhook deliveries" in page
    # else a search would say who has which address
    assert "0 webhook deliveries" in text_of(client.get(DELIVERIES, {"q": "mary@example.com"}))


@pytest.mark.parametrize("address", ["MARY@example.com", "former@example.com"])
def test_the_deliveries_of_a_person_are_found_by_their_email(client, mary, address):
    account = mary.account
    account.addresses |= {"former@example.com": [1, 2]}
    account.save()

    found = client.get(DELIVERIES, {"q": address}).context["cl"].result_list
    assert [one.clerk_id for one in found] == [mary.clerk_id]


def test_a_delivery_of_a_deleted_user_keeps_the_clerk_id(client, mary):
    clerk_id = mary.clerk_id
    with guard.without_clerk():
        mary.delete()

    assert clerk_id in text_of(client.get(DELIVERIES))


@pytest.mark.parametrize(
    ("named", "kept"), [("user_1a", "user_1a"), (f"user_{LONG}", "")], ids=["short", "long"]
)
def test_an_event_that_cannot_be_applied_names_its_user_too(client, sandbox, mary, named, kept):
    happened(sandbox)
    sandbox.edit(mary.clerk_id, last_name="Miller")
    [event] = happened(sandbox)
    without_user = {"type": "session.created", "data": {"id": "sess_1", "user_id": named}}
    broken = replace(event, payload=event.payload | without_user)
    assert post(sandbox, broken).status_code == 200

    [found] = client.get(DELIVERIES, {"status": "unusable"}).context["cl"].result_list
    assert found.clerk_id == kept


def test_forgetting_a_person_erases_their_deliveries(client, mary):
    assert run("forget_person", mary.email, "--apply")[0] == 0

    assert not WebhookDelivery.objects.filter(clerk_id=mary.clerk_id).exists()
    assert WebhookDelivery.objects.count() == 1


def test_a_browser_that_asks_for_an_icon_gets_one(client, caplog):
    answer = client.get("/favicon.ico")
    assert answer.status_code == 302
    assert answer.url.endswith("favicon.svg")
    assert caplog.records == []
