"""What happens in Clerk reaches the row, its copy of Clerk's side, the journal and the history."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from itertools import permutations

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from tests.support.change_form import in_clerk, page_of, stored, submit, text_of
from tests.support.events import arrive, happened, post
from tests.support.factories import BuilderUserFactory, SyncAttemptFactory, linked
from tests.support.interruptions import elsewhere
from users.models import BuilderUser, ClerkAccount, Invitation, SyncAttempt, WebhookDelivery
from users.sync import maintenance

pytestmark = pytest.mark.django_db(transaction=True)


def known(clerk_id: str) -> ClerkAccount:
    return ClerkAccount.objects.get(pk=clerk_id)


def differences_of(client, row: BuilderUser) -> list[str]:
    """What the page of a user shows as different, a text for each field."""
    return re.findall(r'<tr class="differs">(.*?)</tr>', text_of(client.get(page_of(row))), re.S)


@pytest.fixture
def user(sandbox) -> BuilderUser:
    user = linked(sandbox, email="mary@example.com")
    happened(sandbox)
    return user


class TestUpdated:
    def test_a_name_follows(self, sandbox, user):
        sandbox.edit(user.clerk_id, first_name="Mary", last_name="Jones")
        arrive(sandbox)
        assert stored(user).name == "Mary Jones"
        assert stored(user).updated_at > user.updated_at
        attempt = SyncAttempt.objects.get()
        assert (attempt.source, attempt.status, attempt.actor) == ("webhook", "applied", None)
        assert attempt.changes == {"name": ["Mary Ann Smith", "Mary Jones"]}
        assert LogEntry.objects.get().user.username == "cascade"
        assert sandbox.requests() == []

    def test_an_email_follows(self, sandbox, user):
        sandbox.edit(user.clerk_id, email="New@Example.com")
        arrive(sandbox)
        assert stored(user).email == "new@example.com"
        assert known(user.clerk_id).email_verified

    def test_an_email_of_another_row_is_shown_and_no_loop(self, client, sandbox, user):
        other = BuilderUserFactory(name="Bob Brown", email="taken@example.com")
        sandbox.edit(user.clerk_id, email="taken@example.com", last_name="Jones")
        arrive(sandbox)
        assert (stored(user).name, stored(user).email) == ("Mary Ann Jones", "mary@example.com")
        assert stored(other).email == "taken@example.com"
        assert "is already used by Bob Brown (" in known(user.clerk_id).note
        assert WebhookDelivery.objects.get().processed_at
        assert "Doesn't match Clerk" in html.unescape(
            text_of(client.get("/admin/users/builderuser/"))
        )
        # The other one leaves the address: the next event takes it, and the note goes.
        other.delete()
        sandbox.edit(user.clerk_id, first_name="Mary")
        arrive(sandbox)
        assert stored(user).email == "taken@example.com"
        assert known(user.clerk_id).note == ""

    def test_a_name_that_the_row_cannot_hold_is_shown_and_no_loop(self, client, sandbox, user):
        sandbox.edit(user.clerk_id, first_name="x" * 250, email="new@example.com")
        arrive(sandbox)
        assert (stored(user).name, stored(user).email) == ("Mary Ann Smith", "new@example.com")
        assert known(user.clerk_id).note == "Its name is longer than 200 letters."
        assert WebhookDelivery.objects.get().processed_at
        assert "Doesn't match Clerk" in html.unescape(
            text_of(client.get("/admin/users/builderuser/"))
        )
        page = reverse("admin:users_builderuser_pull", args=[user.pk, "name"])
        assert client.post(page).status_code == 302
        assert stored(user).name == "Mary Ann Smith"

    def test_a_ban_is_known_and_journaled(self, client, sandbox, user):
        sandbox.edit(user.clerk_id, banned=True, image_url="https://img.example.com/new.png")
        arrive(sandbox)
        assert known(user.clerk_id).banned
        assert "Banned" in text_of(client.get("/admin/users/builderuser/"))
        assert SyncAttempt.objects.get().changes["banned"] == [False, True]
        assert not LogEntry.objects.exists()  # nothing changed about the row

    def test_an_echo_of_our_own_save_changes_nothing(self, client, sandbox, user):
        submit(client, user, name="Mary Ann Jones")
        saved = stored(user)
        arrive(sandbox)
        assert stored(user).updated_at == saved.updated_at
        assert SyncAttempt.objects.count() == LogEntry.objects.count() == 1

    def test_older_events_change_nothing(self, sandbox, user):
        for name in ("A", "B", "C"):
            sandbox.edit(user.clerk_id, last_name=name)
        for event in reversed(happened(sandbox)):
            post(sandbox, event)
        assert stored(user).name == "Mary Ann C"
        assert SyncAttempt.objects.count() == 1

    def test_the_example_of_clerks_dashboard_lacks_much(self, sandbox, user):
        sandbox.edit(user.clerk_id, last_name="Jones")
        [event] = happened(sandbox)
        for field in ("updated_at", "banned", "external_accounts", "password_enabled"):
            del event.payload["data"][field]
        for email in event.payload["data"]["email_addresses"]:
            del email["verification"]["object"]
        event.payload["timestamp"] = int(timezone.now().timestamp()) + 1  # in seconds
        post(sandbox, event)
        assert stored(user).name == "Mary Ann Jones"

    def test_an_open_form_is_told(self, client, sandbox, user):
        sandbox.edit(user.clerk_id, last_name="Jones")
        arrive(sandbox)
        response = submit(client, user, name="Mary Ann Brown")
        assert "changed by Clerk event since you opened the form" in text_of(response)
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")


class TestDeleted:
    def test_it_is_marked_and_the_row_stays(self, client, sandbox, user):
        sandbox.delete(user.clerk_id)
        arrive(sandbox)
        assert known(user.clerk_id).deleted_at
        assert "Deleted in Clerk" in text_of(client.get("/admin/users/builderuser/"))
        assert SyncAttempt.objects.get().changes == {"deleted in Clerk": [False, True]}

    def test_a_late_update_does_not_resurrect(self, client, sandbox, user):
        sandbox.edit(user.clerk_id, last_name="Jones")
        sandbox.delete(user.clerk_id)
        update, deletion = happened(sandbox)
        post(sandbox, deletion)
        post(sandbox, update)
        assert known(user.clerk_id).deleted_at
        assert "Deleted in Clerk" in text_of(client.get("/admin/users/builderuser/"))

    def test_one_that_was_never_seen(self, sandbox):
        row = BuilderUserFactory(email="ann@example.com")
        account = sandbox.add_user(email="ann@example.com")
        sandbox.delete(account["id"])
        creation, deletion = happened(sandbox)
        post(sandbox, deletion)
        post(sandbox, creation)
        # As if they had come in order: nobody is linked to the dead.
        assert not stored(row).linked
        assert known(account["id"]).deleted_at
        assert "was deleted" in stored(row).agreement.note

    def test_an_echo_of_our_own_delete(self, client, sandbox, user):
        client.post(f"/admin/users/builderuser/{user.pk}/delete/", {"post": "yes"})
        arrive(sandbox)
        assert not BuilderUser.objects.exists()
        assert SyncAttempt.objects.get().operation == "delete"


class TestSession:
    def test_it_brings_the_last_sign_in(self, sandbox, user):
        sandbox.sign_in(user.clerk_id)
        arrive(sandbox)
        assert known(user.clerk_id).last_sign_in_at
        assert not SyncAttempt.objects.exists()

    def test_it_backfills_a_missing_link(self, sandbox):
        row = BuilderUserFactory(email="ann@example.com")
        account = sandbox.add_user(email="Ann@example.com", first_name="Ann", last_name="Lee")
        happened(sandbox)  # its creation was lost
        sandbox.sign_in(account["id"])
        arrive(sandbox)
        assert stored(row).clerk_id == account["id"]


class TestTheNameOfAnAccountThatIsFound:
    """A row gets its account by the address. What staff called the person stays, unless the
    account had that name, too."""

    NAMES = (("Ann", "Lee"), ("Annie", "Lee"), ("Annie", "Roe"))

    @pytest.fixture
    def row(self, sandbox):
        return BuilderUserFactory(email="ann@example.com", name="Ann Lee")

    def renamed(self, sandbox, *names):
        """Let a person sign up, and rename themselves. Return their account and the events."""
        happened(sandbox)
        (first, last), *others = names
        account = sandbox.add_user(email="ann@example.com", first_name=first, last_name=last)
        for first, last in others:
            sandbox.edit(account["id"], first_name=first, last_name=last)
        return account["id"], happened(sandbox)

    @pytest.mark.parametrize("order", list(permutations(range(2))))
    def test_one_that_never_had_it_does_not_rename_the_row(self, client, sandbox, row, order):
        account, events = self.renamed(sandbox, *self.NAMES[1:])
        for number in order:
            assert post(sandbox, events[number]).status_code == 200
        assert (stored(row).clerk_id, stored(row).name) == (account, "Ann Lee")
        assert sandbox.user(account)["first_name"] == "Annie"
        [difference] = differences_of(client, row)
        assert "Ann Lee" in difference
        assert "Annie Roe" in difference
        submit(client, stored(row), name="Ann Lee-Roe")
        assert in_clerk(sandbox, stored(row)) == ("Ann", "Lee-Roe")
        assert stored(row).name == "Ann Lee-Roe"
        assert differences_of(client, row) == []

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_one_that_had_it_takes_the_row_along(self, client, sandbox, row, order):
        account, events = self.renamed(sandbox, *self.NAMES)
        for number in order:
            assert post(sandbox, events[number]).status_code == 200
        assert (stored(row).clerk_id, stored(row).name) == (account, "Annie Roe")
        assert differences_of(client, row) == []


class TestUnfinished:
    """A change whose process died, and an event that comes before recovery does."""

    def test_the_event_proves_it(self, sandbox, staff, user):
        attempt = SyncAttemptFactory(
            user=user, actor=staff, changes={"name": ["Mary Ann Smith", "Mary Ann Jones"]}
        )
        sandbox.edit(user.clerk_id, last_name="Jones")
        arrive(sandbox)
        attempt.refresh_from_db()
        assert attempt.status == "applied"
        assert stored(user).name == "Mary Ann Jones"
        assert LogEntry.objects.get().user == staff
        assert SyncAttempt.objects.count() == 1
        assert sandbox.requests() == []

    def test_a_create_is_proved_by_its_account(self, sandbox, staff):
        row = BuilderUserFactory.build(name="Zoë Berg", email="zoe@example.com")
        SyncAttemptFactory(
            operation="create", user_id=row.pk, actor=staff,
            changes={"name": [None, "Zoë Berg"], "email": [None, "zoe@example.com"],
                     "role": [None, "BUILDER"]},
            details={"user_id": str(row.pk), "account": "create"},
        )  # fmt: skip
        account = sandbox.add_user(
            email="zoe@example.com", first_name="Zoë", last_name="Berg",
            public_metadata={"cascade_user_id": str(row.pk)},
        )  # fmt: skip
        arrive(sandbox)
        assert stored(row).clerk_id == account["id"]
        assert LogEntry.objects.get().user == staff
        assert known(account["id"]).user == stored(row)

    def test_a_deletion_ends_what_was_wanted_of_the_user(self, sandbox, user):
        edit = SyncAttemptFactory(user=user, changes={"name": ["Mary Ann Smith", "Bob"]})
        sandbox.delete(user.clerk_id)
        arrive(sandbox)
        edit.refresh_from_db()
        assert edit.status == "dropped"
        assert known(user.clerk_id).deleted_at

    def test_a_deletion_that_was_ours(self, sandbox, user):
        SyncAttemptFactory(
            operation="delete", user=user, changes={"email": [user.email, None]},
            details={"user_id": str(user.pk)},
        )  # fmt: skip
        sandbox.delete(user.clerk_id)
        arrive(sandbox)
        assert not BuilderUser.objects.exists()
        assert LogEntry.objects.get().is_deletion()

    def test_a_row_that_is_being_saved_follows_afterwards(self, sandbox, user):
        """What Clerk has is known at once; nobody waits for the save."""
        sandbox.edit(user.clerk_id, last_name="Jones")
        with elsewhere(lambda: BuilderUser.objects.select_for_update().get(pk=user.pk)):
            assert arrive(sandbox) == ["ok"]
            assert known(user.clerk_id).last_name == "Jones"
            assert stored(user).name == "Mary Ann Smith"
        maintenance.run()
        assert stored(user).name == "Mary Ann Jones"


class TestInvited:
    def invited(self, sandbox, row, *, email, purpose):
        invitation = Invitation.objects.create(user=row, email=email, purpose=purpose)
        return invitation, {
            "cascade_user_id": str(row.pk),
            "cascade_invitation": str(invitation.reference),
        }

    def test_a_new_account_is_linked(self, sandbox):
        row = BuilderUserFactory(name="Ann Lee", email="ann@example.com")
        invitation, metadata = self.invited(
            sandbox, row, email="ann@example.com", purpose="new_account"
        )
        account = sandbox.add_user(email="ann@example.com", public_metadata=metadata)
        arrive(sandbox)
        assert stored(row).clerk_id == account["id"]
        assert stored(row).name == "Ann Lee"  # the account has no name yet
        invitation.refresh_from_db()
        assert invitation.status == "accepted"
        # Clerk gets the name afterwards.
        maintenance.run()
        assert in_clerk(sandbox, stored(row)) == ("Ann", "Lee")
        assert sandbox.user(account["id"])["public_metadata"] == metadata

    def test_a_change_of_email_takes_the_new_account_and_bans_the_old(self, sandbox, user):
        invitation, metadata = self.invited(
            sandbox, user, email="new@example.com", purpose="email_change"
        )
        account = sandbox.add_user(
            email="new@example.com", first_name="Mary Ann", last_name="Smith",
            public_metadata=metadata,
        )  # fmt: skip
        arrive(sandbox)
        assert (stored(user).clerk_id, stored(user).email) == (account["id"], "new@example.com")
        invitation.refresh_from_db()
        assert invitation.status == "accepted"
        assert sandbox.requests() == []  # an event asks nobody
        maintenance.run()
        assert sandbox.user(user.clerk_id)["banned"]
        assert not known(user.clerk_id).ban_due
        # The old account's events are nobody's business any more.
        arrive(sandbox)
        assert known(user.clerk_id).note == ""
        assert stored(user).clerk_id == account["id"]
        assert sandbox.find("mary@example.com")[0]["banned"]

    def test_a_plan_without_bans_is_told(self, sandbox, user):
        _, metadata = self.invited(sandbox, user, email="new@example.com", purpose="email_change")
        sandbox.add_user(email="new@example.com", public_metadata=metadata)
        arrive(sandbox)
        sandbox.fault(
            "POST /users/{user_id}/ban",
            "status",
            status=402,
            times=None,
            code="unsupported_subscription_plan_features",
            message="Not in your plan.",
        )
        assert any("could not be banned" in note for note in maintenance.run().notes)
        assert "The plan of this Clerk instance does not include this" in known(user.clerk_id).note
        # Not each minute: an hour later, and then with the plan that has it.
        tries = SyncAttempt.objects.filter(operation="ban")
        assert maintenance.run().notes == []
        assert tries.count() == 1
        tries.update(started_at=timezone.now() - timedelta(hours=2))
        sandbox.clear_faults()
        assert any("banned, as" in note for note in maintenance.run().notes)
        assert sandbox.user(user.clerk_id)["banned"]

    def test_a_revoked_invitation_does_not_replace(self, sandbox, user):
        _, metadata = self.invited(sandbox, user, email="new@example.com", purpose="email_change")
        Invitation.objects.update(status="revoked")
        account = sandbox.add_user(email="new@example.com", public_metadata=metadata)
        arrive(sandbox)
        assert stored(user).clerk_id == user.clerk_id
        assert "has another Clerk account" in known(account["id"]).note

    def test_the_address_was_taken_meanwhile(self, sandbox, user):
        _, metadata = self.invited(sandbox, user, email="new@example.com", purpose="email_change")
        BuilderUserFactory(email="new@example.com")
        account = sandbox.add_user(email="new@example.com", public_metadata=metadata)
        arrive(sandbox)
        assert stored(user).clerk_id == user.clerk_id
        assert "another builder user has its email" in known(account["id"]).note
