"""The stories of form, command and webhook on the live tables of the other application."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.contenttypes.models import ContentType

from tests.support.adopted import AWKWARD, SCHEMA, Original, copy_of_adopted, working_on
from tests.support.bulk_pages import plan, press
from tests.support.change_form import in_clerk, page_of, stored, submit, text_of
from tests.support.events import arrive
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, linked
from tests.support.html_form import fields_of
from tests.support.workers import work
from tests.test_bulk_push_pull_link import (
    test_link_gives_the_account_that_is_certainly_theirs,  # noqa: F401
    test_pull_brings_the_row_to_clerk,  # noqa: F401
    test_push_brings_clerk_to_the_row,  # noqa: F401
)
from tests.test_change_form import TestSaved, TestTwoPeople  # noqa: F401
from tests.test_invitations import TestTheStateOfAPersonWithoutAnAccount  # noqa: F401
from tests.test_pgbouncer import (
    pgbouncer,  # noqa: F401
    test_a_save_a_list_and_a_recovery,  # noqa: F401
)
from tests.test_update_users import (
    test_a_line_brings_its_user_to_what_it_says_on_both_sides,  # noqa: F401
    update,  # noqa: F401
)
from tests.test_webhooks import TestOnce, event  # noqa: F401
from users.models import Agreement, BuilderUser, ClerkAccount, Invitation, SyncAttempt
from users.sync import maintenance
from users.sync.inbound.reconcile import reconcile_written_elsewhere

pytestmark = pytest.mark.django_db(transaction=True)

KEPT = ("django_migrations", "django_content_type", "auth_permission")
TABLES = """
SELECT string_agg(format('%%I.%%I', schemaname, tablename), ', ') FROM pg_tables
WHERE schemaname IN ('public', %s) AND tablename <> ALL(%s)
"""
LIST = "/admin/users/builderuser/"


@pytest.fixture(scope="module")
def adopted(adopted_template: str, django_db_blocker) -> Iterator[Original]:
    """An adopted database without rows."""
    with django_db_blocker.unblock(), copy_of_adopted(adopted_template) as database:
        empty(database)
        yield database


def empty(database: Original) -> None:
    with database.everything() as server:
        [tables] = server.execute(TABLES, [SCHEMA, list(KEPT)]).fetchone()
        server.execute(f"TRUNCATE {tables} CASCADE")


@pytest.fixture(autouse=True)
def on_adopted_tables(adopted: Original, transactional_db) -> Iterator[Original]:
    """Django's connections go to the adopted database, as the role of the application."""
    try:
        with working_on(adopted):
            ContentType.objects.get_for_model(BuilderUser)  # a story counts its own statements
            yield adopted
    finally:
        empty(adopted)


def test_every_awkward_row_can_be_opened_and_its_group_changed(client, sandbox, on_adopted_tables):
    with on_adopted_tables.react() as react:
        react.execute(AWKWARD.replace("%(rows)s", "99").replace("n = 7 THEN ''", "n = 7 THEN NULL"))
        before = react.execute(
            "SELECT id, to_jsonb(users) - 'updated_at' - 'builder_group_id' FROM users ORDER BY id"
        ).fetchall()
    group = BuilderGroupFactory()
    for user in BuilderUser.objects.all():
        opened = client.get(page_of(user))
        assert opened.status_code == 200
        sent = fields_of(opened) | {"builder_group": str(group.pk)}
        response = client.post(page_of(user), sent)
        assert response.status_code == 302, response.context["adminform"].form.errors
    with on_adopted_tables.react() as react:
        after = react.execute(
            "SELECT id, to_jsonb(users) - 'updated_at' - 'builder_group_id' FROM users ORDER BY id"
        ).fetchall()
    assert after == before
    assert not BuilderUser.objects.exclude(builder_group=group).exists()
    assert sandbox.requests() == []


def test_the_list_shows_and_filters_a_missing_role(client, sandbox, on_adopted_tables):
    BuilderUserFactory(name="Ann Admin", role="ADMIN")
    with on_adopted_tables.react() as react:
        react.execute("INSERT INTO users (name, email, role) VALUES ('Nora None', 'n@x.y', NULL)")
    every, none, admins, unknown = (
        text_of(client.get(f"{LIST}{query}"))
        for query in ("", "?role=none", "?role=ADMIN", "?role=AUDITOR")
    )
    assert '<td class="field-shown_role">none</td>' in every
    assert "Nora None" in none
    assert "Ann Admin" not in none
    assert "Ann Admin" in admins
    assert "Nora None" not in admins
    assert (
        "Ann Admin" in unknown
    )  # what no filter offers selects nothing, and never reaches the enum
    for order in range(1, 8):
        assert client.get(f"{LIST}?o=-{order}").status_code == 200


def test_the_list_is_searched_by_parts_of_words(client, sandbox, on_adopted_tables):
    with on_adopted_tables.react() as react:
        react.execute("INSERT INTO users (name, email) VALUES ('Nora Cantrell', 'n@x.y')")
    BuilderUserFactory(name="Ann Admin")
    found = text_of(client.get(f"{LIST}?q=antrel"))
    assert "Nora Cantrell" in found
    assert "Ann Admin" not in found


def test_times_are_utc_whichever_type_the_column_has(client, sandbox, on_adopted_tables):
    user = BuilderUserFactory()
    with on_adopted_tables.react() as react:
        react.execute("UPDATE users SET created_at = '2025-06-01 23:30', updated_at = created_at")
    loaded = stored(user)
    assert loaded.created_at.isoformat() == "2025-06-01T23:30:00+00:00"
    later = loaded.created_at.replace(minute=31)
    assert BuilderUser.objects.filter(created_at__lt=later).exists()
    assert not BuilderUser.objects.filter(created_at__gte=later).exists()
    assert BuilderUser.objects.filter(created_at=loaded.created_at).exists()
    BuilderUser.objects.filter(pk=user.pk).update(created_at=later)
    assert stored(user).created_at == later


def test_a_user_of_homeowners_and_appointments_is_not_deleted_and_clerk_is_not_asked(
    client, sandbox, settings, on_adopted_tables
):
    settings.CLERK_SCAN_AT = None
    user = linked(sandbox)
    with on_adopted_tables.react() as react:
        react.execute(
            "INSERT INTO homeowners (name, builder_user_id) VALUES ('One', %s), ('Two', %s)",
            [user.pk, user.pk],
        )
        react.execute("INSERT INTO appointments (created_by_id) VALUES (%s)", [user.pk])
    page = f"{page_of(user).removesuffix('change/')}delete/"
    assert "1 appointment and 2 homeowners" in text_of(client.get(page))
    client.post(page, {"post": "yes"})
    run = plan(client, [user], action="delete")
    press(client, run, "begin", count="1")
    work()
    assert "The other application still has 1 appointment and 2 homeowners of this user" in text_of(
        client.get(run)
    )
    assert stored(user)
    assert sandbox.user(user.clerk_id)
    assert not [one for one in sandbox.requests() if "DELETE" in str(one)]
    with on_adopted_tables.react() as react:
        react.execute("DELETE FROM homeowners")
        react.execute("DELETE FROM appointments")
    client.post(page, {"post": "yes"})
    assert not BuilderUser.objects.exists()


def test_without_the_unique_index_a_second_email_is_still_refused(
    client, sandbox, on_adopted_tables
):
    BuilderUserFactory(email="mary@example.com")
    other = BuilderUserFactory()
    with on_adopted_tables.react() as react:
        react.execute("DROP INDEX users_email_lower_unique")
        react.execute("ALTER TABLE users DROP CONSTRAINT users_email_unique")
        try:
            refused = submit(client, other, email="Mary@Example.com")
        finally:
            react.execute("CREATE UNIQUE INDEX users_email_lower_unique ON users (lower(email))")
            react.execute("ALTER TABLE users ADD CONSTRAINT users_email_unique UNIQUE (email)")
    assert "Another builder user has this email" in text_of(refused)
    assert stored(other).email == other.email


def test_the_other_application_deletes_a_user_and_the_worker_tidies(
    client, sandbox, on_adopted_tables
):
    user = linked(sandbox)
    submit(client, user, name="Mary Ann Jones")
    Invitation.objects.create(user=user, email="new@example.com", purpose="email_change")
    with on_adopted_tables.react() as react:
        react.execute("DELETE FROM users WHERE id = %s", [user.pk])
    assert client.get(LIST).status_code == 200
    maintenance.run()
    assert not Agreement.objects.exists()
    assert ClerkAccount.objects.get().user_id is None
    assert SyncAttempt.objects.get().user_id is None
    maintenance.run()
    assert not Invitation.objects.exists()
    assert client.get("/admin/users/syncattempt/").status_code == 200


def test_an_event_reaches_a_row_of_the_other_application(sandbox, on_adopted_tables):
    account = sandbox.add_user(email="n@example.com", first_name="Nora", last_name="None")
    with on_adopted_tables.react() as react:
        react.execute(
            "INSERT INTO users (name, email, clerk_id, created_at) VALUES (%s, %s, %s, NULL)",
            ["Nora None", "n@example.com", account["id"]],
        )
    for last_name in ("None", "Jones"):  # the first one is what both agree on
        sandbox.edit(account["id"], last_name=last_name)
        arrive(sandbox)
    assert BuilderUser.objects.get().name == "Nora Jones"


def test_the_worker_derives_each_row_that_the_other_application_wrote_once(
    sandbox, on_adopted_tables
):
    user = linked(sandbox)
    maintenance.run()
    with on_adopted_tables.react() as react:
        react.execute(AWKWARD.replace("%(rows)s", "40").replace("n = 7 THEN ''", "n = 7 THEN NULL"))
        react.execute("UPDATE users SET name = 'Mary Ann Jones' WHERE id = %s", [user.pk])
    maintenance.run()
    assert Agreement.objects.get(pk=user.pk).own_name == "Mary Ann Jones"
    assert Agreement.objects.count() == 41
    assert reconcile_written_elsewhere() == 0
    assert in_clerk(sandbox, user) == ("Mary Ann", "Smith")
