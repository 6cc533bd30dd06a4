"""Events that come at the same time as a save, as their own copies, or as one another."""

from __future__ import annotations

import random
import threading

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.urls import reverse

from tests.support.change_form import in_clerk, stored, submit
from tests.support.commands import run
from tests.support.events import arrive, arrive_together, at_once, happened, post
from tests.support.factories import BuilderUserFactory, change_here, linked
from tests.support.interruptions import elsewhere
from tests.support.patience import PATIENCE, wait_until
from users.clerk import ClerkUser
from users.models import Agreement, BuilderUser, ClerkAccount, SyncAttempt, WebhookDelivery
from users.sync import maintenance
from users.sync.bulk import rows
from users.sync.inbound import events, reconcile
from users.sync.mirror import store
from users.sync.outbound import checkpoints

pytestmark = pytest.mark.django_db(transaction=True)


class Halted:
    """A request in another thread that halts at a step of its save until it is released."""

    def __init__(self, step, request):
        self._step, self._request = step, request
        self._there, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            self.response = self._request()
        finally:
            connection.close()

    def _halt(self, sender, step, **kwargs):
        if step == self._step and threading.current_thread() is self._thread:
            self._there.set()
            assert self._go.wait(PATIENCE)

    def __enter__(self):
        checkpoints.reached.connect(self._halt)
        self._thread.start()
        assert self._there.wait(PATIENCE)
        return self

    def go(self):
        self._go.set()
        self._thread.join()

    def __exit__(self, *error):
        self.go()
        checkpoints.reached.disconnect(self._halt)


def delivered_meanwhile(sandbox, halted, event):
    """Post the event while the save halts; once the event waits in the database, let both go."""
    statuses = []

    def deliver():
        try:
            statuses.append(post(sandbox, event).status_code)
        finally:
            connection.close()

    thread = threading.Thread(target=deliver)
    thread.start()
    wait_until(
        lambda: somebody_waits() or not thread.is_alive(), "the event neither ends nor waits"
    )
    halted.go()
    thread.join()
    return statuses


def somebody_waits():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0] > 0


def test_two_copies_of_one_delivery(sandbox):
    user = linked(sandbox)
    happened(sandbox)
    sandbox.edit(user.clerk_id, last_name="Jones", banned=True)
    [event] = happened(sandbox)
    assert at_once(sandbox, [event] * 8) == [200] * 8
    assert stored(user).name == "Mary Ann Jones"
    assert SyncAttempt.objects.count() == 2  # the name, and the ban
    assert LogEntry.objects.count() == 1
    assert WebhookDelivery.objects.get().attempts == 1


def test_the_echo_of_a_save_waits_for_it_and_changes_nothing(client, sandbox):
    user = linked(sandbox)
    happened(sandbox)
    save = Halted(checkpoints.AFTER_CALL, lambda: submit(client, user, name="Mary Ann Jones"))
    with save:
        [echo] = happened(sandbox)
        assert delivered_meanwhile(sandbox, save, echo) == [200]
    assert save.response.status_code == 302
    assert stored(user).name == "Mary Ann Jones"
    assert not WebhookDelivery.objects.filter(processed_at=None).exists()
    assert SyncAttempt.objects.count() == LogEntry.objects.count() == 1


def test_the_echo_of_a_ban_is_no_second_ban(client, sandbox):
    user = linked(sandbox)
    happened(sandbox)
    page = reverse("admin:users_builderuser_ban", args=[user.pk])
    ban = Halted(checkpoints.AFTER_CALL, lambda: client.post(page))
    with ban:
        [echo] = happened(sandbox)
        assert delivered_meanwhile(sandbox, ban, echo) == [200]
    assert SyncAttempt.objects.get().operation == "ban"
    assert ClerkAccount.objects.get().banned


@pytest.mark.parametrize("step", [checkpoints.AFTER_CALL, checkpoints.BEFORE_COMMIT])
def test_the_echo_of_a_creation_before_its_row_is_there(client, sandbox, step):
    new = {"name": "Zoë Berg", "email": "zoe@example.com", "role": "BUILDER", "account": "create"}
    create = Halted(step, lambda: client.post("/admin/users/builderuser/add/", new))
    with create:
        [echo] = happened(sandbox)
        assert delivered_meanwhile(sandbox, create, echo) == [200]
    assert create.response.status_code == 302
    maintenance.run()
    row, known = BuilderUser.objects.get(), ClerkAccount.objects.get()
    assert row.clerk_id == known.pk
    assert (known.user, known.note) == (row, "")
    assert SyncAttempt.objects.get().operation == "create"


@pytest.mark.parametrize("replaced", [False, True])
def test_an_event_does_not_wait_for_a_deletion_that_asks_clerk(client, sandbox, replaced):
    """Who decides holds a lock that the deletion needs in the end: neither may wait for what the
    other holds."""
    user = linked(sandbox)
    about = user.clerk_id
    if replaced:  # the event is about the account that the user had before
        about = sandbox.add_user(email="before@example.com")["id"]
        store.keep(ClerkUser.parse(sandbox.user(about)))
        ClerkAccount.objects.filter(pk=about).update(replaced_for=user)
    happened(sandbox)
    change_here(user, name="Mary Ann Brown")  # to be observed by whoever decides next
    sandbox.edit(about, first_name="Mary Ann", last_name="Jones", banned=True)
    [event] = happened(sandbox)
    page = reverse("admin:users_builderuser_delete", args=[user.pk])
    deletion = Halted(checkpoints.AFTER_CALL, lambda: client.post(page, {"post": "yes"}))
    answers = []

    def deliver():
        try:
            answers.append(post(sandbox, event).content)
        finally:
            connection.close()

    delivery = threading.Thread(target=deliver)
    with deletion:
        delivery.start()
        wait_until(lambda: somebody_waits() or not delivery.is_alive(), "the event does not end")
        assert not somebody_waits()
    delivery.join()
    assert answers == [b"ok\n"]
    assert deletion.response.status_code == 302
    assert not BuilderUser.objects.exists()
    assert not Agreement.objects.exists()
    assert not ClerkAccount.objects.exclude(user=None, replaced_for=None).exists()
    assert sandbox.user(user.clerk_id) is None


def test_a_change_of_the_person_meets_a_save(client, sandbox):
    """They rename themselves while staff do: Clerk's order counts, and nothing is lost."""
    user = linked(sandbox)
    happened(sandbox)
    save = Halted(checkpoints.AFTER_CALL, lambda: submit(client, user, name="Mary Ann Jones"))
    with save:
        sandbox.edit(user.clerk_id, last_name="Own")
        _, own = happened(sandbox)
        assert delivered_meanwhile(sandbox, save, own) == [200]
    maintenance.run()
    assert in_clerk(sandbox, user) == ("Mary Ann", "Own")
    assert stored(user).name == "Mary Ann Own"


def test_first_events_of_many_accounts_at_once(sandbox):
    """Each account's first two events, at the same time: the one that links, and one with a new
    address, by which nobody could be found."""
    emails = [f"person{number}@example.com" for number in range(30)]
    rows = [BuilderUserFactory(email=email, name="Person One") for email in emails]
    happened(sandbox)
    for row in rows:
        account = sandbox.add_user(email=row.email, first_name="Person", last_name="One")
        sandbox.edit(account["id"], email=f"moved.{row.email}", last_name="Two")
    events = happened(sandbox)
    assert set(at_once(sandbox, events, threads=6)) == {200}
    maintenance.run()
    for row in rows:
        [account] = sandbox.find(f"moved.{row.email}")
        now = BuilderUser.objects.select_related("account").get(pk=row.pk)
        assert (now.clerk_id, now.email) == (account["id"], f"moved.{row.email}")
        assert (now.name, now.account.last_name) == ("Person Two", "Two")


def test_a_flood_of_one_user(sandbox):
    user = linked(sandbox)
    happened(sandbox)
    for number in range(150):
        sandbox.edit(user.clerk_id, last_name=f"No{number}")
    events = happened(sandbox)
    flood = events * 2
    random.Random(3).shuffle(flood)
    assert set(at_once(sandbox, flood)) == {200}
    maintenance.run()
    assert stored(user).name == "Mary Ann No149"
    assert not WebhookDelivery.objects.filter(processed_at=None).exists()


def test_two_who_swap_at_the_same_time(sandbox):
    """Each one's event needs the other's row: whoever has to yield is tried again."""
    for _ in range(10):
        ann, bob = linked(sandbox), linked(sandbox)
        happened(sandbox)
        sandbox.edit(ann.clerk_id, email=f"parked.{ann.email}")
        sandbox.edit(bob.clerk_id, email=ann.email)
        sandbox.edit(ann.clerk_id, email=bob.email)
        assert set(at_once(sandbox, happened(sandbox))) == {200}
        maintenance.run()
        assert (stored(ann).email, stored(bob).email) == (bob.email, ann.email)
        assert set(ClerkAccount.objects.values_list("note", flat=True)) == {""}


def test_the_address_of_a_row_changes_while_its_account_waits(sandbox):
    """Staff take the address from the row just when somebody signs up with it."""
    row = BuilderUserFactory(email="ann@example.com")
    sandbox.add_user(email="ann@example.com")
    [event] = happened(sandbox)

    def edit():
        BuilderUser.objects.select_for_update().get(pk=row.pk)
        change_here(row, email="other@example.com")

    with elsewhere(edit):
        assert post(sandbox, event).status_code == 200
        assert not stored(row).linked
    maintenance.run()
    assert not stored(row).linked
    assert not WebhookDelivery.objects.filter(processed_at=None).exists()


def test_a_pull_meets_a_later_change_of_the_person(sandbox, monkeypatch):
    """The plan holds an older name of theirs. The event with the newer one comes after the run has
    compared the two, and before it writes the row."""
    user = linked(sandbox)
    happened(sandbox)
    change_here(user, name="Mary Ann Jones")
    compare = rows._moved_in_clerk

    def compared(row):
        found = compare(row)
        sandbox.edit(user.clerk_id, last_name="Own")
        arrive(sandbox)
        return found

    monkeypatch.setattr(rows, "_moved_in_clerk", compared)
    code, _ = run("clerk_pull", "--email", user.email, "--apply")
    assert code == 0
    assert in_clerk(sandbox, user) == ("Mary Ann", "Own")
    assert stored(user).name == "Mary Ann Own"


def test_a_mistake_with_one_event_does_not_hold_up_those_that_come_with_it(sandbox, monkeypatch):
    people = [linked(sandbox, name=f"Mary Smith{number}") for number in range(4)]
    happened(sandbox)
    for person in people:
        sandbox.edit(person.clerk_id, last_name="Jones")
    unlucky, *others = people
    original = reconcile.derive

    def mistake(group, *, now):
        if unlucky.clerk_id in group.accounts:
            raise ZeroDivisionError("somebody's name")
        return original(group, now=now)

    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "derive", mistake)
        answers = arrive_together(sandbox, happened(sandbox))
    assert answers == ["kept for another try", "ok", "ok", "ok"]
    assert [stored(person).name for person in others] == ["Mary Jones"] * 3
    assert stored(unlucky).name == "Mary Smith0"
    maintenance.run()
    assert stored(unlucky).name == "Mary Jones"


def test_events_that_arrive_together_are_applied_together(sandbox, monkeypatch):
    people = [linked(sandbox) for _ in range(6)]
    happened(sandbox)
    for person in people:
        sandbox.edit(person.clerk_id, last_name="Jones", banned=True)
    applied, original = [], events.apply
    monkeypatch.setattr(
        events, "apply", lambda effects: (applied.append(len(effects)), original(effects))
    )
    assert arrive_together(sandbox, happened(sandbox)) == ["ok"] * 6
    assert applied == [6]
    assert {stored(person).name for person in people} == {"Mary Ann Jones"}
    assert {person.account.banned for person in BuilderUser.objects.all()} == {True}


def test_people_who_swap_their_emails_at_once(sandbox):
    one, other = linked(sandbox, email="one@example.com"), linked(sandbox, email="two@example.com")
    happened(sandbox)
    sandbox.edit(one.clerk_id, email="moving@example.com")
    sandbox.edit(other.clerk_id, email="one@example.com")
    sandbox.edit(one.clerk_id, email="two@example.com")
    *_, last_of_other, last_of_one = happened(sandbox)
    assert arrive_together(sandbox, [last_of_other, last_of_one]) == ["ok"] * 2
    assert (stored(one).email, stored(other).email) == ("two@example.com", "one@example.com")
