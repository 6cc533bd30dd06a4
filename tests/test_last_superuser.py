"""One superuser with a password remains, for the day on which the company's provider is down."""

from __future__ import annotations

import html
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse

from tests.support.change_form import text_of
from tests.support.factories import StaffFactory
from tests.support.personas import browser_of

pytestmark = pytest.mark.django_db(transaction=True)

RIGHTS = ("is_active", "is_staff", "is_superuser")
WHY = "is the last active superuser with a password. Nothing was changed."


def superuser(name: str, **fields: Any) -> User:
    """A superuser with a password."""
    user = StaffFactory.build(username=name, **fields)
    user.set_password("a password for that day")
    user.save()
    return user


def page(user: User, name: str) -> str:
    return reverse(f"admin:auth_user_{name}", args=[user.pk])


def saved_without(*lost: str) -> Callable[[Client, User], Any]:
    """Save the form of a user with all rights of theirs but these."""

    def save(client: Client, user: User) -> Any:
        form = {"username": user.username, "date_joined_0": "2026-01-01", "date_joined_1": "00:00"}
        kept = {right: "on" for right in RIGHTS if getattr(user, right) and right not in lost}
        return client.post(page(user, "change"), form | kept)

    return save


def disable_password(client: Client, user: User) -> Any:
    form = {"usable_password": "false", "unset-password": "1"}
    return client.post(page(user, "password_change"), form)


def delete(client: Client, user: User) -> Any:
    return client.post(page(user, "delete"), {"post": "yes"})


TAKING_AWAY: dict[str, Callable[[Client, User], Any]] = {
    "deactivate": saved_without("is_active"),
    "no staff status": saved_without("is_staff"),
    "no superuser": saved_without("is_superuser"),
    "nothing left": saved_without(*RIGHTS),
    "no password": disable_password,
    "delete": delete,
}


def stored(user: User) -> Any:
    return User.objects.filter(pk=user.pk).values(*RIGHTS, "password").first()


@pytest.mark.parametrize("deed", TAKING_AWAY)
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"is_active": False},
        {"is_staff": False},
        {"is_superuser": False},
    ],
    ids=["nobody", "an inactive one", "one who is not staff", "one who is no superuser"],
)
def test_the_last_superuser_with_a_password_stays(deed, others):
    boss, before = superuser("boss"), None
    if others:
        superuser("other", **others)
    colleague = StaffFactory()  # a superuser who signs in through the provider
    before = stored(boss)
    answer = TAKING_AWAY[deed](browser_of(colleague), boss)
    told = html.unescape(text_of(answer))
    assert f"boss {WHY}" in told
    assert "First give a password to another active superuser" in told
    assert stored(boss) == before


@pytest.mark.parametrize("deed", TAKING_AWAY)
def test_one_of_two_superusers_with_a_password_can_go(deed):
    boss, second = superuser("boss"), superuser("second")
    before = stored(boss)
    assert TAKING_AWAY[deed](browser_of(second), boss).status_code == 302
    assert stored(boss) != before


@pytest.mark.parametrize("deed", TAKING_AWAY)
def test_where_nobody_has_a_password_nothing_is_refused(deed):
    first, second = StaffFactory(), superuser("second", is_active=False)
    before = stored(second)
    answer = TAKING_AWAY[deed](browser_of(first), second)
    if deed != "deactivate":
        assert stored(second) != before
    assert answer.status_code == 302


def test_the_last_superuser_cannot_take_the_own_rights_away():
    boss = superuser("boss")
    for lost in RIGHTS:
        answer = saved_without(lost)(browser_of(boss), boss)
        assert f"boss {WHY}" in html.unescape(text_of(answer))
    assert User.objects.get(pk=boss.pk).is_superuser


def test_the_last_superuser_can_be_edited_and_get_another_password():
    boss, colleague = superuser("boss"), StaffFactory()
    client = browser_of(colleague)
    assert saved_without()(client, boss).status_code == 302
    form = {"password1": "correct horse 77", "password2": "correct horse 77",
            "usable_password": "true", "set-password": "1"}  # fmt: skip
    assert client.post(page(boss, "password_change"), form).status_code == 302
    assert User.objects.get(pk=boss.pk).check_password("correct horse 77")


def test_staff_users_are_not_deleted_from_the_list():
    boss, colleague = superuser("boss"), StaffFactory()
    form = {"action": "delete_selected", "_selected_action": [boss.pk], "post": "yes"}
    browser_of(colleague).post(reverse("admin:auth_user_changelist"), form)
    assert User.objects.filter(pk=boss.pk).exists()


def test_two_superusers_cannot_take_each_others_rights_away_at_the_same_time():
    first, second = superuser("first"), superuser("second")
    together = threading.Barrier(2)

    def demote(client: Client, user: User) -> None:
        together.wait()
        saved_without("is_superuser")(client, user)
        connection.close()

    browsers = [(browser_of(first), second), (browser_of(second), first)]
    threads = [threading.Thread(target=demote, args=pair) for pair in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert User.objects.filter(is_superuser=True).count() == 1
