"""Code that would change or delete a linked user in the database alone is stopped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.management import call_command
from django.db import connection
from django.db.models import F, Value
from django.db.models.functions import Upper
from django.test.utils import CaptureQueriesContext

from tests.support.change_form import page_of, stored, submit
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, linked
from users.errors import BypassesClerk
from users.guard import without_clerk
from users.models import BuilderUser, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)

SAVE_USER = r"users\.sync\.services\.users\.save_user\(\)"


@pytest.fixture
def user(sandbox) -> BuilderUser:
    return linked(sandbox, email="mary@example.com", builder_group=BuilderGroupFactory())


def rows(user: BuilderUser):
    return BuilderUser.objects.filter(pk=user.pk)


def saved(user: BuilderUser, **columns) -> None:
    for column, value in columns.items():
        setattr(user, column, value)
    user.save()


def blank_of(user: BuilderUser) -> BuilderUser:
    """An instance that was never loaded."""
    return BuilderUser(pk=user.pk, name="Bob", email=user.email, clerk_id=user.clerk_id)


def bulk_updated(user: BuilderUser) -> None:
    user.name = "Bob"
    BuilderUser.objects.bulk_update([user], ["name"])


def loaded_from_fixture(user: BuilderUser) -> None:
    user.name = "Bob"
    [loaded] = serializers.deserialize("json", serializers.serialize("json", [user]))
    loaded.save()


def upserted(user: BuilderUser) -> None:
    BuilderUser.objects.bulk_create(
        [blank_of(user)], update_conflicts=True, update_fields=["name"], unique_fields=["pk"]
    )


def awaited(call, **arguments):
    """Await in a thread of its own: Playwright keeps an event loop in the main one."""

    def run():
        try:
            return async_to_sync(call)(**arguments)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(copy_context().run, run).result()


CHANGES = {
    "save": lambda user: saved(user, name="Bob"),
    "save of some columns": lambda user: saved_columns(user, "name"),
    "save of a deferred row": lambda user: saved(rows(user).only("pk").get(), name="Bob"),
    "forced save of a row that was never loaded": lambda user: blank_of(user).save(
        force_update=True
    ),
    "save of an expression": lambda user: saved(user, name=Upper("name")),
    "asave": lambda user: awaited(blank_of(user).asave, force_update=True),
    "update": lambda user: rows(user).update(name="Bob"),
    "update of the email": lambda user: rows(user).update(email="new@example.com"),
    "update of the id": lambda user: rows(user).update(clerk_id="user_other"),
    "update to no id": lambda user: rows(user).update(clerk_id=None),
    "update of all": lambda user: BuilderUser.objects.update(name="Bob"),
    "update by a column": lambda user: rows(user).update(name=F("email")),
    "update by a value": lambda user: rows(user).update(name=Value("Bob")),
    "aupdate": lambda user: awaited(rows(user).aupdate, name="Bob"),
    "update through the group": lambda user: user.builder_group.users.update(name="Bob"),
    "update by the base manager": lambda user: BuilderUser._base_manager.update(name="Bob"),
    "update_or_create": lambda user: BuilderUser.objects.update_or_create(
        pk=user.pk, defaults={"name": "Bob"}
    ),
    "bulk_update": bulk_updated,
    "fixture": loaded_from_fixture,
    "upsert": upserted,
}


def saved_columns(user: BuilderUser, *columns: str) -> None:
    user.name = "Bob"
    user.save(update_fields=columns)


DELETIONS = {
    "delete": lambda user: user.delete(),
    "delete of a row that was never loaded": lambda user: BuilderUser(pk=user.pk).delete(),
    "delete of a query": lambda user: rows(user).delete(),
    "delete of all": lambda user: BuilderUser.objects.all().delete(),
    "adelete": lambda user: awaited(user.adelete),
    "delete through the group": lambda user: user.builder_group.users.all().delete(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_linked_user_is_not_changed_here_alone(user, change):
    before = stored(user)
    with pytest.raises(BypassesClerk, match=r"Call instead: .*users\.guard\.without_clerk\(\)"):
        change(stored(user))
    now = stored(user)
    assert (now.name, now.email, now.clerk_id) == (before.name, before.email, before.clerk_id)
    assert now.updated_at == before.updated_at


@pytest.mark.parametrize("delete", DELETIONS.values(), ids=DELETIONS)
def test_a_linked_user_is_not_deleted_here_alone(user, delete):
    with pytest.raises(BypassesClerk, match=r"users\.sync\.services\.users\.delete_user\(\)"):
        delete(stored(user))
    assert rows(user).exists()


def test_the_error_names_what_changes_and_the_right_call(user):
    with pytest.raises(BypassesClerk, match=rf"^This changes name of .* name: {SAVE_USER}\. If"):
        saved(user, name="Bob", role="ADMIN")


@pytest.mark.parametrize("act", [*CHANGES.values(), *DELETIONS.values()],
                         ids=[*CHANGES, *DELETIONS])  # fmt: skip
def test_without_clerk_it_may(user, act):
    with without_clerk():
        act(stored(user))
    assert not rows(user).filter(name=user.name, email=user.email, clerk_id=user.clerk_id).exists()


@pytest.mark.parametrize("act", [*CHANGES.values(), *DELETIONS.values()],
                         ids=[*CHANGES, *DELETIONS])  # fmt: skip
def test_the_guard_is_back_after_an_error(user, act):
    with pytest.raises(ZeroDivisionError), without_clerk():
        raise ZeroDivisionError
    with pytest.raises(BypassesClerk):
        act(stored(user))


def test_a_user_without_an_account_is_free(sandbox):
    for clerk_id in (None, "placeholder_1"):
        user = BuilderUserFactory(clerk_id=clerk_id)
        saved(user, name="Bob")
        rows(user).update(email="free@example.com", clerk_id=None)
        assert stored(user).name == "Bob"
        user.delete()
    assert not BuilderUser.objects.exists()


def test_other_columns_of_a_linked_user_are_free(user):
    group = BuilderGroupFactory()
    saved(user, role="ADMIN", internal_role="Employee")
    rows(user).update(builder_group=group)
    rows(user).update(name=user.name, role="HOMEOWNER")
    assert (stored(user).role, stored(user).builder_group) == ("HOMEOWNER", group)


def test_inserts_are_free(sandbox, tmp_path):
    BuilderUser.objects.bulk_create(
        [BuilderUser(name="Ann", email="ann@example.com", clerk_id="user_ann")]
    )
    BuilderUser.objects.create(name="Bob", email="bob@example.com", clerk_id="user_bob")
    fixture = tmp_path / "users.json"
    fixture.write_text(serializers.serialize("json", BuilderUser.objects.all()))
    with without_clerk():
        BuilderUser.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert set(BuilderUser.objects.values_list("clerk_id", flat=True)) == {"user_ann", "user_bob"}
    call_command("loaddata", str(fixture), verbosity=0)  # again: nothing changes


def test_the_dual_write_asks_the_database_nothing_more(client, sandbox, user):
    with CaptureQueriesContext(connection) as queries:
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
    assert not [query for query in queries if '"clerk_id"::text ~ ' in query["sql"]]
    assert stored(user).name == "Mary Ann Jones"


class TestUpdatedAt:
    def test_it_moves_at_a_change_by_sql(self, user):
        for name in ("Ann", "Bob"):
            before = stored(user).updated_at
            with connection.cursor() as cursor:
                cursor.execute("UPDATE users SET name = %s WHERE id = %s", [name, user.pk])
            assert stored(user).updated_at > before

    def test_it_moves_at_each_change_of_one_transaction(self, user):
        with connection.cursor() as cursor:
            cursor.execute(
                "BEGIN;"
                "UPDATE users SET name = 'Ann' RETURNING updated_at;"
                "UPDATE users SET name = 'Bob' RETURNING updated_at;"
                "COMMIT"
            )
            cursor.nextset()
            [first] = cursor.fetchone()
            cursor.nextset()
            [second] = cursor.fetchone()
        assert second > first

    def test_it_stays_when_nothing_changes(self, user):
        before = stored(user).updated_at
        with connection.cursor() as cursor:
            cursor.execute("UPDATE users SET name = name, role = 'BUILDER'")
        assert stored(user).updated_at == before

    def test_a_statement_that_sets_it_keeps_its_value(self, user):
        moment = datetime(2020, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
        rows(user).update(role="ADMIN", updated_at=moment)
        assert stored(user).updated_at == moment
        saved(user, role="BUILDER")
        assert stored(user).updated_at == user.updated_at > moment

    def test_it_moves_although_the_clock_of_an_earlier_writer_was_ahead(self, user):
        ahead = datetime(2100, 1, 1, tzinfo=UTC)
        rows(user).update(updated_at=ahead)
        rows(user).update(role="ADMIN")
        assert stored(user).updated_at > ahead

    def test_the_form_stores_what_it_shows(self, client, user):
        submit(client, user, role="ADMIN")
        assert stored(user).updated_at > user.updated_at
        assert client.get(page_of(user)).status_code == 200
        assert SyncAttempt.objects.get().status == "applied"
