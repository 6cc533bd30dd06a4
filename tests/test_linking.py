"""Which account belongs to which row, when somebody or something tries to make it the wrong one."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from tests.support.change_form import stored, text_of
from tests.support.events import arrive, happened, post
from tests.support.factories import (
    BuilderUserFactory,
    StaffFactory,
    change_here,
    delete_here,
    linked,
)
from users.clerk import ClerkUser
from users.models import BuilderUser, ClerkAccount, Invitation
from users.sync import maintenance
from users.sync.inbound.reconcile import TOO_LARGE
from users.sync.mirror import store

pytestmark = pytest.mark.django_db(transaction=True)


def note_of(account) -> str:
    known = ClerkAccount.objects.get(pk=account["id"])
    assert known.user is None
    return known.note


def test_a_verified_primary_email_ignoring_case(sandbox):
    row = BuilderUserFactory(email="ann@example.com")
    account = sandbox.add_user(email="ANN@Example.com")
    arrive(sandbox)
    assert stored(row).clerk_id == account["id"]
    assert ClerkAccount.objects.get().user == row


def test_a_bare_id_of_ours_proves_nothing(sandbox):
    named, other = BuilderUserFactory(email="a@example.com"), BuilderUserFactory(email="b@x.org")
    account = sandbox.add_user(email="b@x.org", public_metadata={"cascade_user_id": str(named.pk)})
    arrive(sandbox)
    assert not stored(named).linked
    assert stored(other).clerk_id == account["id"]


@pytest.mark.parametrize("where", ["unsafe_metadata", "private_metadata"])
def test_only_public_metadata_counts(sandbox, where):
    """A person can write unsafe metadata from their own browser."""
    row = BuilderUserFactory(email="ann@example.com")
    sandbox.add_user(email="mallory@example.com", **{where: {"cascade_user_id": str(row.pk)}})
    arrive(sandbox)
    assert not stored(row).linked


@pytest.mark.parametrize("claim", ["", "1", "not-an-id", None, [], {"a": 1}, str(uuid.UUID(int=7))])
def test_a_claim_of_nobody(sandbox, claim):
    row = BuilderUserFactory(email="ann@example.com")
    sandbox.add_user(email="mallory@example.com", public_metadata={"cascade_user_id": claim})
    arrive(sandbox)
    assert not stored(row).linked


def test_an_unverified_address_proves_nothing(sandbox):
    row = BuilderUserFactory(email="ann@example.com")
    account = sandbox.add_user(email="ann@example.com", verified=False)
    arrive(sandbox)
    assert not stored(row).linked
    assert "is not verified" in note_of(account)


def test_a_second_address_proves_nothing(sandbox):
    """Only the primary one is the person's way to sign in."""
    row = BuilderUserFactory(email="ann@example.com")
    account = sandbox.add_user(email="mallory@example.com")
    happened(sandbox)
    emails = [*account["email_addresses"], dict(account["email_addresses"][0], id="idn_2",
                                                email_address="ann@example.com")]  # fmt: skip
    sandbox.edit(account["id"], email_addresses=emails)
    arrive(sandbox)
    assert not stored(row).linked


def test_no_primary_address_at_all(sandbox):
    row = BuilderUserFactory(email="ann@example.com")
    account = sandbox.add_user(email="ann@example.com")
    happened(sandbox)
    sandbox.edit(account["id"], primary_email_address_id=None)
    arrive(sandbox)
    assert not stored(row).linked


def test_twins_by_case_link_nobody(sandbox):
    """Old rows, from before the table refused them."""
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX users_email_lower_unique")
    try:
        rows = [BuilderUserFactory(email="ann@example.com"), BuilderUserFactory(email="Ann@x.org")]
        change_here(rows[1], email="Ann@Example.com")
        account = sandbox.add_user(email="ann@example.com")
        arrive(sandbox)
        assert not any(stored(row).linked for row in rows)
        assert "Several builder users" in note_of(account)
    finally:
        delete_here()
        with connection.cursor() as cursor:
            cursor.execute("CREATE UNIQUE INDEX users_email_lower_unique ON users (lower(email))")


def test_the_address_of_a_staff_member_is_nothing_special(sandbox):
    StaffFactory(email="staff@example.com")
    account = sandbox.add_user(email="staff@example.com")
    arrive(sandbox)
    assert note_of(account) == ""
    assert not BuilderUser.objects.exists()


def test_a_second_account_gets_nothing(client, sandbox):
    user = linked(sandbox, email="ann@example.com")
    claim = {"cascade_user_id": str(user.pk)}
    second = sandbox.add_user(email="second@example.com", public_metadata=claim)
    arrive(sandbox)
    assert stored(user).clerk_id == user.clerk_id
    assert "has another Clerk account" in note_of(second)
    page = client.get("/admin/users/clerkaccount/?note__isempty=0")
    assert "has another Clerk account" in text_of(page)


def test_an_account_that_was_made_again_has_the_row(sandbox):
    user = linked(sandbox, email="ann@example.com")
    sandbox.delete(user.clerk_id)
    again = sandbox.add_user(email="ann@example.com")
    arrive(sandbox)
    assert stored(user).clerk_id == again["id"]


def test_an_administrators_account_that_was_made_again_is_for_a_person_to_link(sandbox):
    user = linked(sandbox, email="ann@example.com", role="ADMIN")
    sandbox.delete(user.clerk_id)
    again = sandbox.add_user(email="ann@example.com")
    arrive(sandbox)
    assert stored(user).clerk_id == user.clerk_id
    assert "link this one by hand" in note_of(again)
    assert "link it if it is the same person" in stored(user).agreement.note


def test_a_banned_account_is_not_linked(sandbox):
    row = BuilderUserFactory(email="ann@example.com")
    sandbox.add_user(email="ann@example.com", banned=True)
    arrive(sandbox)
    assert not stored(row).linked


def test_an_account_that_staff_unlinked_stays_so(sandbox):
    from users.sync.operations import Unlink
    from users.sync.outbound.dual_write import dual_write

    user = linked(sandbox, email="ann@example.com")
    dual_write(Unlink.of(user), user, actor=None, source="admin")
    assert not stored(user).linked
    sandbox.edit(user.clerk_id, first_name="Ann")
    sandbox.sign_in(user.clerk_id)
    arrive(sandbox)
    assert not stored(user).linked
    assert ClerkAccount.objects.get().note == ""


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1)])
def test_two_people_swap_their_addresses(sandbox, order):
    """Clerk's addresses are unique, so one of them parks at a third one meanwhile."""
    ann, bob = linked(sandbox, email="ann@example.com"), linked(sandbox, email="bob@example.com")
    happened(sandbox)
    sandbox.edit(ann.clerk_id, email="parked@example.com")
    sandbox.edit(bob.clerk_id, email="ann@example.com")
    sandbox.edit(ann.clerk_id, email="bob@example.com")
    events = happened(sandbox)
    for number in order:
        assert post(sandbox, events[number]).status_code == 200
    for user, email in ((ann, "bob@example.com"), (bob, "ann@example.com")):
        assert stored(user).clerk_id == user.clerk_id
        known = ClerkAccount.objects.get(pk=user.clerk_id)
        assert known.email == email
        # Followed, or shown: never silent and never the other's account.
        assert stored(user).email == email or "is already used by" in known.note


def test_an_account_cannot_be_taken_from_a_row(sandbox):
    """Its primary address became another row's: the link stays with the account's id."""
    user, other = linked(sandbox, email="ann@example.com"), BuilderUserFactory(email="bob@x.org")
    happened(sandbox)
    sandbox.edit(user.clerk_id, email="bob@x.org")
    arrive(sandbox)
    assert stored(user).clerk_id == user.clerk_id
    assert not stored(other).linked


@pytest.mark.parametrize(
    "address",
    [
        "ann+x@example.com",  # another mailbox, for all that Clerk says
        "an.n@example.com",
        "ann@example.com.evil.org",
        "\u0430nn@example.com",  # a Cyrillic a
        "ann@ex\u0430mple.com",
        "\uff41nn@example.com",  # full-width
        "\u0131nn@example.com",  # a dotless i
        "\u212aim@example.com",  # the Kelvin sign
        "ann@example.co",
        "ann@example.com ann@x.org",
        "ann%@example.com",
        "_nn@example.com",  # a wildcard of LIKE
    ],
)
def test_an_address_that_looks_alike_is_another_one(sandbox, address):
    rows = [
        BuilderUserFactory(email="ann@example.com"),
        BuilderUserFactory(email="inn@example.com"),
    ]
    sandbox.add_user(email=address)
    arrive(sandbox)
    assert not any(stored(row).linked for row in rows)
    assert stored(rows[0]).email == "ann@example.com"


def test_a_row_with_a_wildcard_is_found_by_itself_alone(sandbox):
    row = BuilderUserFactory(email="a%@example.com")
    sandbox.add_user(email="ann@example.com")
    arrive(sandbox)
    assert not stored(row).linked
    account = sandbox.add_user(email="A%@example.com")
    arrive(sandbox)
    assert stored(row).clerk_id == account["id"]


def test_metadata_with_the_id_of_somebody_who_is_linked(sandbox):
    """And an address of a third: the address counts, and a bare id nothing."""
    user, third = linked(sandbox, email="ann@example.com"), BuilderUserFactory(email="c@x.org")
    claim = {"cascade_user_id": str(user.pk)}
    account = sandbox.add_user(email="c@x.org", public_metadata=claim)
    arrive(sandbox)
    assert stored(user).clerk_id == user.clerk_id
    assert stored(third).clerk_id == account["id"]


def invited_to(user, email: str) -> dict[str, str]:
    """The metadata with which an account comes from an invitation to a new email of the user."""
    invitation = Invitation.objects.create(user=user, email=email, purpose="email_change")
    return {"cascade_user_id": str(user.pk), "cascade_invitation": str(invitation.reference)}


@pytest.mark.parametrize("email", ["mallory@example.com", "other@example.com"])
def test_metadata_of_an_invitation_to_another_address(sandbox, email):
    """Who was invited at one address does not become the user with another."""
    user = linked(sandbox, email="ann@example.com")
    metadata = invited_to(user, "ann.new@example.com")
    account = sandbox.add_user(email=email, public_metadata=metadata)
    arrive(sandbox)
    assert stored(user).clerk_id == user.clerk_id
    assert note_of(account)


def test_an_invitation_is_accepted_once(sandbox):
    """A second account with the same metadata does not take the user from the first."""
    user = linked(sandbox, email="ann@example.com")
    metadata = invited_to(user, "ann.new@example.com")
    first = sandbox.add_user(email="ann.new@example.com", public_metadata=metadata)
    arrive(sandbox)
    sandbox.edit(first["id"], email="ann.third@example.com")
    second = sandbox.add_user(email="ann.new@example.com", public_metadata=metadata)
    arrive(sandbox)
    assert stored(user).clerk_id == first["id"]
    assert note_of(second)


def test_an_invitation_whose_address_is_not_verified(sandbox):
    """An expired link leads to an ordinary sign-up, which proves nothing of the address."""
    user = linked(sandbox, email="ann@example.com")
    metadata = invited_to(user, "ann.new@example.com")
    account = sandbox.add_user(
        email="ann.new@example.com", verified=False, public_metadata=metadata
    )
    arrive(sandbox)
    assert stored(user).clerk_id == user.clerk_id
    assert note_of(account)


def test_the_address_of_staff_gives_no_account_here(sandbox):
    """A staff member's own sign-in of Cascade has nothing to do with Clerk's."""
    staff = StaffFactory(email="staff@example.com", username="staff@example.com")
    row = BuilderUserFactory(email="staff@example.com")
    account = sandbox.add_user(email="staff@example.com")
    arrive(sandbox)
    assert stored(row).clerk_id == account["id"]
    staff.refresh_from_db()
    assert (staff.email, staff.is_superuser) == ("staff@example.com", True)


def test_who_got_the_address_that_somebody_left_does_not_get_their_row(sandbox):
    """The person moved on long ago and was deleted; a stranger has their first address since."""
    user = linked(sandbox, email="ann@example.com")
    sandbox.edit(user.clerk_id, email="ann.home@example.com")
    arrive(sandbox)
    long_ago = timezone.now() - timedelta(hours=29)
    BuilderUser.objects.filter(pk=user.pk).update(updated_at=long_ago)
    stranger = sandbox.add_user(email="ann@example.com")
    sandbox.delete(user.clerk_id)
    arrive(sandbox)
    assert stored(user).clerk_id == user.clerk_id
    assert stored(user).email == "ann.home@example.com"
    assert not ClerkAccount.objects.filter(pk=stranger["id"], user__isnull=False).exists()


def test_who_got_the_address_of_an_unlinked_user_before_they_moved_gets_nothing(client, sandbox):
    user = linked(sandbox, email="ann@example.com")
    sandbox.edit(user.clerk_id, email="ann.home@example.com")
    arrive(sandbox)
    client.post(f"/admin/users/builderuser/{user.pk}/unlink/")
    sandbox.add_user(email="ann@example.com")
    arrive(sandbox)
    assert not stored(user).linked
    assert stored(user).email == "ann.home@example.com"


def test_many_accounts_that_name_one_user_keep_nobody_waiting(sandbox, monkeypatch):
    """Anybody can write the id of a user into the metadata of their account."""
    monkeypatch.setattr("users.sync.inbound.loading.LARGEST_GROUP", 40)
    user, other = linked(sandbox, email="ann@example.com"), linked(sandbox, email="bob@example.com")
    happened(sandbox)
    for n in range(60):
        sandbox.add_user(
            email=f"m{n}@example.com", public_metadata={"cascade_user_id": str(user.pk)}
        )
    sandbox.edit(user.clerk_id, last_name="Jones")
    sandbox.edit(other.clerk_id, last_name="Brown")
    arrive(sandbox)
    assert (stored(user).name, stored(other).name) == ("Mary Ann Jones", "Mary Ann Brown")
    assert not ClerkAccount.objects.filter(reconcile_due=True).exists()


def test_what_is_too_much_at_once_keeps_nobody_else_waiting(sandbox, monkeypatch):
    """The worker takes the accounts that are due together; then each alone."""
    monkeypatch.setattr("users.sync.inbound.loading.LARGEST_GROUP", 4)
    users = [linked(sandbox, email=f"m{n}@example.com") for n in range(4)]
    for user in users:
        sandbox.edit(user.clerk_id, last_name="Jones")
        store.keep(ClerkUser.parse(sandbox.user(user.clerk_id), asked_at=timezone.now()))
    maintenance.run()
    assert {stored(user).name for user in users} == {"Mary Ann Jones"}


def test_what_is_too_much_even_alone_is_shown_to_staff_until_it_can_be_decided(
    client, sandbox, monkeypatch
):
    user = linked(sandbox, email="ann@example.com")
    for n in range(9):
        sandbox.edit(user.clerk_id, email=f"ann{n}@example.com")
    arrive(sandbox)
    sandbox.edit(user.clerk_id, last_name="Jones")
    with monkeypatch.context() as patched:
        patched.setattr("users.sync.inbound.loading.LARGEST_GROUP", 8)
        arrive(sandbox)
        maintenance.run()
        assert stored(user).name == "Mary Ann Smith"
        for page in ("/admin/", user.get_absolute_url()):
            assert TOO_LARGE in text_of(client.get(page)), page
        assert not ClerkAccount.objects.filter(reconcile_due=True).exists()
    sandbox.edit(user.clerk_id, last_name="Brown")
    arrive(sandbox)
    assert stored(user).name == "Mary Ann Brown"
    for page in ("/admin/", user.get_absolute_url()):
        assert TOO_LARGE not in text_of(client.get(page)), page


def test_a_ban_does_not_revert_a_name_that_another_application_corrected(sandbox):
    row = BuilderUserFactory(email="ann@example.com", name="Mary Ann Smith")
    account = sandbox.add_user(email="ann@example.com", first_name="Mary Ann", last_name="Smith")
    arrive(sandbox)
    change_here(row, name="Mary Ann Jones")
    sandbox.edit(account["id"], banned=True)
    sandbox.edit(account["id"], banned=False)
    arrive(sandbox)
    assert stored(row).clerk_id == account["id"]
    assert stored(row).name == "Mary Ann Jones"
