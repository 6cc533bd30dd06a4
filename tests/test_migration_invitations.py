"""Migrations 0024 to 0031 on invitations that were open when the version before was stopped."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.support.change_form import stored
from tests.support.events import arrive
from tests.support.factories import BuilderUserFactory, StaffFactory, linked
from tests.support.migrations import migrate, migrate_forward
from tests.support.personas import staff_who_may
from tests.support.user_list import shown
from users.models import Invitation, ListEntry, Source
from users.sync import maintenance
from users.sync.access import groups
from users.sync.actors import service_user
from users.sync.services import invitations

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_invitation_of_a_command_that_waits_already_is_sent_after_the_upgrade(sandbox):
    user, author = BuilderUserFactory(), service_user()
    migrate([("users", "0023_words_of_runs")])
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO users_invitation (user_id, email, purpose, status, reference,
                    send_after, invited_by_id, created_at, updated_at)
                VALUES (%s, %s, 'new_account', 'waiting', gen_random_uuid(), %s, %s, now(), now())
                """,
                [user.pk, user.email, timezone.now(), author.pk],
            )
    finally:
        migrate_forward()
    maintenance.run()
    assert Invitation.objects.get().status == "pending"
    assert len(sandbox.mails()) == 1


@pytest.mark.parametrize(
    ("author", "role", "given"),
    [
        ("support", "BUILDER", True),
        ("support", "ADMIN", False),
        ("manager", "ADMIN", True),
        ("superuser", "ADMIN", True),
        ("former superuser", "ADMIN", False),
        ("command", "ADMIN", True),
    ],
)
def test_an_invitation_that_is_open_already_links_after_the_upgrade(sandbox, author, role, given):
    groups.apply()
    staff = {
        "support": lambda: staff_who_may("users.invite"),
        "manager": lambda: staff_who_may("users.invite", "users.manage_admins"),
        "superuser": lambda: StaffFactory(is_superuser=True),
        "former superuser": lambda: StaffFactory(is_superuser=True, is_active=False),
        "command": service_user,
    }[author]()
    user = BuilderUserFactory(role=role)
    invitations.invite(user, actor=staff, source=Source.COMMAND)
    migrate([("users", "0025_invitations_that_wait_already")])
    migrate_forward()
    account = sandbox.accept(sandbox.invitations()[0]["id"])
    arrive(sandbox)
    assert stored(user).clerk_id == (account["id"] if given else None)


def test_who_is_invited_already_is_called_so_after_the_upgrade(client, sandbox):
    invited, waiting, free = (BuilderUserFactory() for _ in range(3))
    held = linked(sandbox)
    for user, status in ((invited, "pending"), (waiting, "waiting"), (held, "pending")):
        Invitation.objects.create(user=user, email=user.email, status=status)
    before = dict.fromkeys((invited.email, waiting.email, free.email), "not_linked")
    before[held.email] = "in_step"
    assert shown(client) == before | {invited.email: "invited"}
    migrate([("users", "0030_search_by_clerks_values")])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT DISTINCT state FROM users_listentry")
            assert {state for (state,) in cursor.fetchall()} == {"in_step", "not_linked"}
        Invitation.objects.filter(user=waiting).update(status="pending")
    finally:
        migrate_forward()
    assert shown(client) == before | {invited.email: "invited", waiting.email: "invited"}


def test_the_upgrade_waits_for_no_save_and_its_state_follows(client, sandbox):
    """An entry that a save holds during the migration is refreshed within the next minute."""
    migrate([("users", "0030_search_by_clerks_values")])
    user = BuilderUserFactory()
    Invitation.objects.create(user=user, email=user.email)
    thread = threading.Thread(target=in_its_own_connection, args=[migrate_forward])
    with transaction.atomic():
        ListEntry.objects.select_for_update().get(pk=user.pk)
        thread.start()
        thread.join()
    assert shown(client) == {user.email: "unseen"}
    maintenance.run()
    assert shown(client) == {user.email: "invited"}


def in_its_own_connection(work) -> None:
    try:
        work()
    finally:
        connection.close()
