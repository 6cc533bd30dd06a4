"""Migration 0007 on a database that the version before has filled."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from sandbox import Sandbox
from tests.support.databases import connect, connected_to, copy_of, made_once
from tests.support.events import arrive, happened
from tests.support.flush import empty
from tests.support.migrations import migrate, migrate_forward
from users.clerk import clerk
from users.models import Agreement, BuilderUser, ClerkAccount, SyncAttempt
from users.slots import shared_pace
from users.sync.inbound.reconcile import reconcile_due
from users.sync.mirror import store
from users.sync.mirror.scan import scan

pytestmark = pytest.mark.django_db(transaction=True)

MADE = datetime(2024, 5, 1, tzinfo=UTC)
SEEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
UPDATED = datetime(2026, 1, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def version_before(django_db_setup, django_db_blocker) -> Iterator[str]:
    """A database as that version leaves it, to be copied."""
    with django_db_blocker.unblock(), made_once("version_before", make_version_before) as name:
        yield name


def make_version_before(name: str) -> None:
    with connect(connection.settings_dict["USER"], "postgres") as server:
        server.execute(f"CREATE DATABASE {name}")
    with connected_to(name):
        call_command("migrate", verbosity=0)
        empty("default")
        migrate([("users", "0006_unknown_outcomes")])


@pytest.fixture(autouse=True)
def _on_version_before(version_before: str, transactional_db) -> Iterator[None]:
    name = f"migrated_{uuid.uuid4().hex[:8]}"
    owner = connection.settings_dict["USER"]
    with copy_of(version_before, name, owner=owner), connected_to(name):
        yield


# --- What the version before has stored -----------------------------------------------------------


def insert(table: str, **columns: Any) -> None:
    values = [json.dumps(value) if isinstance(value, list | dict) else value
              for value in columns.values()]  # fmt: skip
    places = ", ".join(["%s"] * len(values))
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", values)


def row(email: str, *, clerk_id: str | None = None, name: str = "Mary Ann Smith", **columns) -> Any:
    """A row of the table, as the version before or another application wrote it."""
    pk = uuid.uuid4()
    insert(
        "users",
        **{"id": pk, "clerk_id": clerk_id, "name": name, "email": email, "role": "BUILDER"}
        | {"created_at": MADE, "updated_at": MADE}
        | columns,
    )
    return pk


def account(clerk_id: str, email: str = "", *, user: Any = None, **columns: Any) -> None:
    """What the version before knew of a Clerk account."""
    known = {"first_name": "Mary Ann", "last_name": "Smith", "email_verified": bool(email)}
    known |= {"clerk_created_at": MADE, "clerk_updated_at": UPDATED, "seen_at": SEEN}
    known |= dict.fromkeys(["image_url", "note"], "") | {"providers": [], "ban_due": False}
    flags = ["banned", "locked", "two_factor_enabled", "password_enabled"]
    known |= dict.fromkeys(flags, False) | columns
    insert("users_clerkaccount", clerk_id=clerk_id, user_id=user, email=email, **known)


def in_clerk(sandbox: Sandbox, email: str, **fields: Any) -> str:
    names = {"first_name": "Mary Ann", "last_name": "Smith"}
    user = sandbox.add_user(email=email, **names | fields)
    return str(user["id"])


def linked_before(
    sandbox: Sandbox, email: str, *, name: str = "Mary Ann Smith", account_email: str = "", **known
) -> uuid.UUID:
    """A row and its account, which lives in Clerk."""
    address = account_email or email
    names = {key: known[key] for key in ("first_name", "last_name") if key in known}
    clerk_id = in_clerk(sandbox, address, **names)
    pk = row(email, clerk_id=clerk_id, name=name)
    account(clerk_id, address, user=pk, **known)
    return pk


def deleted_before(email: str, *, deleted_at: datetime = SEEN) -> uuid.UUID:
    """A row whose account is stored as deleted, and is not in Clerk."""
    clerk_id = f"user_gone_{uuid.uuid4().hex}"
    pk = row(email, clerk_id=clerk_id)
    account(clerk_id, email, user=pk, deleted_at=deleted_at)
    return pk


def table(name: str, order: str = "id") -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {name} ORDER BY {order}")
        return cursor.fetchall()


def links() -> tuple[set[Any], set[Any]]:
    """The links as both tables have them."""
    return (
        set(BuilderUser.objects.values_list("pk", "clerk_id")),
        set(ClerkAccount.objects.exclude(user=None).values_list("user_id", "pk")),
    )


def look_at_all() -> None:
    """Scan, and decide about every account again."""
    scan(clerk().paced(shared_pace(1000)))
    reconcile_all()


def reconcile_all() -> None:
    ClerkAccount.objects.update(reconcile_due=True)
    reconcile_due()
    assert not ClerkAccount.objects.filter(reconcile_due=True).exists()


def account_of(pk: uuid.UUID) -> ClerkAccount:
    return ClerkAccount.objects.get(user=pk)


# --- The migration --------------------------------------------------------------------------------


def test_it_changes_no_row_and_moves_no_link(sandbox):
    pks = [
        linked_before(sandbox, "mary@example.com"),
        linked_before(sandbox, "Jane@Example.com", account_email="jane@example.com"),
        linked_before(sandbox, "old@example.com", account_email="new@example.com"),
        deleted_before("gone@example.com"),
        row("nobody@example.com"),
        row("placeholder@example.com", clerk_id="placeholder_1"),
        row("unseen@example.com", clerk_id="user_never_seen"),
    ]
    rows, groups = table("users"), table("builder_groups")
    with connection.cursor() as cursor:
        cursor.execute("SELECT user_id, clerk_id FROM users_clerkaccount WHERE user_id IS NOT NULL")
        linked_accounts = set(cursor.fetchall())
    migrate_forward()
    assert (table("users"), table("builder_groups")) == (rows, groups)
    assert links()[1] == linked_accounts
    assert set(Agreement.objects.values_list("pk", flat=True)) == set(pks)
    assert not SyncAttempt.objects.exists()


def test_links_are_inherited_decisions_of_the_newest_time_that_is_known(sandbox):
    plain = linked_before(sandbox, "plain@example.com")
    invited = linked_before(sandbox, "invited@example.com")
    by_staff = linked_before(sandbox, "staff@example.com")
    unlinked = row("nobody@example.com")
    invalid = row("placeholder@example.com", clerk_id="user_2Ab\n")
    for number, (status, sent_at) in enumerate(
        [("accepted", MADE + timedelta(days=40)), ("revoked", MADE + timedelta(days=90))]
    ):
        insert(
            "users_invitation",
            **{"user_id": invited, "purpose": "new_account", "email": "invited@example.com"}
            | {"clerk_invitation_id": f"inv_{number}", "status": status, "sent_at": sent_at}
            | {"reference": uuid.uuid4(), "created_at": sent_at, "updated_at": sent_at},
        )
    for days, source in ((50, "admin"), (60, "webhook")):
        at = MADE + timedelta(days=days)
        insert(
            "users_syncattempt",
            **{"user_id": by_staff, "label": "", "clerk_id": "", "operation": "link"}
            | {"source": source, "changes": {}, "details": {}, "status": "applied"}
            | {"error_code": "", "message": "", "trace_id": "", "started_at": at, "settled_at": at},
        )
    migrate_forward()
    known = {
        agreement.pk: (agreement.linked_by, agreement.linked_since, agreement.clerk_id)
        for agreement in Agreement.objects.all()
    }
    ids = dict(BuilderUser.objects.values_list("pk", "clerk_id"))
    assert known == {
        plain: ("inherited", MADE, ids[plain]),
        invited: ("inherited", MADE + timedelta(days=40), ids[invited]),
        by_staff: ("inherited", MADE + timedelta(days=50), ids[by_staff]),
        unlinked: ("", MADE, None),
        invalid: ("", MADE, None),
    }
    assert not Agreement.objects.exclude(linked_at=None).exists()
    assert not Agreement.objects.exclude(own_email_since=MADE).exists()


def test_row_and_account_agree_on_what_is_equal_in_both(sandbox):
    equal = linked_before(sandbox, "mary@example.com")
    spelled = linked_before(
        sandbox, " Jose@Example.com\t", name="  Jose\u0301 \u00a0Roe",
        account_email="jose@example.com", first_name="José", last_name="Roe",
    )  # fmt: skip
    differing = linked_before(
        sandbox, "old@example.com", name="Old Name", account_email="new@example.com"
    )
    nameless = linked_before(sandbox, "ann@example.com", first_name="", last_name="")
    migrate_forward()
    agreed = {
        agreement.pk: (agreement.name, agreement.email) for agreement in Agreement.objects.all()
    }
    rows = dict.fromkeys([equal, spelled, differing, nameless])
    for user in BuilderUser.objects.all():
        rows[user.pk] = (user.name, user.email)
    assert agreed == {
        equal: rows[equal],
        spelled: rows[spelled],
        differing: (None, None),
        nameless: (None, "ann@example.com"),
    }
    own = dict(Agreement.objects.values_list("pk", "own_email"))
    assert (own[spelled], own[differing]) == ("jose@example.com", "old@example.com")
    for pk in (equal, spelled):
        agreement, known = Agreement.objects.get(pk=pk), account_of(pk)
        assert agreement.name_version == known.known_name_version == known.version != ""
        assert agreement.email_version == known.known_email_version == known.version


def test_addresses_start_with_the_verified_primary_one(sandbox):
    verified = linked_before(sandbox, "Mary@Example.com")
    unverified = linked_before(sandbox, "ann@example.com", email_verified=False)
    none = row("bob@example.com", clerk_id="user_by_phone")
    account("user_by_phone", user=none)
    migrate_forward()
    known = store.of_record(account_of(verified))
    assert known.addresses == {"mary@example.com": (UPDATED, SEEN)}
    assert (known.name.value, known.email.value) == ("Mary Ann Smith", "mary@example.com")
    assert account_of(unverified).addresses == account_of(none).addresses == {}
    assert account_of(none).known_email_version == ""


def test_a_stored_deletion_becomes_not_confirmed(sandbox):
    gone = deleted_before("gone@example.com")
    account("user_told_deleted", clerk_created_at=None, clerk_updated_at=None, deleted_at=SEEN)
    living = linked_before(sandbox, "mary@example.com")
    migrate_forward()
    assert not ClerkAccount.objects.exclude(deleted_at=None).exists()
    assert account_of(gone).not_found_at == SEEN
    never_seen = ClerkAccount.objects.get(pk="user_told_deleted")
    assert (never_seen.not_found_at, never_seen.version) == (SEEN, "")
    assert account_of(living).not_found_at is None


# --- What follows ---------------------------------------------------------------------------------


def test_a_scan_after_it_moves_no_link_and_changes_no_row(sandbox):
    linked_before(sandbox, "mary@example.com")
    linked_before(sandbox, "Jane@Example.com", name="Mary  Ann Smith ")
    linked_before(sandbox, "old@example.com", name="Old Name", account_email="new@example.com")
    linked_before(sandbox, "taken@example.com", account_email="moved@example.com")
    account(in_clerk(sandbox, "taken@example.com"), "taken@example.com")
    deleted_before("gone@example.com")
    row("nobody@example.com")
    row("unverified@example.com")
    account(
        in_clerk(sandbox, "unverified@example.com", verified=False),
        "unverified@example.com",
        email_verified=False,
    )
    rows = table("users")
    migrate_forward()
    before = links()
    reconcile_all()
    assert (links(), table("users")) == (before, rows)
    look_at_all()
    assert (links(), table("users")) == (before, rows)
    # Of the accounts alone is recorded what Clerk shows since.
    recorded = {name for attempt in SyncAttempt.objects.all() for name in attempt.changes}
    assert recorded == {"image_url", "deleted in Clerk"}
    assert not LogEntry.objects.exists()


def test_what_was_deleted_is_asked_again(sandbox):
    gone = deleted_before("gone@example.com")
    alive = linked_before(sandbox, "alive@example.com", deleted_at=SEEN)
    linked_before(sandbox, "mary@example.com")
    migrate_forward()
    look_at_all()
    assert account_of(gone).deleted_at > SEEN
    answered = account_of(alive)
    assert (answered.deleted_at, answered.not_found_at) == (None, None)
    assert answered.answered_at is not None


def test_nobody_gets_an_account_that_is_not_confirmed(sandbox):
    """It may be deleted, as the version before has stored."""
    waiting, found = row("gone@example.com"), row("alive@example.com")
    account("user_gone", "gone@example.com", deleted_at=SEEN)
    alive = in_clerk(sandbox, "alive@example.com")
    account(alive, "alive@example.com", deleted_at=SEEN)
    linked_before(sandbox, "mary@example.com")
    migrate_forward()
    reconcile_all()
    assert not BuilderUser.objects.filter(pk__in=[waiting, found]).linked().exists()
    assert "did not find it" in ClerkAccount.objects.get(pk="user_gone").note
    look_at_all()
    assert BuilderUser.objects.get(pk=found).clerk_id == alive
    assert BuilderUser.objects.get(pk=waiting).clerk_id is None
    assert ClerkAccount.objects.get(pk="user_gone").deleted_at is not None


def test_many_stored_deletions_stop_no_scan(sandbox):
    """Clerk does not have them, and nobody is surprised."""
    gone = [deleted_before(f"gone{number}@example.com") for number in range(120)]
    linked_before(sandbox, "mary@example.com")
    migrate_forward()
    look_at_all()
    assert ClerkAccount.objects.filter(user__in=gone, deleted_at__isnull=False).count() == 120


@pytest.mark.parametrize(("role", "moves"), [("BUILDER", True), ("ADMIN", False)])
def test_a_confirmed_deletion_frees_a_row_but_not_an_administrators(sandbox, role, moves):
    pk = deleted_before("mary@example.com")
    other = in_clerk(sandbox, "mary@example.com")
    account(other, "mary@example.com")
    migrate_forward()
    BuilderUser.objects.filter(pk=pk).update(role=role)
    before = BuilderUser.objects.get(pk=pk).clerk_id
    reconcile_all()
    assert BuilderUser.objects.get(pk=pk).clerk_id == before
    look_at_all()
    assert BuilderUser.objects.get(pk=pk).clerk_id == (other if moves else before)


@pytest.mark.parametrize("updated_at", [UPDATED, timezone.now() + timedelta(days=3650), None])
def test_a_row_follows_what_happens_in_clerk_next(sandbox, updated_at):
    pk = linked_before(
        sandbox, "Mary@Example.com", name="Mary  Ann Smith", clerk_updated_at=updated_at
    )
    happened(sandbox)
    migrate_forward()
    sandbox.edit(BuilderUser.objects.get(pk=pk).clerk_id, last_name="Jones")
    arrive(sandbox)
    assert BuilderUser.objects.get(pk=pk).name == "Mary Ann Jones"
