"""Bulk runs that are killed again and again, and resumed each time, while staff edit the same
and other people, people change their own accounts, and events arrive.

`make campaign` does it with many rows and 20 kills each; the suite with fewer.
"""

from __future__ import annotations

import csv
import random
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sandbox import Sandbox
from tests.campaign.told import Heard, Said
from tests.support.change_form import page_of
from tests.support.commands import run
from tests.support.factories import BuilderUserFactory, change_here, linked
from tests.support.html_form import fields_of
from tests.support.killed_runs import (
    KILLS,
    ROWS,
    Named,
    Svix,
    assert_once,
    assert_told,
    finished,
    killed_and_resumed,
    meanwhile,
    names_in_clerk,
    near_the_front,
)
from tests.support.unknown import time_is_over
from users.clerk import ClerkUser
from users.models import BuilderUser, BulkRun, Invitation, SyncAttempt
from users.sync.bulk.rows import OLDEST
from users.sync.bulk.workers import WORKERS
from users.sync.mirror import store
from users.sync.services.invitation_limit import PER_HOUR

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Edit:
    """What a staff member typed into a form, and what the answer said."""

    field: str
    value: str
    heard: Said


@dataclass
class Office:
    """A staff member at the form, the people at Clerk's pages, and the events of both."""

    sandbox: Sandbox
    client: Client
    people: list[uuid.UUID]
    edits: dict[uuid.UUID, list[Edit]] = field(default_factory=lambda: defaultdict(list))
    own: dict[uuid.UUID, list[str]] = field(default_factory=lambda: defaultdict(list))

    decided: set[uuid.UUID] = field(default_factory=set)
    """Users of whom a staff member had to decide: a kill left a change, and Clerk holds a third
    name, so that nobody can tell whether the change ever arrived."""

    def __post_init__(self) -> None:
        self.svix = Svix(self.sandbox)

    def somebody(self) -> BuilderUser | None:
        near = [row.user_id for row in near_the_front()]
        pk = random.choice(near if near and random.random() < 0.6 else self.people)
        return BuilderUser.objects.filter(pk=pk).first()

    def staff_edits(self, number: int) -> None:
        if (user := self.somebody()) is None:
            return
        name, value = random.choice(
            [("name", f"Mary Ann Staff{number}"), ("role", random.choice(["ADMIN", "BUILDER"]))]
        )
        form = fields_of(self.client.get(page_of(user)))
        answer = self.client.post(page_of(user), form | {name: value})
        self.edits[user.pk].append(Edit(name, value, Heard.of(answer).said))

    def person_edits(self, number: int) -> None:
        self.renames_themselves(self.somebody(), number)

    def renames_themselves(self, user: BuilderUser | None, number: int) -> None:
        """A person changes their name in Clerk, and some events arrive."""
        if user is not None and user.clerk_id:
            self.own[user.pk].append(f"Mary Ann Own{number}")
            self.sandbox.edit(user.clerk_id, first_name="Mary Ann", last_name=f"Own{number}")
        self.svix.deliver_some()

    def comes_to_rest(self) -> BulkRun:
        """The run is resumed to its end, all events arrive, and nothing is pending."""
        bulk_run = finished(self.sandbox)
        self.svix.deliver_all()
        time_is_over()
        run("clerk_recover")
        for attempt in SyncAttempt.objects.filter(status="started"):
            assert "Clerk holds a third name" in attempt.message
            self.decided.add(attempt.user_id)
            self.client.post(reverse("admin:users_builderuser_take_over", args=[attempt.user_id]))
        assert not SyncAttempt.objects.filter(status="started").exists()
        return bulk_run

    def saved(self, pk: uuid.UUID, what: str) -> list[str]:
        """What a staff member was told to be saved, in order."""
        edits = self.edits[pk]
        return [one.value for one in edits if one.field == what and one.heard is Said.SAVED]

    def disturbed(self, pk: uuid.UUID) -> bool:
        return bool(self.own[pk] or self.saved(pk, "name") or self.saved(pk, "role"))

    def assert_told_the_truth(self, pk: uuid.UUID, had: list[Named]) -> None:
        """What the form said of a name agrees with what its account had."""
        names = [one.name for one in had]
        for edit in self.edits[pk]:
            if edit.field == "name" and edit.heard in (Said.SAVED, Said.NOT_SAVED):
                assert (edit.value in names) == (edit.heard is Said.SAVED), (edit, names)


@dataclass
class Expected:
    """The plan for one user: the row before, and what the run is to make of it."""

    user: BuilderUser
    name_before: str
    name: str
    role: str | None = None


def pushed(sandbox: Sandbox, folder: Path) -> tuple[list[str | Path], list[Expected]]:
    plan = []
    for n in range(ROWS):
        user = linked(sandbox, name=f"Mary Ann Smith{n}")
        change_here(user, name=f"Mary Ann Jones{n}")
        plan.append(Expected(user, f"Mary Ann Jones{n}", f"Mary Ann Jones{n}"))
    return ["clerk_push"], plan


def pulled(sandbox: Sandbox, folder: Path) -> tuple[list[str | Path], list[Expected]]:
    plan = []
    for n in range(ROWS):
        user = linked(sandbox, name=f"Mary Ann Smith{n}")
        change_here(user, name=f"Mary Ann Jones{n}")
        plan.append(Expected(user, f"Mary Ann Jones{n}", f"Mary Ann Smith{n}"))
    return ["clerk_pull"], plan


def updated(sandbox: Sandbox, folder: Path) -> tuple[list[str | Path], list[Expected]]:
    plan = []
    for n in range(ROWS):
        user = linked(sandbox, name=f"Mary Ann Smith{n}")
        plan.append(Expected(user, user.name, f"Mary Ann Fixed{n}", "HOMEOWNER"))
    file = folder / "fixes.csv"
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["email", "name", "role"])
        writer.writerows([one.user.email, one.name, one.role] for one in plan)
    return ["update_users", file], plan


@pytest.mark.parametrize("made", [pushed, pulled, updated])
def test_kills_amid_other_work_leave_what_each_change_made(
    sandbox: Sandbox, client: Client, tmp_path: Path, record_property, made
):
    arguments, plan = made(sandbox, tmp_path)
    others = [linked(sandbox, name=f"Mary Ann Other{n}") for n in range(ROWS // 3)]
    sandbox.latency = 0.02
    office = Office(sandbox, client, [*(one.user.pk for one in plan), *(one.pk for one in others)])
    with meanwhile(office.staff_edits, office.person_edits):
        record_property("kills", killed_and_resumed(sandbox, *arguments))
    bulk_run = office.comes_to_rest()

    had = names_in_clerk(sandbox)
    states = {}
    for one in plan:
        user = BuilderUser.objects.get(pk=one.user.pk)
        names = [named.name for named in had[one.user.clerk_id]]
        done = made_by(bulk_run, one) if made is pulled else one.name in names
        done = done and user.pk not in office.decided
        states[str(user.pk)] = "done" if done else "skipped"
        assert done or office.disturbed(user.pk)
        by_staff = any(name.startswith("Mary Ann Staff") for name in names)
        follows = made is updated or user.pk in office.decided
        assert user.name == (names[-1] if done or by_staff or follows else one.name_before)
        role = one.role if done and one.role else one.user.role
        assert user.role == [role, *office.saved(user.pk, "role")][-1]
        office.assert_told_the_truth(user.pk, had[user.clerk_id])
        if done and made is not pulled:
            assert_overwrote_nothing_known(bulk_run, one, had[user.clerk_id])
    for other in others:
        user = BuilderUser.objects.get(pk=other.pk)
        assert user.name == had[user.clerk_id][-1].name
        assert user.role == [other.role, *office.saved(user.pk, "role")][-1]
        office.assert_told_the_truth(user.pk, had[user.clerk_id])
    assert_told(bulk_run, states)
    assert_once(bulk_run, states)
    planned = {one.name.split()[-1] for one in plan}
    written = [one.path for one in sandbox.writes() if (one.body or {}).get("last_name") in planned]
    assert len(written) - len(set(written)) <= KILLS * WORKERS


def made_by(bulk_run: BulkRun, one: Expected) -> bool:
    """Whether the journal says that the row took the planned name in this run."""
    applied = SyncAttempt.objects.filter(run=bulk_run, user=one.user, status="applied")
    return applied.filter(changes__name__1=one.name).exists()


def assert_overwrote_nothing_known(bulk_run: BulkRun, one: Expected, had: list[Named]) -> None:
    """What the person changed in Clerk over two seconds before the run's change is not lost."""
    for before, after in pairwise(had):
        if after.name == one.name and before.name.startswith("Mary Ann Own"):
            attempt = bulk_run.attempts.get(user=one.user, status="applied", error_code="")
            assert before.since >= (attempt.started_at - OLDEST).timestamp()


def test_kills_amid_other_work_link_everybody_once(
    sandbox: Sandbox, client: Client, record_property
):
    others = [linked(sandbox, name=f"Mary Ann Other{n}") for n in range(ROWS // 3)]
    accounts = {}
    for n in range(ROWS):
        user = BuilderUserFactory(name=f"Mary Ann Smith{n}")
        account = sandbox.add_user(email=user.email, first_name="Mary Ann", last_name=f"Smith{n}")
        store.keep(ClerkUser.parse(account, asked_at=timezone.now()))
        accounts[user.pk] = account["id"]
    sandbox.latency = 0.02
    office = Office(sandbox, client, [*accounts, *(one.pk for one in others)])

    def person_signs_in(number: int) -> None:
        user = office.somebody()
        if user is not None and user.pk in accounts:
            sandbox.edit(accounts[user.pk], image_url=f"https://img.clerk.com/{number}.png")
            office.svix.deliver_some()
        else:
            office.renames_themselves(user, number)

    with meanwhile(office.staff_edits, person_signs_in):
        record_property("kills", killed_and_resumed(sandbox, "clerk_link"))
    bulk_run = office.comes_to_rest()

    had = names_in_clerk(sandbox)
    states = {}
    for number, (pk, account) in enumerate(accounts.items()):
        user = BuilderUser.objects.get(pk=pk)
        linking = SyncAttempt.objects.filter(user=user, status="applied", operation="link")
        assert user.clerk_id == account
        by_the_run = linking.filter(run=bulk_run).exists()
        states[str(pk)] = "done" if by_the_run else "skipped"
        assert linking.count() <= 1
        assert user.name == [f"Mary Ann Smith{number}", *office.saved(pk, "name")][-1]
        assert user.role == ["BUILDER", *office.saved(pk, "role")][-1]
        assert had[account][-1].name in (user.name, f"Mary Ann Smith{number}")
    for other in others:
        user = BuilderUser.objects.get(pk=other.pk)
        assert user.name == had[user.clerk_id][-1].name
    assert_told(bulk_run, states)
    assert_once(bulk_run, states)


@dataclass
class Newcomers(Office):
    """Staff add people of the list as well, and people sign up, accept and rename themselves."""

    sign_in: str = "create"
    added: dict[str, str] = field(default_factory=dict)
    signed_up: set[str] = field(default_factory=set)

    def somebody_listed(self) -> str:
        near = [row.changes["email"][1] for row in near_the_front()]
        return random.choice(near)

    def staff_adds(self, number: int) -> None:
        if number % 2:
            self.staff_edits(number)
            return
        email, name = self.somebody_listed(), f"Ann Staff{number}"
        account = "create" if self.sign_in == "create" else "none"
        answer = self.client.post(
            reverse("admin:users_builderuser_add"),
            {"name": name, "email": email, "role": "BUILDER", "internal_role": "",
             "builder_group": "", "account": account},
        )  # fmt: skip
        if Heard.of(answer).said is Said.SAVED:
            self.added[email] = name

    def person_acts(self, number: int) -> None:
        if number % 2:
            self.person_edits(number)
            return
        pending = [one for one in self.sandbox.invitations() if one["status"] == "pending"]
        email = self.somebody_listed()
        with self.sandbox.state.lock:
            if pending:
                self.sandbox.accept(random.choice(pending)["id"])
            elif not self.sandbox.find(email):
                self.sandbox.add_user(email=email, first_name="Ann", last_name="Own")
                self.signed_up.add(email)
        self.svix.deliver_some()


@pytest.mark.parametrize("sign_in", ["create", "invite", "none"])
def test_kills_amid_other_work_make_nobody_twice(
    sandbox: Sandbox, client: Client, tmp_path: Path, record_property, sign_in
):
    others = [linked(sandbox, name=f"Mary Ann Other{n}") for n in range(ROWS // 3)]
    emails = [f"new{n}@example.com" for n in range(ROWS)]
    file = tmp_path / "people.csv"
    lines = [f"{email},Ann Lee{n}" for n, email in enumerate(emails)]
    file.write_text("\n".join(["email,name", *lines]))
    sandbox.latency = 0.02
    office = Newcomers(sandbox, client, [one.pk for one in others], sign_in=sign_in)
    with meanwhile(office.staff_adds, office.person_acts):
        kills = killed_and_resumed(sandbox, "import_users", file, "--sign-in", sign_in)
    record_property("kills", kills)
    bulk_run = office.comes_to_rest()

    planned = {row.changes["email"][1]: row.user_id for row in bulk_run.rows.all()}
    assert set(planned) == set(emails)
    users = {user.email: user for user in BuilderUser.objects.exclude(pk__in=office.people)}
    assert len(users) == BuilderUser.objects.count() - len(others)
    states = {}
    for email, pk in planned.items():
        user, accounts = users.get(email), sandbox.find(email)
        done = user is not None and user.pk == pk
        states[str(pk)] = "done" if done else "failed"
        assert done != (email in office.added or (user is None and email in office.signed_up))
        ours = [one for one in accounts if one["public_metadata"].get("cascade_user_id") == str(pk)]
        if sign_in != "invite":  # an invitation brings the id to whoever accepts it
            assert len(ours) == (1 if done and sign_in == "create" else 0)
        assert len(accounts) <= 1
        if accounts and user is not None:
            assert user.clerk_id == accounts[0]["id"]
        sent = [one for one in sandbox.invitations() if one["email_address"] == email]
        kept = Invitation.objects.filter(user=pk)
        assert kept.count() == (1 if done and sign_in == "invite" else 0)
        assert len(sent) == kept.exclude(status="waiting").count()
        if user is not None and sign_in == "create":
            name = f"{accounts[0]['first_name']} {accounts[0]['last_name']}"
            assert user.name == name
    assert len(sandbox.invitations()) <= PER_HOUR + KILLS
    assert_told(bulk_run, states)
    assert_once(bulk_run, states)


def test_kills_amid_other_work_import_each_account_once(
    sandbox: Sandbox, client: Client, record_property
):
    others = [linked(sandbox, name=f"Mary Ann Other{n}") for n in range(ROWS // 3)]
    accounts = {}
    for n in range(ROWS):
        email = f"new{n}@example.com"
        account = sandbox.add_user(email=email, first_name="Ann", last_name=f"Lee{n}")
        accounts[email] = account["id"]
    sandbox.latency = 0.02
    office = Newcomers(sandbox, client, [one.pk for one in others], sign_in="none")

    def person_renames_themselves(number: int) -> None:
        account = accounts[office.somebody_listed()]
        sandbox.edit(account, first_name="Ann", last_name=f"Own{number}")
        office.svix.deliver_some()

    with meanwhile(office.staff_adds, person_renames_themselves):
        record_property("kills", killed_and_resumed(sandbox, "clerk_import", "--all"))
    bulk_run = office.comes_to_rest()

    had = names_in_clerk(sandbox)
    users = {user.email: user for user in BuilderUser.objects.exclude(pk__in=office.people)}
    assert set(users) == set(accounts)
    assert len(users) == BuilderUser.objects.count() - len(others)
    states = {}
    for row in bulk_run.rows.all():
        email = row.changes["email"][1]
        done = users[email].pk == row.user_id
        states[str(row.user_id)] = "done" if done else row.state
        assert done or row.state in ("failed", "skipped")
        assert done != (email in office.added)
        assert users[email].clerk_id == accounts[email]
        names = [one.name for one in had[accounts[email]]]
        saved = office.saved(users[email].pk, "name")
        added = office.added.get(email)
        # What staff called somebody who has another name in Clerk stays, and is shown.
        assert users[email].name == (added if added and not saved else names[-1])
    assert len(states) == len(accounts)
    assert not [one for one in sandbox.writes() if one.method == "POST"]
    assert_told(bulk_run, states)
    assert_once(bulk_run, states)
