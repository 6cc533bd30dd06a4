"""What a list can be asked, and where a page leads: hidden columns are not read by filters, and
no link leads to a page that its reader may not open."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import pytest
from django.contrib import admin
from django.urls import reverse

from tests.support.addresses import World, patterns
from tests.support.change_form import text_of
from tests.support.personas import browser_of, staff_in, staff_who_may
from users.models import SyncAttempt, WebhookDelivery
from users.sync.access import groups

pytestmark = pytest.mark.django_db(transaction=True)

OURS = [model for model in admin.site._registry if model._meta.app_label in ("users", "auth")]


def list_of(model) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def test_a_payload_is_not_read_letter_by_letter(client):
    WebhookDelivery.objects.create(
        svix_id="msg_1", type="user.updated", payload={"data": {"email": "ann@example.com"}}
    )
    for letters in ("a", "b"):
        query = {"payload__data__email__startswith": letters}
        assert client.get(list_of(WebhookDelivery), query).status_code == 400


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.model_name)
def test_no_column_is_searched_that_its_list_does_not_filter_by(client, model):
    """By its own lookups, or by those of a relation."""
    for field in model._meta.get_fields():
        for lookup in ("startswith", "regex", "gt", "pk__startswith", "password__startswith"):
            query = {f"{field.name}__{lookup}": "a"}
            assert client.get(list_of(model), query).status_code == 400, query


@pytest.mark.parametrize("model", [SyncAttempt, WebhookDelivery])
def test_records_are_not_searched_by_emails_that_their_reader_may_not_see(sandbox, model):
    user = World(sandbox).objects["users.builderuser"]
    WebhookDelivery.objects.update(clerk_id=user.clerk_id)
    record = f"users.view_{model._meta.model_name}"
    for permissions, found in (([record], 0), ([record, "users.view_builderuser"], 1)):
        reader = browser_of(staff_who_may(*permissions))
        page = reader.get(list_of(model), {"q": user.email.rpartition(".")[0]})
        assert page.context["cl"].result_count == found


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.model_name)
def test_every_filter_that_a_list_offers_works(client, sandbox, model):
    World(sandbox)
    page = text_of(client.get(list_of(model)))
    offered = {query for query in re.findall(r'href="(\?[^"]+)"', page) if "__" in query}
    for query in offered:
        assert client.get(list_of(model) + query).status_code == 200, query


LINK = re.compile(r'(?:href|action)="([^"#]+)"')
TO_READ = ("users.view_", "auth.view_")


def readers():
    alone = [name for name in groups.OFFERED if name.startswith(TO_READ)]
    return [*groups.GROUPS, *alone, "users.add_builderuser", "users.change_builderuser"]


@pytest.mark.parametrize("reader", readers())
def test_no_link_leads_to_a_page_that_its_reader_may_not_open(sandbox, reader):
    staff = staff_in(reader) if reader in groups.GROUPS else staff_who_may(reader)
    client, world = browser_of(staff), World(sandbox)
    dead, answers = [], {}
    for key, pattern in patterns():
        address = world.address(pattern)
        if key == "logout" or answers.get(address, 200) != 200:
            continue
        response = client.get(address)
        answers[address] = response.status_code
        if response.status_code != 200 or response.streaming:
            continue
        for link in set(LINK.findall(text_of(response))):
            target = urlsplit(urljoin(address, link)).path  # a query needs no permission
            if not target.startswith("/admin/") or target.startswith("/admin/logout/"):
                continue
            if target not in answers:
                answers[target] = client.get(target).status_code
            if answers[target] == 403:
                dead.append((pattern, target))
    assert dead == []
