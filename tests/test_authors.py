"""Staff who did something are kept: it stays true who did it."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import ProtectedError
from django.urls import reverse

from staff.models import ProviderAccount, SignInEvent
from tests.support.change_form import text_of
from tests.support.factories import BuilderUserFactory, StaffFactory, SyncAttemptFactory
from tests.support.personas import browser_of, staff_who_may
from users.models import BulkRun, Invitation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sam(db) -> User:
    return StaffFactory(username="sam", is_superuser=False)


def logged(user: User) -> LogEntry:
    LogEntry.objects.log_actions(user.pk, [BuilderUserFactory()], 2, "Changed.", single_object=True)
    return LogEntry.objects.get()


RECORDS: dict[str, Callable[[User], Any]] = {
    "an entry of Django's log": logged,
    "a change": lambda user: SyncAttemptFactory(user=BuilderUserFactory(), actor=user),
    "an invitation": lambda user: Invitation.objects.create(
        user=BuilderUserFactory(), purpose="new_account", email="n@example.com", invited_by=user
    ),
    "a run": lambda user: BulkRun.objects.create(command="clerk_push", actor=user),
    "a sign-in": lambda user: SignInEvent.objects.create(
        step="password", account=user.username, user=user
    ),
}


def page(user: User, name: str = "delete") -> str:
    return reverse(f"admin:auth_user_{name}", args=[user.pk])


@pytest.mark.parametrize("record", RECORDS)
def test_the_page_keeps_the_author_of_a_record(client, sam, record):
    made = RECORDS[record](sam)
    for answer in (client.get(page(sam)), client.post(page(sam), {"post": "yes"})):
        words = html.unescape(text_of(answer))
        assert "sam cannot be deleted: records name them" in words
        assert "Deactivate them instead" in words
        assert page(sam, "change") in words
    assert User.objects.filter(pk=sam.pk).exists()
    made.refresh_from_db()
    assert sam in (getattr(made, name, None) for name in ("user", "actor", "invited_by"))


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize(
    "delete", [User.delete, lambda user: User.objects.filter(pk=user.pk).delete()]
)
def test_no_other_deletion_takes_the_author_of_a_record(sam, record, delete):
    made = RECORDS[record](sam)
    with pytest.raises(ProtectedError):
        delete(sam)
    assert User.objects.filter(pk=sam.pk).exists()
    made.refresh_from_db()


def test_a_superuser_deletes_a_user_who_has_done_nothing(client, sam):
    ProviderAccount.objects.create(
        user=sam, issuer="https://company.example", subject="1", email="sam@example.com"
    )
    assert client.post(page(sam), {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=sam.pk).exists()


def test_nobody_but_a_superuser_deletes_staff(sam):
    office = browser_of(staff_who_may("auth.view_user", "auth.change_user", "auth.delete_user"))
    assert office.post(page(sam), {"post": "yes"}).status_code == 403
    assert "Delete" not in text_of(office.get(page(sam, "change")))
    assert User.objects.filter(pk=sam.pk).exists()


def test_a_superuser_does_not_delete_themselves(client, staff):
    assert client.post(page(staff), {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=staff.pk).exists()


def test_the_list_deletes_nobody(client, sam):
    chosen = {"action": "delete_selected", "_selected_action": [sam.pk], "post": "yes"}
    client.post(reverse("admin:auth_user_changelist"), chosen)
    assert User.objects.filter(pk=sam.pk).exists()
