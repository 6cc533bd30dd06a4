"""The list of builder users: what it shows comes from our tables; Clerk is never asked."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.support.change_form import page_of, text_of
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    SyncAttemptFactory,
    linked,
)
from tests.support.user_list import LIST, shown
from users.models import ClerkAccount, Invitation, ListEntry

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_state_of_each_user(client, sandbox):
    def account(user, **values):
        ClerkAccount.objects.filter(user=user).update(**values)

    linked(sandbox, email="step@example.com")
    BuilderUserFactory(email="unlinked@example.com")
    invited = BuilderUserFactory(email="invited@example.com")
    Invitation.objects.create(user=invited, email=invited.email)
    account(linked(sandbox, email="banned@example.com"), banned=True)
    account(linked(sandbox, email="locked@example.com"), locked=True)
    account(linked(sandbox, email="name@example.com"), last_name="Other")
    account(linked(sandbox, email="email@example.com"), email="other@example.com")
    SyncAttemptFactory(user=linked(sandbox, email="open@example.com"))
    linked(sandbox, email="unseen@example.com").account.delete()
    assert shown(client) == {
        "step@example.com": "in_step",
        "unlinked@example.com": "not_linked",
        "invited@example.com": "invited",
        "banned@example.com": "banned",
        "locked@example.com": "locked",
        "name@example.com": "differs",
        "email@example.com": "differs",
        "open@example.com": "open",
        "unseen@example.com": "unseen",
    }
    assert set(shown(client, clerk="differs")) == {"name@example.com", "email@example.com"}
    assert set(shown(client, clerk="open")) == {"open@example.com"}
    assert sandbox.requests() == []


def test_a_state_of_a_later_version_breaks_no_page_before_the_restart(client, sandbox):
    user = linked(sandbox, email="mary@example.com")
    ListEntry.objects.filter(pk=user.pk).update(state="of a later version")
    for page in (LIST, page_of(user)):
        assert "Not checked yet" in text_of(client.get(page))
    for page in ("/admin/", "/admin/users/builderuser/export/"):
        assert client.get(page).status_code == 200


def test_search(client, sandbox):
    user, other = linked(sandbox, name="José García"), BuilderUserFactory(name="Bob")
    for query in ("garcía", user.email, str(user.pk), user.clerk_id):
        assert set(shown(client, q=query)) == {user.email}
    assert set(shown(client, q="bob")) == {other.email}


def test_a_page_takes_the_same_queries_however_many_it_shows(client, sandbox):
    counts = []
    for number in (2, 20):
        for _ in range(number):
            linked(sandbox, builder_group=BuilderGroupFactory())
        with CaptureQueriesContext(connection) as queries:
            client.get(LIST)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 9


def test_the_panel_shows_both_copies(client, sandbox):
    user = linked(sandbox, clerk={"password_enabled": True})
    ClerkAccount.objects.filter(user=user).update(last_name="Brown", banned=True)
    page = text_of(client.get(reverse("admin:users_builderuser_change", args=[user.pk])))
    for words in ("Mary Ann Brown", "Doesn't match", "Password", "Banned", user.clerk_id):
        assert words in page
    assert sandbox.requests() == []


def test_the_index_and_every_list_open(client, sandbox):
    linked(sandbox)
    for name in ("builderuser", "buildergroup", "clerkaccount", "syncattempt"):
        assert client.get(f"/admin/users/{name}/").status_code == 200
    assert client.get("/admin/").status_code == 200
