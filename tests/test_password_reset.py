"""A password that was forgotten is set anew by a mail."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from procrastinate.contrib.django.models import ProcrastinateJob

from staff.models import Outcome, SignInEvent, Step
from tests.support.factories import StaffFactory
from tests.support.sign_in import (
    browser,
    is_signed_in,
    outcomes,
    sign_in,
    text_of,
    turn_on,
    with_password,
)
from tests.support.workers import work

pytestmark = pytest.mark.django_db(transaction=True)

ASK = "/admin/password_reset/"
NEW = "an entirely new secret"


@pytest.fixture(autouse=True)
def _cheap(settings):
    settings.PASSWORD_HASHERS = ["tests.support.sign_in.CountingHasher"]


@pytest.fixture
def sam(db):
    return with_password(StaffFactory(username="sam", email="sam@example.com"))


def link_in(mail) -> str:
    return re.search(r"http://testserver(/admin/reset/\S+)", mail.body)[1]


def ask(email="sam@example.com", client: Client | None = None):
    return (client or browser()).post(ASK, {"email": email}, follow=True)


def jobs() -> list[dict[str, Any]]:
    return [job.args for job in ProcrastinateJob.objects.order_by("pk")]


def set_password(client: Client, link: str):
    page = client.get(link, follow=True)
    address = page.redirect_chain[-1][0]
    return client.post(address, {"new_password1": NEW, "new_password2": NEW}, follow=True)


def test_the_login_leads_to_it(db):
    assert f'href="{ASK}"' in text_of(Client().get("/admin/login/"))


def test_the_link_of_the_mail_sets_a_new_password_once(sam, mailoutbox):
    page = ask()
    assert page.status_code == 200
    assert mailoutbox == []
    work()
    [mail] = mailoutbox
    assert mail.to == ["sam@example.com"]
    assert mail.subject == "Set a new password for Cascade"
    assert "for your user sam in Cascade" in mail.body
    client = browser()
    set_password(client, link_in(mail))
    assert not is_signed_in(client)
    sign_in(client, password=NEW)
    assert is_signed_in(client)
    assert "link was invalid" in text_of(browser().get(link_in(mail)))
    assert SignInEvent.objects.filter(
        step=Step.CHANGE, user=sam, reason="Set by a link that was mailed."
    ).exists()


def test_the_mail_does_not_replace_the_code(sam, mailoutbox):
    enrolled = browser()
    sign_in(enrolled)
    turn_on(enrolled)
    ask()
    work()
    client = browser()
    set_password(client, link_in(mailoutbox[0]))
    assert sign_in(client, password=NEW).status_code == 302
    assert client.get("/admin/")["Location"].startswith("/admin/code/")
    assert not is_signed_in(enrolled)


def test_nobody_learns_who_has_a_user(sam, mailoutbox):
    known, unknown = ask(), ask("nobody@example.com")
    assert text_of(known) == text_of(unknown)
    work()
    assert [mail.to for mail in mailoutbox] == [["sam@example.com"]]


def statements(email: str) -> list[str]:
    """Ask, and list the kinds of statement that the database got."""
    with CaptureQueriesContext(connection) as asked:
        ask(email)
    return [query["sql"].split("(")[0].split("'")[0] for query in asked.captured_queries]


def test_a_request_does_the_same_work_whether_a_user_has_the_email_or_not(sam, mailoutbox):
    ask("warm-up@example.com")
    assert statements("sam@example.com") == statements("nobody@example.com")
    assert mailoutbox == []
    _, known, unknown = jobs()
    assert known.keys() == unknown.keys()


def test_no_job_holds_the_email(sam):
    ask()
    event = SignInEvent.objects.get(step=Step.RESET)
    assert jobs() == [{"event_id": event.pk, "host": "testserver", "secure": False}]


def test_the_email_is_found_whatever_its_capitals(sam, mailoutbox):
    type(sam).objects.update(email="Sam@Example.com")
    StaffFactory(username="other", email="other@example.com")
    ask("sAM@example.com")
    work()
    assert [mail.to for mail in mailoutbox] == [["Sam@Example.com"]]


def test_a_request_that_the_journal_has_forgotten_sends_nothing(sam, mailoutbox):
    ask()
    SignInEvent.objects.all().delete()
    work()
    assert mailoutbox == []


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!"}])
def test_who_cannot_sign_in_with_a_password_gets_no_mail(sam, mailoutbox, change):
    type(sam).objects.update(**change)
    ask()
    work()
    assert mailoutbox == []


def test_the_mails_are_limited(sam, mailoutbox):
    for number in range(5):
        page = ask(client=browser(f"198.51.100.{number}"))
    assert "Too many attempts for this account." in text_of(page)
    work()
    assert len(mailoutbox) == 3
    for number in range(12):
        page = ask(f"nobody{number}@example.com")
    assert "Too many attempts for this network address." in text_of(page)
    assert outcomes(step=Step.RESET, network="203.0.113.7") == [Outcome.DONE] * 10 + ["limited"]


def test_asking_for_mails_locks_nobody_out(sam):
    for _ in range(5):
        ask()
    client = browser()
    sign_in(client)
    assert is_signed_in(client)
