"""Invitations: sent, waiting, again, revoked, expired, accepted; and the change of an email."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sandbox import Limits
from tests.support.change_form import form_of, page_of, said, stored, text_of
from tests.support.events import arrive, happened
from tests.support.factories import (
    BuilderUserFactory,
    StaffFactory,
    SyncAttemptFactory,
    change_here,
    delete_here,
    linked,
)
from tests.support.interruptions import at_step, elsewhere, in_thread
from tests.support.personas import browser_of, client_who_may, staff_who_may
from tests.support.unknown import NOT_CONFIRMED, time_is_over
from tests.support.user_list import shown
from users.models import BuilderUser, Invitation, SyncAttempt
from users.sync import maintenance
from users.sync.mirror.status import UserStatus
from users.sync.outbound import checkpoints
from users.sync.services import invitation_limit

pytestmark = pytest.mark.django_db(transaction=True)

ADD = "/admin/users/builderuser/add/"
LIST = "/admin/users/invitation/"
USERS = "/admin/users/builderuser/"
REVOKE = "POST /invitations/{invitation_id}/revoke"


def new(**fields):
    return {"name": "Ann Lee", "email": "Ann@Example.com", "role": "BUILDER", **fields}


def invite(client, user):
    return client.post(reverse("admin:users_builderuser_invite", args=[user.pk]))


def change_email(client, user, **fields):
    page = reverse("admin:users_builderuser_email", args=[user.pk])
    return client.post(page, {"email": "new@example.com", "how": "invite", **fields})


def only() -> Invitation:
    return Invitation.objects.get()


def badges(client, user) -> list[str]:
    """The badges in the header of the form."""
    page = text_of(client.get(page_of(user)))
    header = page[page.index('<header class="person">') :].split("</header>")[0]
    return re.findall(r'<span class="state[^>]*>([^<]+)</span>', header)


def expire(sandbox) -> None:
    """Let the time of every open invitation end, here and in Clerk."""
    Invitation.objects.update(expires_at=timezone.now())
    with sandbox.state.lock:
        for known in sandbox.state.invitations.values():
            known["expires_at"] = 1


class TestTheStateOfAPersonWithoutAnAccount:
    """The list, its filter, the home page, the form and the export call an invited person so."""

    def state(self, client, user) -> str:
        """The state in the list, which all other places agree with."""
        state = shown(client)[user.email]
        assert list(shown(client, clerk=state)) == [user.email]
        label = UserStatus(state).label
        assert f'<span class="state state-{state}">{label}</span>' in text_of(client.get(USERS))
        bars = client.get("/admin/").context["home"]["states"]
        assert [(one.label, one.amount) for one in bars if one.amount] == [(label, 1)]
        assert badges(client, user)[0] == label
        content = b"".join(client.get(f"{USERS}export/").streaming_content).decode("utf-8-sig")
        assert [row["sign_in_state"] for row in csv.DictReader(io.StringIO(content))] == [state]
        return state

    @pytest.fixture
    def user(self, client, sandbox):
        return BuilderUserFactory(name="Ann Lee", email="ann@example.com")

    def test_invited_and_accepted(self, client, sandbox, user):
        assert self.state(client, user) == "not_linked"
        invite(client, user)
        assert self.state(client, user) == "invited"
        sandbox.accept(sandbox.invitations()[0]["id"], first_name="Ann", last_name="Lee")
        assert self.state(client, user) == "invited"
        arrive(sandbox)
        assert self.state(client, user) == "in_step"

    def test_revoked_and_invited_again(self, client, sandbox, user):
        invite(client, user)
        client.post(reverse("admin:users_invitation_revoke", args=[only().pk]))
        assert self.state(client, user) == "not_linked"
        client.post(reverse("admin:users_invitation_resend", args=[only().pk]))
        assert self.state(client, user) == "invited"

    def test_expired_without_an_event_within_the_minute_of_the_worker(self, client, sandbox, user):
        invite(client, user)
        expire(sandbox)
        assert self.state(client, user) == "invited"
        maintenance.run()
        assert self.state(client, user) == "not_linked"

    def test_one_that_waits_for_clerks_limit_is_not_sent_yet(
        self, client, sandbox, monkeypatch, user
    ):
        monkeypatch.setattr(invitation_limit, "PER_HOUR", 1)
        other = BuilderUserFactory(name="Bob", email="bob@example.com")
        invite(client, other)
        invite(client, user)
        assert shown(client) == {"bob@example.com": "invited", "ann@example.com": "not_linked"}
        assert badges(client, user) == ["No Clerk account", "Invitation waits"]
        row = text_of(client.get(USERS, {"q": "ann@"}))
        assert '<span class="state state-waiting">Invitation waits</span>' in row
        monkeypatch.setattr(invitation_limit, "PER_HOUR", 100)
        Invitation.objects.filter(status="waiting").update(send_after=timezone.now())
        maintenance.run()
        assert shown(client) == {"bob@example.com": "invited", "ann@example.com": "invited"}
        assert "Invitation waits" not in text_of(client.get(USERS, {"q": "ann@"}))

    def test_who_has_an_account_and_is_invited_to_another_email_keeps_the_state(
        self, client, sandbox
    ):
        user = linked(sandbox)
        change_email(client, user)
        assert only().status == "pending"
        assert shown(client) == {user.email: "in_step"}


class TestNewUser:
    def test_inviting_is_the_default_of_the_add_form(self, client, sandbox, staff):
        response = client.post(ADD, new())
        assert response.status_code == 302
        user = BuilderUser.objects.get()
        assert (user.email, user.linked) == ("ann@example.com", False)
        [write] = sandbox.writes()
        assert (write.method, write.path) == ("POST", "/invitations")
        assert write.body["public_metadata"] == {
            "cascade_user_id": str(user.pk),
            "cascade_invitation": str(only().reference),
        }
        assert (only().status, only().invited_by) == ("pending", staff)
        assert only().clerk_invitation_id == sandbox.invitations()[0]["id"]
        assert only().expires_at > timezone.now() + timedelta(days=29)
        assert LogEntry.objects.get().is_addition()
        assert sandbox.mails()[0]["to"] == "ann@example.com"

    def test_accepted_and_linked(self, client, sandbox):
        client.post(ADD, new())
        account = sandbox.accept(sandbox.invitations()[0]["id"], first_name="Ann", last_name="Lee")
        arrive(sandbox)
        user = BuilderUser.objects.get()
        assert user.clerk_id == account["id"]
        assert only().status == "accepted"
        assert "Matches Clerk" in text_of(client.get("/admin/users/builderuser/"))

    def test_if_clerk_refuses_nothing_is_saved(self, client, sandbox):
        sandbox.add_user(email="ann@example.com")
        response = client.post(ADD, new())
        assert "That email address is taken" in text_of(response)
        assert 'value="Ann Lee"' in text_of(response)
        assert not BuilderUser.objects.exists()
        assert not Invitation.objects.exists()
        assert SyncAttempt.objects.get().status == "refused"

    def test_an_invitation_that_clerk_has_already(self, client, sandbox):
        client.post(ADD, new())
        delete_here()
        response = client.post(ADD, new())
        assert "has a pending invitation to this address already" in text_of(response)
        assert not BuilderUser.objects.exists()

    def test_an_answer_that_is_lost(self, client, sandbox):
        sandbox.fault("POST /invitations", "reset", apply=True)
        client.post(ADD, new())
        assert only().clerk_invitation_id == sandbox.invitations()[0]["id"]
        assert SyncAttempt.objects.get().status == "applied"
        assert len(sandbox.mails()) == 1

    def test_a_late_one_is_shown_although_the_user_was_added_without_it(self, client, sandbox):
        sandbox.fault("POST /invitations", "late", seconds=None, status=504)
        assert NOT_CONFIRMED in text_of(client.post(ADD, new()))
        client.post(ADD, new(account="none"))
        sandbox.apply_late()
        maintenance.run()
        user = BuilderUser.objects.get()
        assert (only().user, only().status) == (user, "pending")
        assert only().clerk_invitation_id == sandbox.invitations()[0]["id"]
        revoke = reverse("admin:users_invitation_revoke", args=[only().pk])
        assert revoke in text_of(client.get(page_of(user)))

    def test_who_may_not_invite_creates(self, sandbox):
        other = StaffFactory(is_superuser=False)
        other.user_permissions.set(
            Permission.objects.filter(codename__in=["add_builderuser", "create_account"])
        )
        client = Client()
        client.force_login(other)
        assert "Invite:" not in text_of(client.get(ADD))
        refused = client.post(ADD, new(account="invite"))
        [why] = refused.context["adminform"].form.errors["account"]
        assert why.startswith("You don't have permission for this. Ask an administrator.")
        assert not BuilderUser.objects.exists()
        client.post(ADD, new())
        assert BuilderUser.objects.get().linked
        assert not Invitation.objects.exists()


class TestNeverLinked:
    def test_invited_from_the_form(self, client, sandbox):
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        assert only().purpose == "new_account"
        page = text_of(client.get(page_of(user)))
        assert "An invitation to ann@example.com is open until" in page.replace(
            "<strong>", ""
        ).replace("</strong>", "")
        assert "has an open invitation" in text_of(invite(client, user))
        assert len(sandbox.mails()) == 1

    def test_the_header_says_once_that_a_person_without_an_account_is_invited(
        self, client, sandbox
    ):
        user = BuilderUserFactory()
        assert badges(client, user) == ["No Clerk account"]
        invite(client, user)
        assert badges(client, user) == ["Invited"]
        assert sandbox.invitations()[0]["status"] == "pending"

    def test_sent_again(self, client, sandbox):
        user = BuilderUserFactory()
        invite(client, user)
        first = only()
        page = reverse("admin:users_invitation_resend", args=[first.pk])
        assert "a new one to the same address" in text_of(client.get(page))
        client.post(page)
        old, new = Invitation.objects.order_by("id")
        assert (old.status, new.status) == ("revoked", "pending")
        assert sorted(known["status"] for known in sandbox.invitations()) == ["pending", "revoked"]

    def test_sent_again_from_the_form(self, client, sandbox):
        user = BuilderUserFactory()
        invite(client, user)
        page = text_of(client.get(page_of(user)))
        assert reverse("admin:users_invitation_resend", args=[only().pk]) in page
        assert reverse("admin:users_invitation_revoke", args=[only().pk]) in page

    def test_sent_again_and_refused_says_that_the_old_one_is_gone(self, client, sandbox):
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        sandbox.fault("POST /invitations", "status", status=422, code="form_identifier_exists")
        page = client.post(reverse("admin:users_invitation_resend", args=[only().pk]))
        assert "The invitation before is revoked. " in text_of(page)
        assert only().status == sandbox.invitations()[0]["status"] == "revoked"

    def test_one_that_expired_is_sent_again(self, client, sandbox):
        user = BuilderUserFactory()
        invite(client, user)
        first = only()
        expire(sandbox)
        maintenance.run()
        assert "Expired" in text_of(client.get(LIST))
        client.post(reverse("admin:users_invitation_resend", args=[first.pk]))
        assert list(Invitation.objects.order_by("id").values_list("status", flat=True)) == [
            "expired", "pending",
        ]  # fmt: skip
        assert len(sandbox.mails()) == 2

    def test_revoked(self, client, sandbox):
        user = BuilderUserFactory()
        invite(client, user)
        client.post(reverse("admin:users_invitation_revoke", args=[only().pk]))
        assert only().status == "revoked"
        assert sandbox.invitations()[0]["status"] == "revoked"
        assert SyncAttempt.objects.filter(status="applied").count() == 2
        # Again counts as done, also when Clerk's dashboard was first.
        client.post(reverse("admin:users_invitation_revoke", args=[only().pk]))
        assert only().status == "revoked"

    def test_revoked_too_late(self, client, sandbox):
        user = BuilderUserFactory()
        invite(client, user)
        sandbox.accept(sandbox.invitations()[0]["id"])
        page = client.post(reverse("admin:users_invitation_revoke", args=[only().pk]))
        assert "The invitation was accepted already" in text_of(page)
        assert only().status == "accepted"
        assert stored(user).linked
        arrive(sandbox)
        assert only().status == "accepted"

    def test_one_that_was_accepted_unheard_does_not_keep_a_user_from_being_deleted(
        self, client, sandbox
    ):
        user = BuilderUserFactory()
        invite(client, user)
        account = sandbox.accept(sandbox.invitations()[0]["id"])
        client.post(f"/admin/users/builderuser/{user.pk}/delete/", {"post": "yes"})
        assert not BuilderUser.objects.exists()
        assert sandbox.user(account["id"]) is None

    def test_a_user_who_is_deleted_elsewhere_meanwhile(self, client, sandbox):
        user = BuilderUserFactory()
        invite(client, user)
        with at_step(checkpoints.AFTER_COMMIT, lambda: delete_here(user)):
            page = client.post(
                f"/admin/users/builderuser/{user.pk}/delete/", {"post": "yes"}, follow=True
            )
        assert page.status_code == 200
        assert "was deleted in the meantime" in text_of(page)
        assert not BuilderUser.objects.exists()
        assert sandbox.invitations()[0]["status"] == "revoked"

    def test_a_link_by_hand_closes_the_older_invitation(self, client, sandbox):
        """It is revoked in Clerk, and an account that came from it all the same gets nothing."""
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        chosen = sandbox.add_user(email="ann.home@example.com")
        link = reverse("admin:users_builderuser_link", args=[user.pk])
        assert client.post(link, {"clerk_id": chosen["id"]}).status_code == 302
        assert only().status == "revoked"
        assert stored(user).clerk_id == chosen["id"]
        maintenance.run()
        assert sandbox.invitations()[0]["status"] == "revoked"
        assert not only().revoke_due

    def test_an_email_that_is_corrected_says_that_nobody_is_invited_now(self, client, sandbox):
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        page = client.post(page_of(user), form_of(stored(user), email="an@example.com"))
        message = said(page)[-1]
        assert "The invitation to ann@example.com was revoked." in message
        assert "an@example.com is not invited yet." in message
        assert reverse("admin:users_builderuser_invite", args=[user.pk]) in message
        maintenance.run()
        assert (stored(user).email, only().status) == ("an@example.com", "revoked")
        assert sandbox.invitations()[0]["status"] == "revoked"
        form = text_of(client.get(page_of(user)))
        timeline = form[form.index('id="timeline-title"') :]
        assert "Revoke invitation" in timeline
        assert "By itself" in timeline
        derived = SyncAttempt.objects.get(operation="revoke_invitation")
        assert (derived.source, derived.get_source_display()) == ("admin", "This site")
        record = text_of(client.get(f"/admin/users/syncattempt/{derived.pk}/change/"))
        for words in ("By itself", "This site", "A newer change replaced the invitation."):
            assert words in record
        assert "A newer change replaced the invitation." in timeline
        assert "The invitation is revoked now." in timeline

    def test_who_may_not_invite_is_not_sent_there(self, sandbox, client):
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        editor = browser_of(staff_who_may("users.view_builderuser", "users.change_builderuser"))
        page = editor.post(page_of(user), form_of(stored(user), email="an@example.com"))
        [message] = said(page)
        assert "an@example.com is not invited yet." in message
        assert "<a href" not in message.split("revoked")[1]

    @pytest.mark.parametrize("way", ["link", "replace", "delete"])
    def test_a_change_that_revokes_an_invitation_by_the_way_says_so(self, client, sandbox, way):
        user = BuilderUserFactory(email="ann@example.com")
        if way == "replace":
            user = linked(sandbox)
            change_email(client, user)
        else:
            invite(client, user)
        email = only().email
        if way == "link":
            chosen = sandbox.add_user(email="ann.home@example.com")
            page = reverse("admin:users_builderuser_link", args=[user.pk])
            response = client.post(page, {"clerk_id": chosen["id"]})
        elif way == "replace":
            response = change_email(client, user, email="other@example.com", how="replace")
        else:
            page = reverse("admin:users_builderuser_delete", args=[user.pk])
            response = client.post(page, {"post": "yes"})
        assert response.status_code == 302
        words = " ".join(said(response))
        assert f"invitation to {email} was revoked." in words
        assert "is not invited yet" not in words
        maintenance.run()
        assert sandbox.invitations()[0]["status"] == "revoked"

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (401, "clerk_key_invalid"),
            (403, "authorization_invalid"),
            (404, "resource_not_found"),
            (409, "resource_locked"),
            (429, "too_many_requests"),
        ],
    )
    def test_a_refused_revocation_is_tried_again(self, client, sandbox, settings, status, code):
        linked(sandbox)
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        chosen = sandbox.add_user(email="ann.home@example.com")
        link = reverse("admin:users_builderuser_link", args=[user.pk])
        client.post(link, {"clerk_id": chosen["id"]})
        sandbox.fault(REVOKE, "status", status=status, code=code)
        sandbox.fault("GET /instance", "status", status=503, times=None)
        [note] = maintenance.run().notes
        assert "not revoked in Clerk yet" in note
        assert sandbox.invitations()[0]["status"] == "pending"
        sandbox.clear_faults()
        [note] = maintenance.run().notes
        assert note.endswith("revoked, as a newer decision has closed it.")
        assert sandbox.invitations()[0]["status"] == "revoked"

    def test_one_that_was_accepted_meanwhile_is_not_called_revoked(self, client, sandbox):
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        chosen = sandbox.add_user(email="ann.home@example.com")
        link = reverse("admin:users_builderuser_link", args=[user.pk])
        client.post(link, {"clerk_id": chosen["id"]})
        sandbox.accept(sandbox.invitations()[0]["id"])
        [note] = maintenance.run().notes
        assert "accepted before it could be revoked" in note
        assert maintenance.run().notes == []

    def test_accepted_although_a_newer_decision_stands(self, client, sandbox):
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        chosen = sandbox.add_user(email="ann.home@example.com")
        link = reverse("admin:users_builderuser_link", args=[user.pk])
        client.post(link, {"clerk_id": chosen["id"]})
        sandbox.accept(sandbox.invitations()[0]["id"])
        arrive(sandbox)
        maintenance.run()
        assert stored(user).clerk_id == chosen["id"]
        assert not sandbox.user(chosen["id"])["banned"]
        assert only().status == "revoked"

    def test_a_deleted_user_leaves_no_invitation(self, client, sandbox):
        user = BuilderUserFactory()
        invite(client, user)
        client.post(f"/admin/users/builderuser/{user.pk}/delete/", {"post": "yes"})
        assert not BuilderUser.objects.exists()
        assert sandbox.invitations()[0]["status"] == "revoked"

    def test_a_deletion_waits_for_a_revocation_that_is_not_confirmed(self, client, sandbox):
        """What is not confirmed is the revocation: nothing of the deletion has been tried."""
        user = BuilderUserFactory()
        invite(client, user)
        sandbox.fault("POST /invitations/{invitation_id}/revoke", "status", status=503, times=None)
        sandbox.fault("GET /invitations", "status", status=503, times=None)
        delete = f"/admin/users/builderuser/{user.pk}/delete/"
        text = text_of(client.post(delete, {"post": "yes"}, follow=True))
        assert "An earlier change of this user (“Revoke invitation”" in text
        assert "Nothing was saved now" in text
        assert BuilderUser.objects.exists()
        assert SyncAttempt.objects.get(status="started").operation == "revoke_invitation"
        sandbox.clear_faults()
        time_is_over()
        client.post(delete, {"post": "yes"})
        assert not BuilderUser.objects.exists()
        assert sandbox.invitations()[0]["status"] == "revoked"

    @pytest.mark.parametrize("has_account", [True, False], ids=["linked", "not linked"])
    def test_a_deletion_waits_for_an_invitation_that_may_arrive(self, client, sandbox, has_account):
        """Else it would make an account of nobody."""
        user = linked(sandbox) if has_account else BuilderUserFactory()
        sandbox.fault("POST /invitations", "late", seconds=None, status=504)
        change_email(client, user) if has_account else invite(client, user)
        delete = f"/admin/users/builderuser/{user.pk}/delete/"
        text = text_of(client.post(delete, {"post": "yes"}, follow=True))
        assert "An earlier change of this user (“Invite”" in text
        assert "may still arrive there until" in text
        sandbox.apply_late()
        client.post(delete, {"post": "yes"})
        assert not BuilderUser.objects.exists()
        assert sandbox.invitations()[0]["status"] == "revoked"

    def test_it_needs_its_permission(self, sandbox):
        user, other = BuilderUserFactory(), StaffFactory(is_superuser=False)
        other.user_permissions.set(
            Permission.objects.filter(codename__in=["view_builderuser", "change_builderuser"])
        )
        client = Client()
        client.force_login(other)
        assert invite(client, user).status_code == 403
        assert not Invitation.objects.exists()


class TestTended:
    """Clerk tells nothing of invitations themselves; the background asks."""

    @pytest.fixture
    def user(self, client, sandbox) -> BuilderUser:
        user = BuilderUserFactory(email="ann@example.com")
        invite(client, user)
        Invitation.objects.update(updated_at=timezone.now() - timedelta(hours=1))
        happened(sandbox)
        return user

    def test_expired(self, sandbox, user):
        Invitation.objects.update(expires_at=timezone.now())
        maintenance.run()
        assert only().status == "expired"

    def test_revoked_in_clerks_dashboard(self, client, sandbox, user):
        with sandbox.state.lock:
            for known in sandbox.state.invitations.values():
                known |= {"status": "revoked", "revoked": True}
        maintenance.run()
        assert only().status == "revoked"

    def test_one_that_clerk_does_not_list_stays_pending(self, sandbox, user):
        """To be taken for revoked would mean that nobody is linked by it."""
        with sandbox.state.lock:
            kept = dict(sandbox.state.invitations)
            sandbox.state.invitations.clear()
        maintenance.run()
        assert only().status == "pending"
        sandbox.state.invitations.update(kept)
        account = sandbox.accept(next(iter(kept)))
        arrive(sandbox)
        assert stored(user).clerk_id == account["id"]

    def test_accepted_while_the_event_was_lost(self, sandbox, user):
        account = sandbox.accept(sandbox.invitations()[0]["id"])
        maintenance.run()
        assert only().status == "accepted"
        assert stored(user).clerk_id == account["id"]

    def test_accepted_and_the_account_is_gone_again(self, sandbox, user):
        account = sandbox.accept(sandbox.invitations()[0]["id"])
        sandbox.delete(account["id"])
        assert any("no account of it could be linked" in note for note in maintenance.run().notes)
        assert not stored(user).linked

    def test_still_pending_is_asked_once_in_a_while(self, sandbox, user):
        sandbox.clear_requests()
        maintenance.run()
        maintenance.run()
        asked = [one for one in sandbox.requests() if one.path == "/invitations"]
        assert len(asked) == 1
        assert only().status == "pending"

    def test_clerk_does_not_answer(self, sandbox, user):
        sandbox.fault("*", "status", status=503, times=None)
        assert any("could not be asked" in note for note in maintenance.run().notes)
        assert only().status == "pending"


class TestLimit:
    """Clerk takes 100 invitations an hour."""

    def test_over_it_they_wait_and_say_until_when(self, client, sandbox, monkeypatch):
        monkeypatch.setattr("users.sync.services.invitation_limit.PER_HOUR", 2)
        users = [BuilderUserFactory() for _ in range(4)]
        responses = [invite(client, user) for user in users]
        assert len(sandbox.mails()) == 2
        assert "waits and is sent by itself at" in said(responses[2])[-1]
        waiting = Invitation.objects.filter(status="waiting").order_by("id")
        sent = Invitation.objects.filter(status="pending").order_by("id")
        assert [one.send_after for one in waiting] == [
            one.sent_at + timedelta(hours=1) for one in sent
        ]
        assert "Waits until" in text_of(client.get(LIST))
        assert "It is sent by itself at" in text_of(client.get(page_of(users[3])))
        maintenance.run()
        assert len(sandbox.mails()) == 2  # not yet
        an_hour = timedelta(hours=1, minutes=1)
        for one in Invitation.objects.all():
            Invitation.objects.filter(pk=one.pk).update(
                sent_at=one.sent_at and one.sent_at - an_hour,
                send_after=one.send_after and one.send_after - an_hour,
            )
        maintenance.run()
        assert len(sandbox.mails()) == 4
        assert not Invitation.objects.filter(status="waiting").exists()

    @pytest.fixture
    def full(self, client, sandbox, monkeypatch):
        """Clerk's limit is reached, so the next invitation has to wait."""
        monkeypatch.setattr("users.sync.services.invitation_limit.PER_HOUR", 1)
        invite(client, BuilderUserFactory())

    def test_one_that_has_to_wait_meets_the_deletion_of_its_user(
        self, client, staff, full, sandbox
    ):
        user, other = linked(sandbox), Client()
        other.force_login(staff)
        pages = []
        delete = reverse("admin:users_builderuser_delete", args=[user.pk])

        def invite_meanwhile():
            in_thread(lambda: pages.append(change_email(other, user)))

        with at_step(checkpoints.BEFORE_COMMIT, invite_meanwhile):
            client.post(delete, {"post": "yes"})
        assert "This user is being saved by someone else right now." in text_of(pages[0])
        assert not BuilderUser.objects.filter(pk=user.pk).exists()
        assert sandbox.users() == []
        assert not Invitation.objects.filter(status="waiting").exists()

    def test_one_that_has_to_wait_meets_who_makes_its_user_an_administrator(self, full, sandbox):
        support, user = client_who_may("view_builderuser", "invite"), BuilderUserFactory()
        with elsewhere(lambda: change_here(user, role="ADMIN")):
            page = text_of(invite(support, user))
        assert "This user is being saved by someone else right now." in page
        assert not Invitation.objects.filter(user=user).exists()
        assert SyncAttempt.objects.get(user=user).status == "refused"

    @pytest.mark.parametrize("meanwhile", ["promoted", "linked", "deleted"])
    def test_one_that_has_to_wait_is_judged_by_the_row_of_now(
        self, full, sandbox, monkeypatch, meanwhile
    ):
        """The change is committed while the limit is looked up."""
        support, user = client_who_may("view_builderuser", "invite"), BuilderUserFactory()
        changes = {
            "promoted": lambda: change_here(user, role="ADMIN"),
            "linked": lambda: change_here(user, clerk_id=sandbox.add_user()["id"]),
            "deleted": lambda: delete_here(user),
        }
        look_up = invitation_limit.full_until

        def after_the_change():
            in_thread(changes[meanwhile])
            return look_up()

        monkeypatch.setattr(invitation_limit, "full_until", after_the_change)
        response = invite(support, user)
        told = {
            "promoted": "You don't have permission for this.",
            "linked": "This user was changed",
            "deleted": "This user was deleted in the meantime.",
        }[meanwhile]
        assert told in " ".join([text_of(response), *said(response)])
        assert not Invitation.objects.filter(user=user.pk).exists()
        [attempt] = SyncAttempt.objects.filter(operation="invite", status="refused")
        assert attempt.message

    def test_clerk_says_so(self, client, sandbox, running_sandbox):
        running_sandbox.limiter.limits = Limits(invitations=(1, 3600.0))
        try:
            first, second = BuilderUserFactory(), BuilderUserFactory()
            invite(client, first)
            invite(client, second)
            waiting = Invitation.objects.get(user=second)
            assert waiting.status == "waiting"
            left = waiting.send_after - timezone.now()
            assert timedelta(minutes=55) < left < timedelta(minutes=61)
            response = client.post(ADD, new())
            assert response.status_code == 302  # saved, and its invitation waits
            assert Invitation.objects.get(user__email="ann@example.com").status == "waiting"
            Invitation.objects.filter(status="waiting").update(send_after=timezone.now())
            maintenance.run()
            assert Invitation.objects.filter(send_after__gt=timezone.now()).count() == 2
        finally:
            running_sandbox.limiter.limits = None

    def test_while_clerk_is_down_one_is_tried_a_minute(self, client, sandbox):
        for user in (BuilderUserFactory(), BuilderUserFactory()):
            Invitation.objects.create(
                user=user, email=user.email, purpose="new_account", status="waiting",
                send_after=timezone.now(),
            )  # fmt: skip
        sandbox.fault("*", "status", status=503, times=None)
        maintenance.run()
        assert len(sandbox.writes()) == 1
        sandbox.clear_faults()
        maintenance.run()
        assert not Invitation.objects.exclude(status="pending").exists()
        assert len(sandbox.mails()) == 2

    @pytest.mark.parametrize("why", ["an administrator now", "rights are gone", "a command"])
    def test_one_that_waits_is_sent_only_if_its_author_may_still_invite(self, sandbox, why):
        author = staff_who_may("invite_builderuser", "change_builderuser", "view_builderuser")
        user = BuilderUserFactory(email="ann@example.com")
        Invitation.objects.create(
            user=user, email=user.email, purpose="new_account", status="waiting",
            send_after=timezone.now(), invited_by=author,
            source="command" if why == "a command" else "admin",
        )  # fmt: skip
        if why == "rights are gone":
            author.user_permissions.clear()
        else:  # as the application before does
            BuilderUser.objects.filter(pk=user.pk).update(role="ADMIN")
        notes = maintenance.run().notes
        if why == "a command":
            assert (only().status, len(sandbox.mails())) == ("pending", 1)
            return
        assert (only().status, sandbox.mails()) == ("refused", [])
        assert any("You don't have permission for this" in note for note in notes)
        attempt = SyncAttempt.objects.get()
        assert (attempt.status, attempt.actor, attempt.source) == ("refused", author, "admin")

    def test_one_that_waits_and_is_refused_then(self, client, sandbox):
        user = BuilderUserFactory(email="ann@example.com")
        Invitation.objects.create(
            user=user, email=user.email, purpose="new_account", status="waiting",
            send_after=timezone.now(),
        )  # fmt: skip
        sandbox.add_user(email="ann@example.com")
        assert any("not sent" in note for note in maintenance.run().notes)
        assert only().status == "refused"
        assert "Refused" in text_of(client.get(LIST))


class TestChangeOfEmail:
    def test_the_whole_way(self, client, sandbox):
        user = linked(sandbox, email="old@example.com")
        page = client.get(reverse("admin:users_builderuser_email", args=[user.pk]))
        assert 'value="invite" required id="id_how_0" checked' in text_of(page) or (
            "checked" in text_of(page)
        )
        response = change_email(client, user)
        assert "signs in with old@example.com until they accept" in said(response)[0]
        assert stored(user).email == "old@example.com"
        account = sandbox.accept(
            sandbox.invitations()[0]["id"], first_name="Mary Ann", last_name="Smith"
        )
        arrive(sandbox)
        maintenance.run()
        now = stored(user)
        assert (now.email, now.clerk_id) == ("new@example.com", account["id"])
        assert only().status == "accepted"
        [old] = sandbox.find("old@example.com")
        assert old["banned"]
        assert "Matches Clerk" in text_of(client.get("/admin/users/builderuser/"))

    def test_somebody_else_still_signs_in_with_the_old_address(self, client, sandbox):
        """Another account that has it as a second address: said, not banned."""
        user = linked(sandbox, email="old@example.com")
        change_email(client, user)
        sandbox.accept(sandbox.invitations()[0]["id"])
        other = sandbox.add_user(email="somebody@example.com")
        emails = [*other["email_addresses"], {**other["email_addresses"][0], "id": "idn_2",
                                              "email_address": "old@example.com"}]  # fmt: skip
        sandbox.edit(other["id"], email_addresses=emails)
        arrive(sandbox)
        notes = maintenance.run().notes
        assert any("old@example.com still finds a user who can sign in" in note for note in notes)
        assert other["id"] in text_of(client.get(page_of(user)))
        assert not sandbox.user(other["id"])["banned"]

    def test_the_address_is_another_users(self, client, sandbox):
        user = linked(sandbox)
        BuilderUserFactory(email="new@example.com")
        page = change_email(client, user)
        assert "Another builder user has this email." in text_of(page)
        assert sandbox.writes() == []

    def test_the_address_is_another_account_in_clerk(self, client, sandbox):
        user = linked(sandbox)
        sandbox.add_user(email="new@example.com")
        page = change_email(client, user)
        assert "That email address is taken" in text_of(page)
        assert not Invitation.objects.exists()

    def test_an_open_invitation_is_shown_and_not_doubled(self, client, sandbox):
        user = linked(sandbox)
        change_email(client, user)
        page = client.get(reverse("admin:users_builderuser_email", args=[user.pk]))
        assert reverse("admin:users_invitation_revoke", args=[only().pk]) in text_of(page)
        page = change_email(client, user, email="third@example.com")
        assert "has an open invitation" in text_of(page)
        assert Invitation.objects.count() == 1

    def test_a_google_sign_in_is_said_before_and_after(self, client, sandbox):
        user = linked(sandbox, email="old@example.com")
        emails = sandbox.user(user.clerk_id)["email_addresses"]
        emails[0]["linked_to"] = [{"type": "oauth_google", "id": "idn_google"}]
        sandbox.edit(
            user.clerk_id,
            email_addresses=emails,
            external_accounts=[{"object": "external_account", "provider": "oauth_google"}],
        )
        arrive(sandbox)
        page = client.get(reverse("admin:users_builderuser_email", args=[user.pk]))
        assert "This person signs in with Google too" in text_of(page)
        page = change_email(client, user, how="replace")
        assert "belongs to a Google sign-in or the like" in text_of(page)
        assert stored(user).email == "old@example.com"
        assert 'value="new@example.com"' in text_of(page)

    def test_a_late_invitation_does_not_overrule_a_newer_decision(self, client, sandbox):
        user = linked(sandbox, email="old@example.com")
        sandbox.fault("POST /invitations", "late", seconds=None, status=504)
        assert NOT_CONFIRMED in text_of(change_email(client, user, email="first@example.com"))
        change_email(client, user, email="second@example.com", how="replace")
        sandbox.apply_late()
        maintenance.run()
        assert (stored(user).email, only().status) == ("second@example.com", "revoked")
        assert sandbox.invitations()[0]["status"] == "revoked"

    def test_a_late_replacement_does_not_overrule_a_newer_invitation(self, client, sandbox):
        user = linked(sandbox, email="old@example.com")
        sandbox.fault("PUT /users/{user_id}/email_address", "late", seconds=None, status=504)
        page = change_email(client, user, email="first@example.com", how="replace")
        assert NOT_CONFIRMED in text_of(page)
        change_email(client, user, email="second@example.com")
        sandbox.apply_late()
        maintenance.run()
        assert (stored(user).email, only().status) == ("first@example.com", "pending")
        sandbox.accept(only().clerk_invitation_id, first_name="Mary Ann", last_name="Smith")
        arrive(sandbox)
        assert (stored(user).email, only().status) == ("second@example.com", "accepted")

    def test_recovery_of_an_invitation_whose_process_died(self, client, sandbox):
        user = linked(sandbox)
        change_email(client, user)
        sent = only()
        Invitation.objects.all().delete()
        attempt = SyncAttempt.objects.get()
        details = attempt.details
        attempt.delete()
        open_attempt = SyncAttemptFactory(
            operation="invite", user=user, details=details,
            changes={"invitation": [None, "new@example.com"]},
        )  # fmt: skip
        maintenance.run()
        open_attempt.refresh_from_db()
        assert open_attempt.status == "applied"
        assert only().reference == sent.reference
        assert only().clerk_invitation_id == sandbox.invitations()[0]["id"]
