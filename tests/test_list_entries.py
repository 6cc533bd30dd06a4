"""What the list of users stores to search, sort and filter by: it follows whoever writes."""

from __future__ import annotations

import csv
import io
import threading
from datetime import timedelta
from itertools import product

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.support.change_form import text_of
from tests.support.commands import run
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    SyncAttemptFactory,
    delete_here,
    linked,
)
from users.models import BuilderUser, ClerkAccount, Invitation, ListDue, ListEntry, SyncAttempt
from users.sync import maintenance
from users.sync.mirror import comparison, listing

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/users/builderuser/"


def emails(client, **query) -> list[str]:
    """The emails on the first page of the list, in their order."""
    return [user.email for user in client.get(LIST, query).context["cl"].result_list]


def state(user) -> str:
    return ListEntry.objects.get(pk=user.pk).state


@pytest.mark.parametrize(
    "words", ["wladyslaw", "WŁADYSŁAW", "ladys", "kowal wlad", "w", "oak hill", "kowalski@exam"]
)
def test_the_search_ignores_accents_and_case_and_finds_parts(client, words):
    group = BuilderGroupFactory(name="Öak Hill Homes")
    BuilderUserFactory(name="Władysław Kowalski", email="kowalski@example.com", builder_group=group)
    BuilderUserFactory(name="Bob", email="bob@other.example")

    assert emails(client, q=words) == ["kowalski@example.com"]


@pytest.mark.parametrize("words", ["%", "_", "\\", "bob alice", "user_1", "\0"])
def test_a_search_for_signs_of_patterns_finds_only_these(client, words):
    BuilderUserFactory(name="Bob")

    found = emails(client, q=words)

    assert found == [] or words == "\0"


def test_the_search_finds_a_clerk_id_and_a_part_of_it(client, sandbox):
    user = linked(sandbox, email="one@example.com")
    linked(sandbox, email="two@example.com")

    assert emails(client, q=user.clerk_id) == ["one@example.com"]
    assert emails(client, q=user.clerk_id[5:].lower()) == ["one@example.com"]


@pytest.fixture
def without_trigrams():
    """A database whose owner may not create the extension."""
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX users_listentry_search")
    yield
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE INDEX users_listentry_search ON users_listentry USING gin (search gin_trgm_ops)"
        )


def test_without_trigrams_the_search_finds_beginnings_and_says_so(
    client, sandbox, without_trigrams
):
    group = BuilderGroupFactory(name="Oak Hill Homes")
    user = linked(sandbox, name="Władysław", email="kowal@example.com", builder_group=group)

    for words in ("wlad", "kowal@", "oak", user.clerk_id):
        assert emails(client, q=words) == ["kowal@example.com"]
    assert emails(client, q="adys") == []
    assert "Parts are not found" in text_of(client.get(LIST))


def test_the_state_follows_each_change(sandbox):
    user = linked(sandbox)
    accounts = ClerkAccount.objects.filter(user=user)
    assert state(user) == "in_step"

    accounts.update(last_name="Other")
    assert state(user) == "differs"

    accounts.update(last_name="Smith", banned=True)
    assert state(user) == "banned"

    attempt = SyncAttemptFactory(user=user)
    assert state(user) == "open"

    SyncAttempt.objects.filter(pk=attempt.pk).update(status="applied", settled_at=timezone.now())
    assert state(user) == "banned"

    accounts.update(deleted_at=timezone.now())
    assert state(user) == "deleted"

    accounts.delete()
    assert state(user) == "unseen"


def test_a_row_that_another_application_writes_is_found_and_compared_at_once(client, sandbox):
    user = linked(sandbox, email="old@example.com")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE users SET name = 'Zoë', email = 'new@example.com'")

    assert emails(client, q="zoe new@") == ["new@example.com"]
    assert state(user) == "differs"

    delete_here(user)
    assert not ListEntry.objects.exists()


def test_a_renamed_group_is_found_by_its_new_name(client):
    group = BuilderGroupFactory(name="Oak Hill")
    user = BuilderUserFactory(builder_group=group)
    group.name = "Maple Court"
    group.save()

    assert emails(client, q="maple") == [user.email]
    assert emails(client, q="oak") == []


def test_a_change_does_not_wait_for_an_entry_that_a_save_holds(client, sandbox):
    user = linked(sandbox)

    def ban_there() -> None:
        ClerkAccount.objects.filter(user=user).update(banned=True)
        connection.close()

    with transaction.atomic():
        ListEntry.objects.select_for_update().get(pk=user.pk)
        thread = threading.Thread(target=ban_there)
        thread.start()
        thread.join()
    assert state(user) == "in_step"
    assert "Not checked yet" in _cells(client)

    maintenance.run()

    assert state(user) == "banned"
    assert not ListDue.objects.exists()
    assert "Not checked yet" not in _cells(client)


def test_a_row_that_was_written_without_our_triggers_is_not_checked_yet(client, sandbox):
    user = linked(sandbox)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE users DISABLE TRIGGER USER")
        cursor.execute("UPDATE users SET name = 'Other'")
        cursor.execute("ALTER TABLE users ENABLE TRIGGER USER")
    assert "Not checked yet" in _cells(client)

    listing.refresh_all()

    assert state(user) == "differs"
    assert "Not checked yet" not in _cells(client)


def test_an_invitation_that_was_stored_during_an_upgrade_shows_after_the_nightly_scan():
    user = BuilderUserFactory()
    Invitation.objects.create(user=user, email=user.email)
    ListEntry.objects.update(state="not_linked")  # as the function before the upgrade did

    listing.refresh_all()

    assert state(user) == "invited"


def test_a_row_that_was_added_without_our_triggers_is_found_within_a_minute(client, sandbox):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE users DISABLE TRIGGER USER")
        cursor.execute(
            "INSERT INTO users (name, email, role) VALUES ('Nora New', 'n@x.org', 'BUILDER')"
        )
        cursor.execute("ALTER TABLE users ENABLE TRIGGER USER")
    assert [user.name for user in client.get(LIST, {"q": "nora"}).context["cl"].result_list] == []
    maintenance.run()  # what the worker does each minute
    found = client.get(LIST, {"q": "nora"}).context["cl"].result_list
    assert [user.name for user in found] == ["Nora New"]


def _cells(client) -> str:
    return " ".join(
        str(client.get(LIST).context["cl"].model_admin.clerk(user))
        for user in client.get(LIST).context["cl"].result_list
    )


SPELLINGS = (
    "Mary Smith", "mary smith", "MARY SMITH", " Mary\u3000 Smith\u2009", "\u1680Mary Smith",
    "Zoe\u0301", "Zo\u00e9", "\u212a@example.com", "k@example.com", "", " ",
)  # fmt: skip


def test_the_database_compares_by_the_same_rule():
    for ours, clerks in product(SPELLINGS, SPELLINGS):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT users_name_differs(%s, %s), users_email_differs(%s, %s)",
                [ours, clerks, ours, clerks],
            )
            stored = cursor.fetchone()

        names_differ = comparison.name_differs(ours, clerks)
        emails_differ = comparison.email_differs(ours, clerks)
        assert stored == (names_differ, emails_differ), (ours, clerks)


def test_every_column_sorts_in_both_directions(client, sandbox):
    early, late = timezone.now() - timedelta(days=9), timezone.now()
    one = linked(sandbox, name="Ábel Z", email="z@example.com", role="ADMIN")
    two = linked(sandbox, name="Bob", email="a@example.com", role="BUILDER")
    BuilderUserFactory(name="Cy", email="m@example.com", role="HOMEOWNER")
    ClerkAccount.objects.filter(user=one).update(last_sign_in_at=late)
    ClerkAccount.objects.filter(user=two).update(last_sign_in_at=early)

    assert emails(client, o="1") == ["z@example.com", "a@example.com", "m@example.com"]
    assert emails(client, o="2") == ["a@example.com", "m@example.com", "z@example.com"]
    assert emails(client, o="4")[-1] == "m@example.com"
    assert emails(client, o="-6") == ["z@example.com", "a@example.com", "m@example.com"]
    for column in range(1, 7):
        assert emails(client, o=f"-{column}") == emails(client, o=str(column))[::-1]


def test_what_is_searched_is_sorted_too(client):
    for name in ("Zoe", "Adam", "Mary"):
        BuilderUserFactory(name=name, email=f"{name}@example.com")

    assert emails(client, q="example", o="1") == [
        "Adam@example.com", "Mary@example.com", "Zoe@example.com"
    ]  # fmt: skip
    assert emails(client, q="example", o="-2")[0] == "Zoe@example.com"
    assert emails(client, q="example", o="-6") != []


def test_filters_narrow_the_list_and_chips_remove_them(client, sandbox):
    group = BuilderGroupFactory(name="Oak Hill")
    user = linked(sandbox, email="one@example.com", builder_group=group, role="ADMIN")
    other = BuilderUserFactory(email="two@example.com")
    Invitation.objects.create(user=other, email=other.email, purpose="new_account")
    ClerkAccount.objects.filter(user=user).update(last_sign_in_at=timezone.now())

    for query in (
        {"builder_group__id__exact": str(group.pk)},
        {"role": "ADMIN"},
        {"clerk": "in_step"},
        {"invitation": "none"},
        {"signed_in": "7"},
    ):
        assert emails(client, **query) == ["one@example.com"]
    for query in ({"invitation": "pending"}, {"signed_in": "never"}, {"clerk": "invited"}):
        assert emails(client, **query) == ["two@example.com"]
    for nonsense in ({"builder_group__id__exact": "x"}, {"role": "x"}, {"signed_in": "x"}):
        assert len(emails(client, **nonsense)) == 2

    page = client.get(LIST, {"builder_group__id__exact": str(group.pk), "q": "one"})
    assert [text for text, _ in page.context["cl"].chips] == ["Search: one", "Group: Oak Hill"]
    assert [without for _, without in page.context["cl"].chips] == [
        f"?builder_group__id__exact={group.pk}",
        "?q=one",
    ]


def test_the_count_is_exact_and_then_about(client, monkeypatch):
    for number in range(12):
        BuilderUserFactory(email=f"{number}@example.com")
    assert "12 builder users" in text_of(client.get(LIST))

    monkeypatch.setattr("users.admin.base.EXACT", 10)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")

    assert "about 12 builder users. These pages show the first 10." in text_of(client.get(LIST))


def test_the_export_has_what_the_list_shows_and_can_be_imported_again(client, sandbox, tmp_path):
    groups = [BuilderGroupFactory(name="Oak Hill"), BuilderGroupFactory(name="Same")]
    BuilderGroupFactory(name="same")
    linked(sandbox, name="=HYPERLINK(0)", email="one@example.com", builder_group=groups[0])
    BuilderUserFactory(name="Zoë, the “first”", email="two@example.com", builder_group=groups[1])
    BuilderUserFactory(name="Bob", email="bob@other.example", role="HOMEOWNER")

    answer = client.get(f"{LIST}export/", {"q": "@example.com"})

    content = b"".join(answer.streaming_content)
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert {row["email"] for row in rows} == {"one@example.com", "two@example.com"}
    assert all(not cell.startswith("=") for row in rows for cell in row.values())
    assert {row["sign_in_state"] for row in rows} == {"in_step", "not_linked"}
    file = tmp_path / "export.csv"
    file.write_bytes(content)
    code, said = run("update_users", file, "--no-refresh")
    assert (code, BuilderUser.objects.count()) == (0, 3), said


def test_who_may_not_view_users_may_not_export_them(client, staff):
    staff.is_superuser = False
    staff.save()

    assert client.get(f"{LIST}export/").status_code == 403
