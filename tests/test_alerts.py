"""People get a mail when something needs them, once, and when it is over."""

from __future__ import annotations

import smtplib
from datetime import timedelta

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from tests.support.change_form import text_of
from tests.support.factories import SyncAttemptFactory, linked
from tests.support.patience import wait_until
from tests.support.workers import heartbeat, no_worker
from users import tasks
from users.models import BulkRun, EventCheck, RunStatus, SyncAttempt
from users.sync import alerts

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _people(settings):
    settings.ALERT_EMAILS = ["ops@example.com"]


@pytest.fixture
def worker():
    """A worker whose heartbeat is fresh."""
    heartbeat()


def checked() -> list[str]:
    """Run the job of the worker, and return the subjects of the mails that it sent."""
    mail.outbox.clear()
    tasks.mail_alerts(0)
    return [message.subject for message in mail.outbox]


def test_nothing_is_mailed_while_all_is_well(worker):
    assert checked() == []


def test_a_change_that_is_open_for_over_an_hour_is_mailed_once_and_when_it_is_over(worker):
    attempt = SyncAttemptFactory(status="started", settled_at=None)
    assert checked() == []
    long_ago = timezone.now() - timedelta(hours=2)
    SyncAttempt.objects.filter(pk=attempt.pk).update(started_at=long_ago)
    assert checked() == ["Cascade: a change is not confirmed by Clerk for over an hour"]
    assert checked() == []
    SyncAttempt.objects.filter(pk=attempt.pk).update(status="applied", settled_at=timezone.now())
    assert checked() == ["Cascade: over: a change is not confirmed by Clerk for over an hour"]
    assert checked() == []


def test_missing_events_are_mailed(worker):
    now = timezone.now()
    EventCheck.objects.create(pk=1, missed_since=now, missed_at=now, missed=3, checked_at=now)
    assert checked() == ["Cascade: events from Clerk are missing"]


def test_a_failed_scan_is_mailed_until_one_succeeds(worker):
    BulkRun.objects.create(command="scan", state=RunStatus.INTERRUPTED, message="It failed.")
    assert checked() == ["Cascade: the scan of Clerk's users failed"]
    BulkRun.objects.create(command="scan", state=RunStatus.FINISHED, finished_at=timezone.now())
    assert checked() == ["Cascade: over: the scan of Clerk's users failed"]


def test_no_name_and_no_address_of_a_person_is_mailed(worker, sandbox):
    user = linked(sandbox)
    SyncAttemptFactory(user=user, label=user.name, status="started", settled_at=None)
    SyncAttempt.objects.update(started_at=timezone.now() - timedelta(hours=2))
    checked()
    [message] = mail.outbox
    assert user.name not in message.body
    assert user.email not in message.body
    assert message.to == ["ops@example.com"]


def test_a_mail_that_could_not_be_sent_is_sent_later(monkeypatch):
    def down(*arguments, **options):
        raise smtplib.SMTPServerDisconnected("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(alerts, "send_mail", down)
        assert checked() == []
    assert checked() == ["Cascade: the worker does not run"]


def test_a_dead_worker_is_mailed_by_whoever_asks_for_readiness(monkeypatch, worker):
    """A dead worker cannot say so itself."""
    monkeypatch.setattr(alerts, "_last_check", -alerts.EVERY)
    heartbeat(ago=timedelta(minutes=3))
    assert Client().get("/readyz/").status_code == 200
    wait_until(lambda: mail.outbox, "no mail was sent")
    assert [message.subject for message in mail.outbox] == ["Cascade: the worker does not run"]


def test_the_home_page_says_that_the_worker_does_not_run(client, worker):
    assert "The worker does not run" not in text_of(client.get("/admin/"))
    no_worker()
    assert "The worker does not run" in text_of(client.get("/admin/"))


def test_nothing_is_checked_without_anybody_to_tell(settings, django_assert_num_queries):
    settings.ALERT_EMAILS = []
    with django_assert_num_queries(0):
        assert checked() == []
