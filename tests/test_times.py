"""Times on the pages: one format, in the zone of the person who reads them, and named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.change_form import page_of, text_of
from tests.support.factories import BuilderUserFactory, SyncAttemptFactory, linked
from users.models import ClerkAccount, Invitation, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)

HOME, LIST, CHANGES = "/admin/", "/admin/users/builderuser/", "/admin/users/syncattempt/"
LATE = datetime(2026, 11, 28, 23, 30, 15, tzinfo=UTC)


@pytest.fixture
def in_tokyo(chromium, live_server, staff):
    """A page of a browser in Tokyo, signed in."""
    client = Client()
    client.force_login(staff)
    context = chromium.new_context(base_url=live_server.url, timezone_id="Asia/Tokyo")
    cookie = client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
    yield context.new_page()
    context.close()


@pytest.fixture
def tokyo(client):
    """A client whose browser has said that it is in Tokyo."""
    client.cookies["zone"] = "Asia/Tokyo"
    return client


def test_a_stored_sentence_is_in_the_zone_of_who_reads_it(in_tokyo, client, sandbox, staff):
    user = linked(sandbox)
    message = "It is checked again at 2026-11-28 23:30:15 UTC; nothing is lost."
    SyncAttemptFactory(user=user, message=message, late_until=LATE)

    assert message in text_of(client.get(CHANGES))
    in_tokyo.goto(f"{CHANGES}{SyncAttempt.objects.get().pk}/change/")
    in_tokyo.get_by_text("at 2026-11-29 08:30:15 GMT+9; nothing is lost.").wait_for()
    in_tokyo.goto(page_of(user))
    assert "UTC" not in in_tokyo.locator("body").inner_text()


def test_a_sentence_that_a_page_makes_later_is_in_the_viewers_zone(in_tokyo):
    in_tokyo.goto(HOME)
    in_tokyo.evaluate("""
        const told = Object.assign(document.createElement("p"), {id: "told", title: "x"});
        document.body.append(told);
        told.textContent = "Sent after 2026-11-28 23:30 UTC.";
    """)
    in_tokyo.get_by_text("Sent after 2026-11-29 08:30 GMT+9.").wait_for()


def test_what_a_person_types_stays_as_it_is(in_tokyo, sandbox):
    user = linked(sandbox, name="Mary 2026-11-28 23:30 UTC")
    in_tokyo.goto(page_of(user))
    assert in_tokyo.get_by_label("Name:").input_value() == "Mary 2026-11-28 23:30 UTC"


def test_days_and_tooltips_of_the_list_are_in_the_viewers_zone(in_tokyo, client, sandbox):
    linked(sandbox)
    ClerkAccount.objects.update(last_sign_in_at=LATE, seen_at=timezone.now() - timedelta(days=9))
    page = text_of(client.get(LIST))
    assert ">2026-11-28</time>" in page
    assert 'title="Last checked 20' in page

    in_tokyo.goto(LIST)
    day = in_tokyo.get_by_text("2026-11-29", exact=True)
    assert day.get_attribute("title") == "2026-11-29 08:30:15 GMT+9"
    assert in_tokyo.locator(".state-not_lately").get_attribute("title").endswith(" GMT+9")


def test_an_invitation_is_open_until_a_time_of_the_viewer(in_tokyo):
    user = BuilderUserFactory()
    Invitation.objects.create(
        user=user, email=user.email, purpose="new_account", expires_at=LATE, status="pending"
    )
    in_tokyo.goto(page_of(user))
    in_tokyo.get_by_text("is open until 2026-11-29 08:30 GMT+9").wait_for()


def test_the_browser_tells_its_zone_to_the_next_page(in_tokyo):
    in_tokyo.goto(HOME)
    in_tokyo.goto(HOME)
    in_tokyo.get_by_text("The numbers").click()
    in_tokyo.get_by_role("columnheader", name="Day (Asia/Tokyo)").wait_for()


def test_edits_are_counted_by_the_days_of_the_viewer(tokyo, sandbox):
    in_zone = timezone.now().astimezone(ZoneInfo("Asia/Tokyo"))
    midnight = in_zone.replace(hour=0, minute=0, second=0, microsecond=0)
    for moment in (midnight, midnight - timedelta(seconds=1), midnight - timedelta(hours=20)):
        attempt = SyncAttemptFactory(user=None, status="applied", settled_at=moment)
        SyncAttempt.objects.filter(pk=attempt.pk).update(started_at=moment)

    columns = tokyo.get(HOME).context["home"]["edits"].columns
    assert [(one.label, one.amounts[0]) for one in columns[-2:]] == [
        (f"{midnight - timedelta(days=1):%Y-%m-%d}", 2),
        (f"{midnight:%Y-%m-%d}", 1),
    ]


def test_filters_by_date_begin_at_the_midnight_of_the_viewer(tokyo):
    page = text_of(tokyo.get(CHANGES))

    assert "started at (Asia/Tokyo)" in page
    assert "%2B00%3A00" not in page
    assert "00%3A00%3A00%2B09%3A00" in page


@pytest.mark.parametrize("zone", ["Mars/Base", "../../etc/passwd", "", "\0", "Europe"])
def test_a_zone_that_is_none_is_utc(client, sandbox, zone):
    client.cookies["zone"] = zone

    assert "Day (UTC)" in text_of(client.get(HOME))
    assert "(UTC)" in text_of(client.get(CHANGES))


def test_pages_of_django_name_the_zone_too(tokyo, staff):
    tokyo.post("/admin/users/buildergroup/add/", {"name": "Cedar Ridge"})
    group = tokyo.get("/admin/users/buildergroup/").context["cl"].result_list[0]

    assert " JST</th>" in text_of(tokyo.get(f"/admin/users/buildergroup/{group.pk}/history/"))
