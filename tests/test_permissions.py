"""Who may do what: Django's own permissions, on every page."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.support.bulk_pages import planned
from tests.support.change_form import form_of, page_of, stored, text_of
from tests.support.factories import SyncAttemptFactory, linked
from tests.support.personas import client_who_may
from users.models import BulkRun

pytestmark = pytest.mark.django_db(transaction=True)


def test_who_may_look_cannot_touch(sandbox):
    client, user = client_who_may("view_builderuser", "view_syncattempt"), linked(sandbox)
    attempt = SyncAttemptFactory(user=user, changes={"name": ["Mary Ann Smith", "Bob"]})
    page = client.get(page_of(user))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    own = f"/admin/users/builderuser/{user.pk}"
    for address in (f"{own}/email/", f"{own}/password/", f"{own}/check/", f"{own}/take-over/"):
        assert client.get(address).status_code == 403
        assert client.post(address).status_code == 403
    assert client.post(page_of(user), form_of(user, name="Bob")).status_code == 403
    assert client.post(f"{own}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"/admin/users/syncattempt/{attempt.pk}/check/").status_code == 403
    attempt.refresh_from_db()
    assert attempt.status == "started"
    assert stored(user).name == user.name
    assert sandbox.requests() == []


def test_who_may_change_cannot_delete(sandbox):
    client, user = client_who_may("view_builderuser", "change_builderuser"), linked(sandbox)
    assert client.post(page_of(user), form_of(user, name="Mary Ann Jones")).status_code == 302
    assert stored(user).name == "Mary Ann Jones"
    assert "Select a valid choice." in text_of(planned(client, [user], action="delete"))
    assert not BulkRun.objects.exists()
    assert stored(user)


def test_nobody_edits_the_journal(client, sandbox):
    attempt = SyncAttemptFactory(user=linked(sandbox))
    page = f"/admin/users/syncattempt/{attempt.pk}/change/"
    assert client.get(page).status_code == 200
    assert client.post(page, {"status": "applied"}).status_code == 403
    assert client.get("/admin/users/syncattempt/add/").status_code == 403
    assert client.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403


def test_strangers_are_sent_to_the_login(sandbox, db):
    user = linked(sandbox)
    for address in (page_of(user), f"/admin/users/builderuser/{user.pk}/email/"):
        assert Client().get(address).status_code == 302
