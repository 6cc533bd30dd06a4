"""A change that ends after its author has left the page: the home page tells them, and pending
changes say what was wanted, by whom, and when Clerk is asked again."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags

from tests.support.change_form import form_of, in_clerk, page_of, said, stored, submit, text_of
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, StaffFactory, linked
from tests.support.html_form import fields_of
from tests.support.personas import client_who_may
from tests.support.unknown import NOT_CONFIRMED, minutes_pass, time_is_over
from users.models import BuilderUser, ClerkAccount, SyncAttempt
from users.sync.outbound import recovery

pytestmark = pytest.mark.django_db(transaction=True)

RENAME = "PATCH /users/{user_id}"
BAN = "POST /users/{user_id}/ban"
HOME = "/admin/"
ADD = "/admin/users/builderuser/add/"


def url(name, user):
    return reverse(f"admin:users_builderuser_{name}", args=[user.pk])


def recover():
    return list(recovery.recover_all())


def lose(client, sandbox, user, **typed):
    """Save a name that Clerk never takes, not after all tries either."""
    sandbox.fault(RENAME, "close", times=None)
    submit(client, user, **typed)
    for _ in range(60):
        minutes_pass(1)
        recover()
    sandbox.clear_faults()
    attempt = SyncAttempt.objects.latest("id")
    assert (attempt.status, attempt.unseen) == ("dropped", True)
    return attempt


def home(client):
    return text_of(client.get(HOME))


def stripped(page):
    return " ".join(strip_tags(page).split())


@pytest.fixture
def other(db):
    client = Client()
    client.force_login(StaffFactory(username="other", first_name="Kim", last_name="Other"))
    return client


class TestSaved:
    def test_its_author_is_told_until_they_dismiss_it(self, client, other, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "late", seconds=None, how="close")
        submit(client, user, name="Mary Ann Jones")
        assert "Your change of" not in home(client)
        sandbox.apply_late()
        recover()
        page = home(client)
        assert "was saved." in page
        assert "<dd>Mary Ann Jones</dd>" in page
        assert page_of(user) in page
        assert "Save again" not in page
        assert "Your change of" not in home(other)
        dismiss = reverse("admin:users_syncattempt_dismiss", args=[SyncAttempt.objects.get().pk])
        assert other.post(dismiss).status_code == 404
        assert "Your change of" in home(client)
        assert client.get(dismiss).status_code == 405
        assert client.post(dismiss).status_code == 302
        assert "Your change of" not in home(client)

    def test_the_one_who_checks_it_themselves_is_told_at_once(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "late", seconds=None, how="close")
        submit(client, user, name="Mary Ann Jones")
        sandbox.apply_late()
        response = client.post(url("check", user))
        assert said(response) == ["Clerk has the change; it is saved here."]
        assert "Your change of" not in home(client)

    def test_the_author_is_told_when_somebody_else_checks_it(self, client, other, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "late", seconds=None, how="close")
        submit(client, user, name="Mary Ann Jones")
        sandbox.apply_late()
        attempt = SyncAttempt.objects.get()
        other.post(reverse("admin:users_syncattempt_check", args=[attempt.pk]))
        assert "was saved." in home(client)


class TestTheSameOfTwoPeople:
    @pytest.fixture
    def user(self, client, other, sandbox):
        """A user whom both have banned, which Clerk has confirmed to neither of them."""
        user = linked(sandbox)
        sandbox.fault(BAN, "late", times=None, seconds=None, how="close")
        for person in (client, other):
            assert NOT_CONFIRMED in text_of(person.post(url("ban", user)))
        sandbox.clear_faults()
        return user

    def test_both_are_told_that_it_was_saved(self, client, other, sandbox, user):
        sandbox.apply_late()
        recover()
        for person in (client, other):
            assert f"Your change of {user} was saved." in stripped(home(person))
        assert set(SyncAttempt.objects.values_list("status", flat=True)) == {"applied"}
        assert LogEntry.objects.count() == 1

    def test_both_are_told_that_it_was_refused(self, client, other, sandbox, user):
        sandbox.drop_late()
        time_is_over()
        sandbox.fault(BAN, "status", times=None, status=402, code="unsupported_plan")
        recover()
        assert sandbox.user(user.clerk_id)["banned"] is False
        for person in (client, other):
            assert "Not banned yet: the person can still sign in." in home(person)

    def test_a_third_try_of_one_of_them_answers_only_their_own(self, client, other, sandbox, user):
        sandbox.fault(BAN, "close")
        other.post(url("ban", user))
        statuses = SyncAttempt.objects.order_by("pk").values_list("status", flat=True)
        assert list(statuses) == ["started", "dropped", "started"]
        sandbox.apply_late()
        recover()
        for person in (client, other):
            assert f"Your change of {user} was saved." in stripped(home(person))


class TestNotSaved:
    def test_save_again_opens_the_form_with_what_was_typed(self, client, sandbox):
        user, group = linked(sandbox), BuilderGroupFactory(name="Cedar")
        attempt = lose(client, sandbox, user, name="Mary Ann Jones", builder_group=group.pk)
        page = home(client)
        assert "was not saved:" in page
        assert "Clerk does not have the change" in page
        assert "<dd>Cedar</dd>" in page
        again = f"{page_of(user)}?again={attempt.pk}"
        assert again in page
        opened = client.get(again)
        assert "Nothing is saved yet" in text_of(opened)
        fields = fields_of(opened)
        assert (fields["name"], fields["builder_group"]) == ("Mary Ann Jones", str(group.pk))
        assert client.post(again, fields).status_code == 302
        assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Jones", group)
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert "Your change of" not in home(client)

    def test_a_conflict_stays_one_when_it_is_saved_again(self, client, other, sandbox):
        user = linked(sandbox)
        attempt = lose(client, sandbox, user, name="Mary Ann Jones")
        again = f"{page_of(user)}?again={attempt.pk}"
        fields = fields_of(client.get(again))
        submit(other, stored(user), name="Mary Ann Brown")
        response = client.post(again, fields)
        assert "changed by Kim Other" in text_of(response)
        assert stored(user).name == "Mary Ann Brown"
        assert "Your change of" in home(client)

    def test_the_same_saved_anew_is_the_answer(self, client, sandbox):
        user = linked(sandbox)
        lose(client, sandbox, user, name="Mary Ann Jones")
        submit(client, stored(user), name="Mary Ann Brown")
        assert "Your change of" in home(client), "that was something else"
        submit(client, stored(user), name="Mary Ann Jones")
        assert "Your change of" not in home(client)

    def test_what_others_typed_is_not_shown(self, client, other, sandbox):
        user = linked(sandbox)
        attempt = lose(client, sandbox, user, name="Mary Ann Jones")
        for wrong in (attempt.pk, 0, "x", "9" * 30, "\0"):
            response = other.get(page_of(user), {"again": wrong})
            assert fields_of(response)["name"] == "Mary Ann Smith"
        beside = linked(sandbox, name="Bob Brown")
        assert fields_of(client.get(page_of(beside), {"again": attempt.pk}))["name"] == "Bob Brown"

    def test_a_new_user_is_typed_only_once(self, client, sandbox):
        sandbox.fault("POST /users", "close")
        typed = {"name": "Nora Quist", "email": "nora@example.com", "role": "BUILDER",
                 "internal_role": "", "builder_group": "", "account": "create"}  # fmt: skip
        response = client.post(ADD, typed)
        attempt = SyncAttempt.objects.get()
        text = text_of(response)
        assert "It is checked again at" in text
        assert 'value="Nora Quist"' in text
        assert reverse("admin:users_syncattempt_change", args=[attempt.pk]) in text
        assert "Check with Clerk now" in text
        time_is_over()
        recover()
        again = f"{ADD}?again={attempt.pk}"
        assert again in home(client)
        opened = client.get(again)
        fields = fields_of(opened)
        assert (fields["name"], fields["email"]) == ("Nora Quist", "nora@example.com")
        assert opened.context["adminform"].form["account"].initial == "create"
        assert client.post(again, fields | {"account": "create"}).status_code == 302
        assert BuilderUser.objects.get().linked
        assert "Your change of" not in home(client)

    def test_a_new_email_opens_its_page(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("PUT /users/{user_id}/email_address", "status", status=500)
        client.post(url("email", user), {"email": "new@example.com", "how": "replace"})
        time_is_over()
        recover()
        again = f"{url('email', user)}?again={SyncAttempt.objects.get().pk}"
        assert again in home(client)
        form = client.get(again).context["form"]
        assert (form["email"].value(), form["how"].value()) == ("new@example.com", "replace")
        client.post(again, {"email": "new@example.com", "how": "replace"})
        assert stored(user).email == "new@example.com"
        assert "Your change of" not in home(client)

    def test_a_password_is_never_shown(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "close")
        secret = {"password1": "correct horse 1", "password2": "correct horse 1"}
        client.post(url("password", user), secret)
        time_is_over()
        recover()
        page = home(client)
        assert "Set password" in page
        assert "correct horse" not in page
        assert "(set)" not in page
        assert url("password", user) in page
        client.post(url("password", user), secret)
        assert "Your change of" not in home(client)


def not_saved(client, user):
    """A change of this person's that ended while they were away: it is not saved."""
    SyncAttempt.objects.create(
        user=user, operation="update", source="admin", status="dropped", unseen=True,
        actor_id=int(client.session["_auth_user_id"]), settled_at=user.created_at,
        changes={"name": ["a", "Mary Ann Jones"]},
    )  # fmt: skip


class TestPermissions:
    def test_who_may_not_see_users_is_told_nothing(self, sandbox):
        client = client_who_may("view_buildergroup")
        user = linked(sandbox)
        not_saved(client, user)
        assert "Mary Ann Jones" not in home(client)

    def test_who_may_only_look_cannot_save_again(self, sandbox):
        client = client_who_may("view_builderuser")
        user = linked(sandbox)
        not_saved(client, user)
        page = home(client)
        assert "Mary Ann Jones" in page
        assert "Save again" not in page
        assert "Dismiss" in page


class TestNotConfirmed:
    def test_the_home_page_counts_what_nobody_works_on(self, client, sandbox):
        user = linked(sandbox)
        running = SyncAttempt.objects.create(user=user, operation="ban", source="admin")
        assert "not confirmed by Clerk yet" not in home(client)
        running.delete()
        sandbox.fault(RENAME, "close")
        submit(client, user, name="Mary Ann Jones")
        sandbox.clear_requests()
        page = home(client)
        assert "<strong>1</strong> change</a> not confirmed by Clerk yet" in page
        assert "status__exact=started" in page
        assert sandbox.requests() == []
        assert "not confirmed by Clerk yet" not in home(client_who_may("view_builderuser"))

    def test_the_form_says_what_was_wanted_by_whom_and_when_it_is_checked(
        self, client, other, sandbox
    ):
        user = linked(sandbox)
        sandbox.fault(RENAME, "close")
        submit(client, user, name="Mary Ann Jones")
        attempt = SyncAttempt.objects.get()
        page = text_of(other.get(page_of(user)))
        assert "1 change of this user is not confirmed by Clerk yet" in page
        assert "<dt>Name</dt><dd>Mary Ann Jones</dd>" in page
        assert "by Sam Staff" in page
        assert f">{attempt.late_until:%Y-%m-%d %H:%M:%S} UTC</time>; nothing is lost." in page
        assert "Check with Clerk now" in page
        until = f"{attempt.late_until:%Y-%m-%d %H:%M:%S} UTC"
        assert f"You can discard this change after {until}" in page
        of_attempt = reverse("admin:users_syncattempt_change", args=[attempt.pk])
        assert "Clerk may take it until" in text_of(client.get(of_attempt))

    def test_when_the_time_is_over_the_form_says_why_it_is_pending(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(RENAME, "close")
        submit(client, user, name="Mary Ann Jones")
        sandbox.edit(user.clerk_id, last_name="Third")
        time_is_over()
        recover()
        page = text_of(client.get(page_of(user)))
        assert "Use Clerk's version and discard this change" in page
        assert "It is checked again at" not in page
        assert "a third name, “Mary Ann Third”" in page

    def test_a_deletion_that_is_found_in_clerk_leads_to_the_list(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("DELETE /users/{user_id}", "late", seconds=None, how="close")
        client.post(url("delete", user), {"post": "yes"})
        sandbox.apply_late()
        response = client.post(url("check", user), follow=True)
        assert response.redirect_chain == [(reverse("admin:users_builderuser_changelist"), 302)]
        assert not BuilderUser.objects.exists()


def test_words_after_a_save_say_where_it_is_stored(client, sandbox):
    group, unlinked, user = BuilderGroupFactory(), BuilderUserFactory(), linked(sandbox)
    assert "Saved here and in Clerk." in said(submit(client, user, name="Mary Ann Jones"))[0]
    message = said(submit(client, stored(user), builder_group=group.pk))[-1]
    assert "Saved here. Clerk does not store what you changed." in message
    message = said(submit(client, unlinked, name="Bob"))[-1]
    assert "Saved here. This person has no Clerk account." in message


def test_the_buttons_of_the_form_lead_where_they_did(client, sandbox):
    user = BuilderUserFactory()
    for number, (button, page) in enumerate(
        [("_save", "/admin/users/builderuser/"), ("_continue", page_of(user)), ("_addanother", ADD)]
    ):
        data = form_of(stored(user), name=f"Bob {number}", **{button: ""})
        filters = "?_changelist_filters=q%3DBob"
        answer = client.post(page_of(user) + filters, data)
        kept = "?q=Bob" if button == "_save" else filters
        assert answer["Location"] == page + kept


def test_an_account_that_clerk_did_not_find_says_so(client, sandbox):
    user = linked(sandbox)
    ClerkAccount.objects.update(not_found_at=user.created_at)
    words = "Clerk did not find this account when it was last asked."
    assert words in text_of(client.get(page_of(user)))
    ClerkAccount.objects.update(deleted_at=user.created_at)
    assert words not in text_of(client.get(page_of(user)))
