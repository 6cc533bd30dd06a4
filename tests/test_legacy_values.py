"""Rows that another application wrote, with values that no form here would store: an edit of one
field leaves the others as they are, on both sides."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection

from tests.support.change_form import in_clerk, page_of, said, text_of
from tests.support.commands import run
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, linked
from tests.support.html_form import fields_of
from users.models import BuilderUser, ClerkAccount, SyncAttempt
from users.sync.mirror import comparison

pytestmark = pytest.mark.django_db(transaction=True)

GONE = str(uuid.UUID(int=7))
LONG = "Mary " + "x" * 594

CONSTRAINTS = """
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = 'users'::regclass AND contype = 'f'
"""


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@pytest.fixture
def legacy_table(transactional_db):
    """The table as the application that this one replaces made it: no limits, no foreign key."""
    with connection.cursor() as cursor:
        cursor.execute(CONSTRAINTS)
        foreign_keys = cursor.fetchall()
    execute(
        *(f"ALTER TABLE users DROP CONSTRAINT {name}" for name, _ in foreign_keys),
        "ALTER TABLE users ALTER name TYPE text, ALTER role DROP NOT NULL",
    )
    yield
    execute(
        "TRUNCATE users CASCADE",
        "ALTER TABLE users ALTER name TYPE varchar(200), ALTER role SET NOT NULL",
        *(f"ALTER TABLE users ADD CONSTRAINT {name} {body}" for name, body in foreign_keys),
    )


def legacy(user: BuilderUser, **values: object) -> BuilderUser:
    """Write `values` as the other application does: as they are."""
    columns = ", ".join(f"{column} = %s" for column in values)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE users SET {columns} WHERE id = %s", [*values.values(), user.pk])
    return user


def row_of(user):
    return BuilderUser.objects.values(
        "name", "email", "role", "internal_role", "builder_group_id"
    ).get(pk=user.pk)


def edit(client, user, **typed):
    """Open the form, type over some fields, save."""
    opened = client.get(page_of(user))
    return client.post(page_of(user), fields_of(opened) | typed)


UNKNOWN = {
    "an internal role that is not among ours": {"internal_role": "Supervisor"},
    "another one": {"internal_role": "Back Office"},
    "an internal role of a builder": {"internal_role": "Employee", "role": "BUILDER"},
    "an empty internal role": {"internal_role": ""},
    "a role that is not among ours": {"role": "AUDITOR"},
    "a role in small letters": {"role": "admin"},
    "an empty role": {"role": ""},
    "no role": {"role": None},
    "a group that was deleted": {"builder_group_id": GONE},
    "a long name": {"name": LONG},
    "a tab in the name": {"name": "Mary\tAnn Smith"},
    "a line break in the name": {"name": "Mary\nAnn\r\nSmith"},
    "spaces around the name": {"name": "  Mary Ann Smith "},
    "markup in the name": {"name": "<b>Mary</b>"},
    "an empty name": {"name": ""},
    "no email": {"email": ""},
    "an email that is no address": {"email": "ask the office"},
    "an email in capitals": {"email": " Mary@Example.COM"},
    "an email with a domain that is not ASCII": {"email": "mary@bücher.example"},
}


@pytest.mark.parametrize("values", UNKNOWN.values(), ids=UNKNOWN)
class TestUnknownValues:
    def test_an_edit_of_another_field_leaves_the_value_as_it_is(
        self, client, sandbox, legacy_table, values
    ):
        user = legacy(linked(sandbox), **values)
        before = row_of(user)
        if "builder_group_id" in values:
            field, value = "internal_role", ""
            legacy(user, internal_role="Employee", role="ADMIN")
            before |= {"internal_role": None, "role": "ADMIN"}
        else:
            group = BuilderGroupFactory()
            field, value = "builder_group", str(group.pk)
            before |= {"builder_group_id": group.pk}

        response = edit(client, user, **{field: value})

        assert response.status_code == 302, response.context["adminform"].form.errors
        assert row_of(user) == before
        assert in_clerk(sandbox, user) == ("Mary Ann", "Smith")
        assert sandbox.requests() == []
        assert set(SyncAttempt.objects.get().changes) == {field}

    def test_saving_an_untouched_form_changes_nothing(self, client, sandbox, legacy_table, values):
        user = legacy(linked(sandbox), **values)
        before = BuilderUser.objects.values().get(pk=user.pk)
        response = edit(client, user)
        [words] = said(response)
        account = ClerkAccount.objects.get(pk=user.clerk_id)
        differs = comparison.name_differs(before["name"], "Mary Ann Smith") or (
            comparison.email_differs(before["email"], account.email)
        )
        assert ("But Clerk still has the " in words) == differs
        assert BuilderUser.objects.values().get(pk=user.pk) == before
        assert sandbox.requests() == []
        assert not SyncAttempt.objects.exists()

    def test_a_refusal_at_another_field_keeps_the_value(
        self, client, sandbox, legacy_table, values
    ):
        """The page that shows the refusal is saved again, with the mistake corrected."""
        field, wrong, right = ("email", "nobody", "bob@example.com")
        if "email" in values:
            field, wrong, right = ("name", "<Bob>", "Bob")
        user = legacy(BuilderUserFactory(), **values)
        before = row_of(user)
        refused = edit(client, user, **{field: wrong})
        assert field in refused.context["adminform"].form.errors
        assert len(refused.context["adminform"].form.errors) == 1
        response = client.post(page_of(user), fields_of(refused) | {field: right})
        assert response.status_code == 302, response.context["adminform"].form.errors
        assert row_of(user) == before | {field: right}

    def test_a_name_typed_over_reaches_clerk_alone(self, client, sandbox, legacy_table, values):
        user = legacy(linked(sandbox), **values)
        before = row_of(user)
        assert edit(client, user, name="Mary Ann Jones").status_code == 302
        assert row_of(user) == before | {"name": "Mary Ann Jones"}
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")


@pytest.mark.parametrize("values", UNKNOWN.values(), ids=UNKNOWN)
def test_a_browser_sends_the_value_back_untouched(page, sandbox, legacy_table, values):
    user = legacy(linked(sandbox), **values)
    before = BuilderUser.objects.values().get(pk=user.pk)
    page.goto(page_of(user))
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_text("nothing had to be saved").wait_for()
    assert BuilderUser.objects.values().get(pk=user.pk) == before
    assert sandbox.requests() == []


def test_an_unknown_value_is_offered_beside_the_choices(client, sandbox, legacy_table):
    user = legacy(linked(sandbox), internal_role="Supervisor", role=None, builder_group_id=GONE)
    page = text_of(client.get(page_of(user)))
    assert '<option value="Supervisor" selected>Supervisor</option>' in page
    assert '<option value="" selected>none</option>' in page
    assert f'<option value="{GONE}" selected>A group that was deleted</option>' in page


def test_an_unknown_value_can_be_replaced(client, sandbox, legacy_table):
    user = legacy(linked(sandbox), internal_role="Supervisor", role="", builder_group_id=GONE)
    edit(client, user, internal_role="", role="BUILDER", builder_group="")
    assert row_of(user) == {
        "name": "Mary Ann Smith",
        "email": user.email,
        "role": "BUILDER",
        "internal_role": None,
        "builder_group_id": None,
    }


def test_another_role_asks_again_about_the_internal_role(client, sandbox, legacy_table):
    user = legacy(linked(sandbox), internal_role="Supervisor", role="ADMIN")
    response = edit(client, user, role="BUILDER")
    assert response.context["adminform"].form.errors == {
        "internal_role": ["Only users with the role Admin have an internal role."]
    }
    assert row_of(user)["role"] == "ADMIN"
    assert fields_of(response)["internal_role"] == "Supervisor"


def test_an_unknown_value_of_somebody_else_is_not_accepted(client, sandbox):
    user = linked(sandbox, role="ADMIN")
    response = edit(client, user, internal_role="Supervisor")
    assert "internal_role" in response.context["adminform"].form.errors
    assert row_of(user)["internal_role"] is None


def test_a_spreadsheet_leaves_such_values_as_they_are_too(sandbox, legacy_table, tmp_path):
    user = legacy(
        linked(sandbox), name=LONG, internal_role="Supervisor", role="AUDITOR",
        builder_group_id=GONE,
    )  # fmt: skip
    group, before = BuilderGroupFactory(), row_of(user)
    file = tmp_path / "users.csv"
    head = "id,name,email,role,internal_role,builder_group\n"
    file.write_text(f"{head}{user.pk},{LONG},{user.email},AUDITOR,Supervisor,{group.pk}\n")
    run("update_users", str(file), "--no-refresh", "--apply")
    assert row_of(user) == before | {"builder_group_id": group.pk}
    file.write_text(f"{head}{user.pk},{LONG},{user.email},AUDITOR,Supervisor,{group.pk}\n")
    run("update_users", str(file), "--no-refresh", "--apply")
    assert SyncAttempt.objects.count() == 1
    assert sandbox.requests() == []
