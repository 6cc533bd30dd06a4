"""Small histories whose events come in every order: always the same end, and the right one."""

from __future__ import annotations

import itertools
import math
import uuid
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from sandbox import Sandbox
from tests.support.change_form import form_of, page_of, text_of
from tests.support.events import at_once, happened, post
from tests.support.factories import BuilderUserFactory, change_here, delete_here
from tests.support.tables import Snapshot, end
from users.clerk import ClerkUser
from users.models import Agreement, BuilderUser, ClerkAccount, Invitation, WebhookDelivery
from users.sync import maintenance
from users.sync.inbound import deliveries
from users.sync.mirror import instance, store

pytestmark = pytest.mark.django_db(transaction=True)


class Stories:
    """Rows, accounts, and what happens in Clerk, a minute apart, within the last hours."""

    def __init__(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.now = timezone.now() - timedelta(hours=6)
        monkeypatch.setattr(sandbox.state, "clock", self.wait)
        instance.remember(sandbox.instance_id, "development")

    def wait(self) -> float:
        self.now += timedelta(minutes=1)
        return self.now.timestamp()

    def row(self, email: str, *, clerk_id: str | None = None, **fields: Any) -> BuilderUser:
        """A row that has been there for a while."""
        row = BuilderUserFactory(email=email, clerk_id=clerk_id, **fields)
        self.wait()
        BuilderUser.objects.filter(pk=row.pk).update(created_at=self.now)
        return row

    def linked(self, email: str, **fields: Any) -> BuilderUser:
        """A row whose account was known, and linked by others, before the story begins."""
        account = self.account(email, first_name="Mary Ann", last_name="Smith")
        row = self.row(email, clerk_id=account, **fields)
        user = ClerkUser.parse(self.sandbox.user(account), asked_at=self.now)
        store.keep(user)
        return row

    def account(self, email: str, **fields: Any) -> str:
        created: str = self.sandbox.add_user(email=email, **fields)["id"]
        return created

    def begin(self) -> None:
        """What happened up to now has reached us long ago."""
        happened(self.sandbox)
        self._before = Snapshot()

    def again(self) -> None:
        """All is as at `begin`."""
        self._before.restore()

    def tell(self) -> None:
        """Tell the events in the order in which they happened."""
        for event in happened(self.sandbox):
            assert post(self.sandbox, event).status_code == 200

    def tell_at_once(self) -> None:
        """Eight threads tell each event twice; the end is that of the sequence."""
        events = happened(self.sandbox)
        for event in events:
            post(self.sandbox, event)
        sequential = end()
        self._before.restore()
        assert set(at_once(self.sandbox, [*events, *events])) == {200}
        deliveries.retry()
        assert not WebhookDelivery.objects.filter(processed_at=None).exists()
        assert end() == sequential

    def tell_in_every_order(self) -> dict[str, Any]:
        """Give the one end of the events since `begin`."""
        events = happened(self.sandbox)
        ends = []
        for order in itertools.permutations(events):
            self._before.restore()
            for event in order:
                assert post(self.sandbox, event).status_code == 200
            assert not WebhookDelivery.objects.filter(processed_at=None).exists()
            ends.append(end())
            assert ends[-1] == ends[0], [event.type for event in order]
        assert len(ends) == math.factorial(len(events))
        return ends[0]


@pytest.fixture
def stories(sandbox, monkeypatch) -> Stories:
    return Stories(sandbox, monkeypatch)


def stored(row: BuilderUser) -> tuple[str, str, str | None]:
    row.refresh_from_db()
    return row.name, row.email, row.clerk_id


def place(row: BuilderUser) -> tuple[str, str | None]:
    """Its email and its account."""
    row.refresh_from_db()
    return row.email, row.clerk_id


def note_of(clerk_id: str) -> str:
    return ClerkAccount.objects.get(pk=clerk_id).note


def doubt_of(row: BuilderUser) -> str:
    return Agreement.objects.get(pk=row.pk).note


def test_an_address_that_is_passed_on_links_its_first_holder(stories):
    """The row is the one of A, who had bob@ first, also when B is heard of before."""
    bob = stories.row("bob@example.com")
    stories.begin()
    first = stories.account("bob@example.com")
    stories.sandbox.edit(first, email="bob.home@example.com")
    second = stories.account("bob@example.com")
    stories.tell_in_every_order()
    assert place(bob) == ("bob.home@example.com", first)
    assert note_of(first) == note_of(second) == doubt_of(bob) == ""


def test_an_administrators_row_is_not_moved_without_a_person(stories):
    """Whose event came first has it, so its end is not one: but it is never moved by itself, and
    whoever is in doubt is told of."""
    ann = stories.row("ann@example.com", role="ADMIN")
    stories.begin()
    first = stories.account("ann@example.com")
    stories.sandbox.edit(first, email="ann.home@example.com")
    second = stories.account("ann@example.com")
    made, moved, other = happened(stories.sandbox)
    for event in (other, made, moved):
        post(stories.sandbox, event)
    assert place(ann) == ("ann@example.com", second)
    assert first in doubt_of(ann)


def test_an_administrators_row_of_an_account_made_again_is_never_taken_without_a_word(stories):
    """As above, the end depends on the order; but staff are told in each."""
    ann = stories.row("ann@example.com", role="ADMIN")
    stories.begin()
    dead = stories.account("ann@example.com")
    stories.sandbox.delete(dead)
    stories.account("ann@example.com")
    for order in itertools.permutations(happened(stories.sandbox)):
        stories.again()
        for event in order:
            post(stories.sandbox, event)
        assert dead in doubt_of(ann), [event.type for event in order]
        assert "was deleted in Clerk" in doubt_of(ann)


def test_who_leaves_an_address_makes_room_though_the_new_one_is_taken(stories):
    a, b = stories.linked("a@example.com"), stories.linked("b@example.com")
    c = stories.row("c@example.com", name="Cleo Carter")
    stories.begin()
    stories.sandbox.edit(a.clerk_id, email="a.away@example.com")
    stories.sandbox.edit(b.clerk_id, email="a@example.com")
    stories.sandbox.edit(a.clerk_id, email="c@example.com")
    stories.tell_in_every_order()
    assert place(a) == ("a.away@example.com", a.clerk_id)
    assert place(b) == ("a@example.com", b.clerk_id)
    assert place(c) == ("c@example.com", None)
    assert "is already used by Cleo Carter (" in note_of(a.clerk_id)
    assert note_of(b.clerk_id) == ""


def test_who_cannot_leave_keeps_the_address_and_both_are_told(stories):
    a, b = stories.linked("a@example.com", name="Ada Ames"), stories.linked("b@example.com")
    c = stories.row("c@example.com", name="Cleo Carter")
    stories.begin()
    stories.sandbox.edit(a.clerk_id, email="c@example.com")
    stories.sandbox.edit(b.clerk_id, email="a@example.com")
    stories.tell_in_every_order()
    assert place(a) == ("a@example.com", a.clerk_id)
    assert place(b) == ("b@example.com", b.clerk_id)
    assert place(c) == ("c@example.com", None)
    assert "is already used by Cleo Carter (" in note_of(a.clerk_id)
    assert "is already used by Ada Ames (" in note_of(b.clerk_id)


def test_a_move_to_an_address_that_is_held_ends_at_the_one_before(stories):
    a, b = stories.linked("a@example.com"), stories.row("b@example.com", name="Bob Brown")
    stories.begin()
    stories.sandbox.edit(a.clerk_id, email="a2@example.com")
    stories.sandbox.edit(a.clerk_id, email="b@example.com")
    stories.tell_in_every_order()
    assert place(a) == ("a2@example.com", a.clerk_id)
    assert place(b) == ("b@example.com", None)
    assert "is already used by Bob Brown (" in note_of(a.clerk_id)


@pytest.mark.parametrize("leave", [delete_here, partial(change_here, email="away@example.com")])
def test_who_waits_for_an_address_gets_it_when_another_application_frees_it(stories, leave):
    row, holder = stories.linked("ada@example.com"), stories.row("cleo@example.com")
    stories.begin()
    stories.sandbox.edit(row.clerk_id, email="cleo@example.com")
    stories.tell_in_every_order()
    assert "is already used by" in note_of(row.clerk_id)
    leave(holder)
    maintenance.run()
    assert place(row) == ("cleo@example.com", row.clerk_id)
    assert note_of(row.clerk_id) == ""


def test_a_new_row_with_an_address_that_another_row_left_gets_its_account(stories):
    former = stories.linked("office@example.com")
    stories.sandbox.edit(former.clerk_id, email="home@example.com")
    stories.tell()
    assert place(former) == ("home@example.com", former.clerk_id)
    new = stories.row("office@example.com")
    stories.begin()
    account = stories.account("office@example.com")
    stories.sandbox.delete(former.clerk_id)
    stories.tell_in_every_order()
    assert place(new) == ("office@example.com", account)
    assert place(former) == ("home@example.com", former.clerk_id)


def test_who_cannot_go_back_to_an_earlier_address_keeps_nobody_from_moving(stories):
    """A dead account's row stays where it is: somebody else has its first address by now."""
    dead, mover = stories.linked("a@example.com"), stories.linked("c@example.com")
    stories.sandbox.edit(dead.clerk_id, email="e@example.com")
    stories.tell()
    stories.row("a@example.com")
    stories.begin()
    stories.sandbox.delete(dead.clerk_id)
    stories.sandbox.edit(mover.clerk_id, email="d@example.com")
    stories.sandbox.edit(mover.clerk_id, email="e@example.com")
    stories.tell_in_every_order()
    assert place(dead) == ("e@example.com", dead.clerk_id)
    assert place(mover) == ("d@example.com", mover.clerk_id)


def test_three_who_swap_their_addresses_all_get_them(stories):
    a, b, c = (stories.linked(f"{name}@example.com") for name in "abc")
    stories.begin()
    stories.sandbox.edit(a.clerk_id, email="parked@example.com")
    stories.sandbox.edit(b.clerk_id, email="a@example.com")
    stories.sandbox.edit(c.clerk_id, email="b@example.com")
    stories.sandbox.edit(a.clerk_id, email="c@example.com")
    stories.tell_in_every_order()
    assert [place(row)[0][0] for row in (a, b, c)] == ["c", "a", "b"]


@pytest.mark.parametrize("known", [True, False], ids=["linked before", "linked by an event"])
def test_what_was_set_and_then_cleared_stays_in_the_row(stories, known):
    row = stories.linked("eve@example.com") if known else stories.row("eve@example.com")
    name = {"first_name": "Mary Ann", "last_name": "Smith"}
    clerk_id = row.clerk_id or stories.account("eve@example.com", **name)
    if not known:
        for event in happened(stories.sandbox):
            post(stories.sandbox, event)
    stories.begin()
    stories.sandbox.edit(clerk_id, first_name="Eve", last_name="Newman")
    stories.sandbox.edit(clerk_id, email="eve.new@example.com")
    stories.sandbox.edit(clerk_id, first_name=None, last_name=None)
    stories.sandbox.edit(clerk_id, email_addresses=[], primary_email_address_id=None)
    stories.tell_in_every_order()
    assert stored(row) == ("Eve Newman", "eve.new@example.com", clerk_id)


@pytest.mark.parametrize("known", [True, False], ids=["linked before", "not linked before"])
def test_deleted_and_made_again_the_living_account_has_the_row(stories, known):
    row = stories.linked("max@example.com") if known else stories.row("max@example.com")
    stories.begin()
    dead = row.clerk_id or stories.account("max@example.com")
    stories.sandbox.delete(dead)
    living = stories.account("max@example.com")
    stories.sandbox.edit(living, last_name="Again")
    stories.tell_in_every_order()
    assert place(row) == ("max@example.com", living)
    assert note_of(living) == doubt_of(row) == ""


def test_an_account_made_again_that_is_deleted_too_leaves_the_decided_one(stories):
    """Nobody decided for the second account: without it all is as if it had never been."""
    row = stories.linked("max@example.com")
    stories.begin()
    decided = row.clerk_id
    stories.sandbox.edit(decided, last_name="Newman")
    stories.sandbox.delete(decided)
    stories.sandbox.delete(stories.account("max@example.com", first_name="Maximilian"))
    stories.tell_in_every_order()
    assert stored(row) == ("Mary Ann Newman", "max@example.com", decided)


def test_who_loses_a_passed_on_account_has_the_decided_one_again(stories):
    """The second account had the other row's address first: for a moment it seems to be of both."""
    first = stories.linked("max@example.com")
    other = stories.row("eve@example.com")
    stories.begin()
    decided = first.clerk_id
    account = stories.account("eve@example.com")
    stories.sandbox.delete(decided)
    stories.sandbox.edit(account, email="max@example.com")
    stories.tell_in_every_order()
    assert place(first) == ("max@example.com", decided)
    assert place(other) == ("eve@example.com", account)


def test_an_account_that_staff_relied_on_stays_although_it_was_made_again_and_deleted(
    client, stories
):
    """It has the row by its address; after an edit by staff it counts like a decided one."""
    row = stories.linked("max@example.com")
    stories.begin()
    stories.sandbox.delete(row.clerk_id)
    relied = stories.account("max@example.com", first_name="Max", last_name="Smith")
    for event in happened(stories.sandbox):
        post(stories.sandbox, event)
    row.refresh_from_db()
    client.post(page_of(row), form_of(row, name="Max Newman"))
    stories.begin()
    stories.sandbox.delete(relied)
    stories.sandbox.delete(stories.account("max@example.com"))
    stories.tell_in_every_order()
    assert stored(row) == ("Max Newman", "max@example.com", relied)


def test_an_invitation_is_accepted_also_if_all_is_over_when_we_hear_of_it(stories):
    """The first account is deleted and made again, the invited one is deleted: she did accept."""
    row = stories.linked("max@example.com")
    invite(stories, row, "max.new@example.com", "email_change")
    stories.begin()
    stories.sandbox.delete(row.clerk_id)
    stories.account("max@example.com")
    invited = stories.account("max.new@example.com")
    stories.sandbox.delete(invited)
    stories.tell_in_every_order()
    assert place(row) == ("max.new@example.com", invited)
    assert Invitation.objects.get().status == "accepted"


def test_a_row_gets_its_own_email_as_soon_as_the_other_row_leaves_it(client, stories):
    """Its account came from another row's invitation; its own email is held by a third row."""
    own = stories.row("bob@example.com")
    third, invited = stories.linked("ann@example.com"), stories.row("carl@example.com")
    metadata = invite(stories, invited, "carl@example.com", "new_account")
    stories.begin()
    account = stories.account("bob@example.com", public_metadata=metadata)
    stories.sandbox.edit(account, email="away@example.com")
    stories.sandbox.edit(third.clerk_id, email="bob@example.com")
    for event in happened(stories.sandbox):
        post(stories.sandbox, event)
    assert place(own) == ("away@example.com", account)
    third.refresh_from_db()
    client.post(page_of(third), form_of(third, name="Ann Newman"))
    stories.begin()
    stories.sandbox.edit(third.clerk_id, email="ann@example.com")
    stories.sandbox.edit(account, email="carl@example.com")
    stories.tell_in_every_order()
    assert place(own) == ("bob@example.com", None)
    assert place(invited) == ("carl@example.com", account)
    assert place(third)[0] == "ann@example.com"


def test_deleted_and_made_again_an_administrator_waits_for_a_person(stories):
    row = stories.linked("max@example.com", role="ADMIN")
    stories.begin()
    dead = row.clerk_id
    stories.sandbox.delete(dead)
    living = stories.account("max@example.com")
    stories.tell_in_every_order()
    assert place(row) == ("max@example.com", dead)
    assert living in doubt_of(row)


def test_nobody_is_linked_to_the_dead(stories):
    row = stories.row("zoe@example.com")
    stories.begin()
    dead = stories.account("zoe@example.com")
    stories.sandbox.delete(dead)
    stories.tell_in_every_order()
    assert place(row) == ("zoe@example.com", None)


def test_nobody_is_linked_to_the_banned(stories):
    row = stories.row("zoe@example.com")
    stories.begin()
    banned = stories.account("zoe@example.com")
    stories.sandbox.edit(banned, banned=True)
    stories.tell_in_every_order()
    assert place(row) == ("zoe@example.com", None)


def test_banned_and_unbanned_is_linked(stories):
    row = stories.row("zoe@example.com")
    stories.begin()
    account = stories.account("zoe@example.com")
    stories.sandbox.edit(account, banned=True)
    stories.sandbox.edit(account, banned=False)
    stories.tell_in_every_order()
    assert place(row) == ("zoe@example.com", account)


def test_a_bare_id_of_ours_in_the_metadata_gets_nothing(stories):
    row = stories.row("kim@example.com", name="Kim King")
    stories.begin()
    bare = stories.account("other@example.com", public_metadata={"cascade_user_id": str(row.pk)})
    rightful = stories.account("kim@example.com")
    stories.sandbox.edit(bare, last_name="Claims")
    stories.tell_in_every_order()
    assert place(row) == ("kim@example.com", rightful)
    assert "Kim King, who has another Clerk account. Nothing was linked" in note_of(bare)


def test_a_bare_id_alone_is_shown_and_links_nobody(stories):
    row = stories.row("kim@example.com", name="Kim King")
    stories.begin()
    bare = stories.account("other@example.com", public_metadata={"cascade_user_id": str(row.pk)})
    stories.sandbox.edit(bare, last_name="Claims")
    stories.tell_in_every_order()
    assert place(row) == ("kim@example.com", None)
    assert "no proof" in note_of(bare)
    assert bare in doubt_of(row)


def test_the_note_about_a_bare_id_goes_with_its_row(client, stories):
    row = stories.row("kim@example.com")
    bare = stories.account("other@example.com", public_metadata={"cascade_user_id": str(row.pk)})
    stories.tell()
    assert "no proof" in note_of(bare)
    client.post(reverse("admin:users_builderuser_delete", args=[row.pk]), {"post": "yes"})
    assert not BuilderUser.objects.exists()
    assert note_of(bare) == ""


def invite(stories: Stories, row: BuilderUser, email: str, purpose: str) -> dict[str, str]:
    """Send an invitation; gives the metadata of who accepts it."""
    stories.wait()
    reference = uuid.uuid4()
    Invitation.objects.create(
        user=row, email=email, purpose=purpose, reference=reference, sent_at=stories.now
    )
    return {"cascade_user_id": str(row.pk), "cascade_invitation": str(reference)}


def test_an_accepted_invitation_brings_the_new_account_whatever_comes_first(stories):
    row = stories.linked("old@example.com")
    old = row.clerk_id
    metadata = invite(stories, row, "new@example.com", "email_change")
    stories.begin()
    new = stories.account("new@example.com", public_metadata=metadata)
    stories.sandbox.edit(new, last_name="Newer")
    stories.sandbox.edit(old, last_name="Older")
    stories.tell_in_every_order()
    assert place(row) == ("new@example.com", new)
    assert Invitation.objects.get().status == "accepted"
    account = ClerkAccount.objects.get(pk=old)
    assert (account.user, account.replaced_for, account.ban_due) == (None, row, True)


def test_an_invited_person_who_is_deleted_again_has_accepted(stories):
    row = stories.row("kim@example.com")
    metadata = invite(stories, row, "kim@example.com", "new_account")
    stories.begin()
    account = stories.account("kim@example.com", public_metadata=metadata)
    stories.sandbox.edit(account, last_name="Newer")
    stories.sandbox.delete(account)
    stories.tell_in_every_order()
    assert place(row) == ("kim@example.com", account)
    assert ClerkAccount.objects.get().deleted_at
    assert Invitation.objects.get().status == "accepted"


def test_an_invitation_to_a_row_that_another_application_deleted_links_nobody(stories):
    row = stories.row("kim@example.com")
    metadata = invite(stories, row, "kim@example.com", "new_account")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM users WHERE id = %s", [row.pk])
    stories.begin()
    account = stories.account("kim@example.com", public_metadata=metadata)
    stories.tell_in_every_order()
    assert note_of(account) == ""
    maintenance.run()
    assert not BuilderUser.objects.exists()


def test_an_account_without_metadata_gives_way_to_the_one_with_it(stories):
    """Clerk has lost metadata before, so an address alone may do: until a better claim comes."""
    row = stories.row("kim@example.com")
    metadata = invite(stories, row, "kim@example.com", "new_account")
    stories.begin()
    invited = stories.account("kim@example.com", public_metadata=metadata)
    stories.sandbox.edit(invited, email="kim.home@example.com")
    stories.account("kim@example.com")
    stories.tell_in_every_order()
    assert place(row) == ("kim.home@example.com", invited)
    assert Invitation.objects.get().status == "accepted"
    assert not ClerkAccount.objects.exclude(replaced_for=None).exists()


def test_an_administrator_gets_no_account_without_metadata_and_staff_are_told(client, stories):
    row = stories.linked("kim@example.com", name="Kim King", role="ADMIN")
    invite(stories, row, "kim.home@example.com", "email_change")
    stories.begin()
    account = stories.account("kim.home@example.com")
    stories.tell_in_every_order()
    assert place(row) == ("kim@example.com", row.clerk_id)
    told = f"{account} has kim.home@example.com, to which this user was invited."
    assert told in doubt_of(row)
    assert "It has the email to which Kim King was invited." in note_of(account)
    for page in (page_of(row), "/admin/"):
        assert "to which this user was invited" in text_of(client.get(page)), page
    link = reverse("admin:users_builderuser_link", args=[row.pk])
    client.post(reverse("admin:users_builderuser_unlink", args=[row.pk]))
    client.post(link, {"clerk_id": account})
    assert place(row)[1] == account
    assert doubt_of(row) == note_of(account) == ""


def test_of_two_without_metadata_the_one_made_first_has_accepted(stories):
    row = stories.row("kim@example.com")
    invite(stories, row, "kim@example.com", "new_account")
    stories.begin()
    first = stories.account("kim@example.com")
    stories.sandbox.edit(first, email="kim.home@example.com")
    stories.account("kim@example.com")
    stories.tell_in_every_order()
    assert place(row) == ("kim.home@example.com", first)


def test_without_metadata_an_account_accepts_the_invitation_to_its_first_address(stories):
    """Both invited people leave their addresses, and each has both of them in the end."""
    rows = [stories.row("bob@example.com"), stories.row("cleo@example.com")]
    for row in reversed(rows):
        invite(stories, row, row.email, "new_account")
    stories.begin()
    bob, cleo = (stories.account(row.email) for row in rows)
    stories.sandbox.edit(cleo, email="parked@example.com")
    stories.sandbox.edit(bob, email="cleo@example.com")
    stories.sandbox.edit(cleo, email="bob@example.com")
    stories.tell_in_every_order()
    assert [place(row) for row in rows] == [("cleo@example.com", bob), ("bob@example.com", cleo)]
    assert [one.status for one in Invitation.objects.all()] == ["accepted", "accepted"]


def test_an_account_that_moves_to_another_invited_address_accepts_one_invitation(stories):
    rows = [stories.row("bob@example.com"), stories.row("cleo@example.com")]
    for row in rows:
        invite(stories, row, row.email, "new_account")
    stories.begin()
    account = stories.account("cleo@example.com")
    stories.sandbox.edit(account, email="bob@example.com")
    stories.tell_in_every_order()
    assert [row.clerk_id for row in BuilderUser.objects.order_by("email")] == [None, account]
    status = dict(Invitation.objects.values_list("email", "status"))
    assert status == {"bob@example.com": "pending", "cleo@example.com": "accepted"}


def test_an_account_that_only_moved_to_the_invited_address_is_shown_to_staff(client, stories):
    """The account that the row has is not given up, nor banned, for a guess."""
    row = stories.linked("kim@example.com", name="Kim King")
    invite(stories, row, "kim.home@example.com", "email_change")
    stories.begin()
    account = stories.account("somebody@example.com")
    stories.sandbox.edit(account, email="kim.home@example.com")
    stories.tell_in_every_order()
    assert place(row) == ("kim@example.com", row.clerk_id)
    assert Invitation.objects.get().status == "pending"
    assert f"{account} has kim.home@example.com, to which this user was invited." in doubt_of(row)
    assert "It has the email to which Kim King was invited." in note_of(account)
    assert "had another email before" in text_of(client.get(page_of(row)))


def test_a_sign_in_does_not_keep_an_account_that_left_the_address_before(client, stories):
    row = stories.row("ann@example.com")
    account = stories.account("bob@example.com")
    stories.tell()
    maintenance.run()
    client.post(page_of(row), form_of(row, email="bob@example.com"))
    assert place(row) == ("bob@example.com", account)
    stories.now = timezone.now()
    stories.begin()
    stories.sandbox.edit(account, email_addresses=[], primary_email_address_id=None)
    stories.sandbox.sign_in(account)
    stories.tell_in_every_order()
    assert place(row) == ("bob@example.com", None)


def test_an_earlier_holder_does_not_get_a_row_that_staff_give_the_address_before_it_is_observed(
    client, stories
):
    """Another application inserts the row, and staff change its email within the same minute."""
    row = stories.row("ann@example.com")
    account = stories.account("bob@example.com")
    stories.sandbox.edit(account, email="bob.home@example.com")
    stories.tell()
    client.post(page_of(row), form_of(row, email="bob@example.com"))
    maintenance.run()
    assert place(row) == ("bob@example.com", None)
    assert Agreement.objects.get(user=row).own_email_since > row.created_at


def test_a_row_that_lost_its_account_has_the_last_email_of_it_in_any_order(client, stories):
    """Its own email is held by another row. It gets it back when that row leaves it."""
    row, other = stories.row("bob@example.com"), stories.row("ann@example.com")
    account = stories.account("bob@example.com")
    stories.sandbox.edit(account, email="bob.home@example.com")
    stories.tell()
    assert place(row) == ("bob.home@example.com", account)
    change_here(other, email="bob@example.com")
    maintenance.run()
    stories.begin()
    stories.sandbox.edit(account, email="bob.away@example.com")
    stories.sandbox.delete(account)
    stories.account("bob.away@example.com")
    stories.tell_in_every_order()
    assert place(row) == ("bob.away@example.com", None)
    other.refresh_from_db()
    client.post(page_of(other), form_of(other, email="ann@example.com"))
    assert place(row) == ("bob@example.com", None)
    assert Agreement.objects.get(pk=row.pk).decided_link is None


def test_eight_threads_that_tell_each_event_twice_end_as_the_sequence(stories):
    """People who swap, pass on and leave addresses, an invitation, and one who is deleted."""
    a, b = stories.linked("a@example.com"), stories.linked("b@example.com")
    stories.row("c@example.com")
    d = stories.row("d@example.com")
    e = stories.linked("e@example.com")
    metadata = invite(stories, e, "e.new@example.com", "email_change")
    stories.begin()
    stories.sandbox.edit(a.clerk_id, email="parked@example.com")
    stories.sandbox.edit(b.clerk_id, email="a@example.com", last_name="Swapped")
    stories.sandbox.edit(a.clerk_id, email="b@example.com")
    first = stories.account("c@example.com")
    stories.sandbox.edit(first, email="c.home@example.com")
    stories.account("c@example.com")
    again = stories.account("d@example.com")
    stories.sandbox.delete(again)
    living = stories.account("d@example.com")
    stories.account("e.new@example.com", public_metadata=metadata)
    stories.sandbox.edit(e.clerk_id, last_name="Older")
    stories.tell_at_once()
    assert place(a)[0] == "b@example.com"
    assert place(b)[0] == "a@example.com"
    assert place(d) == ("d@example.com", living)
    assert place(e)[0] == "e.new@example.com"
