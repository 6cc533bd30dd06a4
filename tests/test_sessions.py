"""When a session ends."""

from __future__ import annotations

import time
from urllib.parse import urlencode

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from staff.sessions import SEEN_AT, STARTED_AT
from tests.support.sign_in import is_signed_in, sign_in, text_of, with_password

pytestmark = pytest.mark.django_db

HOUR = 3600
LIST = "/admin/users/builderuser/"


def age(client, **times) -> None:
    """Let the session be older, by its own record."""
    session = SessionStore(client.cookies["sessionid"].value)
    for name, value in times.items():
        session[{"started": STARTED_AT, "seen": SEEN_AT}[name]] = value
    session.save()


def test_a_session_without_a_request_for_eight_hours_has_ended(client):
    age(client, seen=time.time() - 8 * HOUR - 1)
    response = client.get(f"{LIST}?q=mary")
    assert response["Location"] == "/admin/login/?next=%2Fadmin%2Fusers%2Fbuilderuser%2F%3Fq%3Dmary"
    page = client.get(response["Location"])
    assert "Your session has ended. Sign in again." in text_of(page)
    assert client.get(LIST).status_code == 302


def test_a_request_starts_the_eight_hours_again(client):
    age(client, seen=time.time() - 8 * HOUR + 600)
    assert client.get(LIST).status_code == 200
    seen = SessionStore(client.cookies["sessionid"].value)[SEEN_AT]
    assert time.time() - seen < HOUR


def test_a_session_ends_after_seven_days_of_use(client):
    age(client, started=time.time() - 7 * 24 * HOUR - 1)
    assert client.get(LIST)["Location"].startswith("/admin/login/")


def test_an_ended_session_changes_nothing(client):
    age(client, seen=time.time() - 9 * HOUR)
    response = client.post("/admin/users/buildergroup/add/", {"name": "Oak Hill"})
    assert response["Location"] == "/admin/login/?next=%2Fadmin%2F"


@pytest.mark.parametrize("session", ["idle", "gone"])
@pytest.mark.parametrize(
    ("named", "back"),
    [
        (f"http://testserver{LIST}?q=mary", f"{LIST}?q=mary"),
        ("http://evil.example/admin/", "/admin/"),
        ("http://testserver//evil.example/", "/admin/"),
        ("http://[", "/admin/"),
        ("", "/admin/"),
    ],
)
def test_after_the_sign_in_the_page_of_the_form_opens_again(client, named, back, session):
    """Also for an address that takes no GET, such as that of a button."""
    if session == "idle":
        age(client, seen=time.time() - 9 * HOUR)
    else:
        client.cookies.clear()
    response = client.post(f"{LIST}{'0' * 32}/refresh/", headers={"referer": named})
    assert response["Location"] == f"/admin/login/?{urlencode({'next': back})}"


def test_a_form_that_another_window_made_old_leads_to_its_page(staff):
    """The page names the place where the form stands, and never one of another site."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(staff)
    for named, back in (
        (f"http://testserver{LIST}", LIST),
        ("http://evil.example/", "/admin/"),
        ("http://testserver//evil.example/", "/admin/"),
    ):
        page = browser.post(f"{LIST}{'0' * 32}/refresh/", headers={"referer": named})
        assert page.status_code == 403
        assert f'<a href="{back}">Open the page again</a>' in text_of(page)


def test_a_session_of_a_version_without_times_has_ended(client):
    session = SessionStore(client.cookies["sessionid"].value)
    del session[STARTED_AT], session[SEEN_AT]
    session.save()
    assert client.get(LIST).status_code == 302


def test_a_new_password_ends_the_other_sessions(client, staff):
    with_password(staff, "new and long enough")
    assert client.get(LIST).status_code == 302


def test_signing_in_again_begins_a_new_session(client, staff, settings):
    """Also with the same user, whose session Django would go on with."""
    settings.PASSWORD_HASHERS = ["tests.support.sign_in.CountingHasher"]
    with_password(staff)
    client.force_login(staff)
    known = client.cookies["sessionid"].value
    sign_in(client, username=staff.username)
    assert is_signed_in(client)
    assert client.cookies["sessionid"].value != known
    assert not SessionStore().exists(known)


def test_who_is_switched_off_is_signed_out_at_once(client, staff):
    staff.is_active = False
    staff.save()
    assert client.get(LIST).status_code == 302


def test_the_cookie_outlives_no_session(client, settings):
    assert settings.SESSION_COOKIE_AGE == settings.SESSION_ABSOLUTE_SECONDS == 7 * 24 * HOUR
    assert settings.SESSION_IDLE_SECONDS == 8 * HOUR
