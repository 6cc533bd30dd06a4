"""Whatever is typed into a field or an address: a field error, a redirect or 404, never a 500."""

from __future__ import annotations

import uuid

import pytest
from django.urls import reverse

from tests.support.change_form import assert_unchanged, stored, submit
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, change_here, linked
from users.models import BuilderGroup

pytestmark = pytest.mark.django_db(transaction=True)

USERS = "/admin/users/builderuser/"
GROUPS = "?app_label=users&model_name=builderuser&field_name=builder_group"


@pytest.mark.parametrize(
    "address",
    [
        f"{USERS}?name__regex=(",
        f"{USERS}?role=%00",
        f"{USERS}?role__exact=%00",
        f"{USERS}export/?p=abc&builder_group__id__exact=%00",
        f"{USERS}?q=%00",
        f"{USERS}?clerk=%00",
        f"{USERS}?p=abc",
        f"{USERS}?builder_group__id__exact=x",
        f"{USERS}%00/change/",
        f"{USERS}not-a-uuid/change/",
        f"{USERS}{uuid.UUID(int=7)}/change/",
        f"{USERS}{uuid.UUID(int=7)}/email/",
        f"{USERS}x/password/",
        f"{USERS}%00/email/",
        f"{USERS}x/delete/",
        "/admin/users/clerkaccount/%00/change/",
        "/admin/users/syncattempt/?status__exact=%00",
        f"/admin/users/syncattempt/?by={'9' * 30}&q=%00@",
        f"/admin/users/syncattempt/{'9' * 30}/change/",
        "/admin/users/buildergroup/%00/change/",
        f"/admin/autocomplete/{GROUPS}&term=%00",
    ],
)
def test_addresses(client, sandbox, address):
    client.raise_request_exception = False
    assert client.get(address, follow=True).status_code in (200, 400, 404)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("builder_group", "not-a-uuid"),
        ("builder_group", str(uuid.UUID(int=7))),
        ("builder_group", "\0"),
        ("name", "<script>alert(1)</script>"),
        ("name", "x" * 300),
        ("name", "a\0b"),
        ("name", "a\x07b"),
        ("name", "   "),
        ("name", "\u200b"),
        ("name", "Mary \u202enaS"),
        ("email", "a\0@b.c"),
        ("email", "nobody"),
        ("email", "mary@exam\u200bple.com"),
        ("role", "KING"),
        ("internal_role", "Employee"),
    ],
)
def test_fields(client, sandbox, field, value):
    user = linked(sandbox)
    response = submit(client, user, **{field: value})
    assert response.status_code == 200
    assert field in response.context["adminform"].form.errors
    assert b"<script>alert" not in response.content
    assert sandbox.requests() == []
    assert_unchanged(sandbox, user)


def test_spelling_of_old_rows_is_no_change(client, sandbox):
    user = linked(sandbox, email="mary@example.com")
    change_here(user, name="Mary Ann  Smith", email="Mary@Example.com")
    user.refresh_from_db()
    group = BuilderGroupFactory()
    assert submit(client, user, builder_group=group.pk).status_code == 302
    assert stored(user).builder_group == group
    assert sandbox.requests() == []


def test_a_group_with_users_stays_and_the_page_says_why(client, sandbox):
    group = BuilderGroupFactory()
    user = BuilderUserFactory(builder_group=group)
    page = reverse("admin:users_buildergroup_delete", args=[group.pk])
    response = client.post(page, {"post": "yes"})
    assert response.status_code == 200
    assert user.name in response.content.decode()
    assert BuilderGroup.objects.filter(pk=group.pk).exists()
