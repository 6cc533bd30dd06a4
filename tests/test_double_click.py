"""A page that is submitted twice: one change, and the same true words in both answers."""

from __future__ import annotations

import re
import threading
import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.support.change_form import in_clerk, page_of, said, stored, submit, text_of
from tests.support.factories import BuilderUserFactory, StaffFactory, linked
from tests.support.patience import PATIENCE, wait_until
from tests.support.unknown import time_is_over
from users.guard import without_clerk
from users.models import BuilderUser, ClerkAccount, Invitation, SyncAttempt
from users.sync.outbound import repeats
from users.sync.services import invitation_limit, invitations
from users.version import version_of

pytestmark = pytest.mark.django_db(transaction=True)

RENAME = "PATCH /users/{user_id}"
ADD = "/admin/users/builderuser/add/"
LIST = "/admin/users/builderuser/"


def token_on(response, form=""):
    """The token that a page carries in the first form after `form`."""
    page = response.content.decode()
    return re.search(r'name="token" value="([0-9a-f-]{36})"', page[page.index(form) :])[1]


def new_user(account, **typed):
    return {"name": "Nora Quist", "email": "nora@example.com", "role": "BUILDER",
            "internal_role": "", "builder_group": "", "account": account, **typed}  # fmt: skip


def url(name, user):
    return reverse(f"admin:users_builderuser_{name}", args=[user.pk])


class Twice:
    """A page, opened once, that the same person submits two times."""

    def __init__(self, client, page, data, route=None):
        self.page, self.route = page, route
        self._clients = [client, _same_person(client)]
        self.data = data | {"token": token_on(client.get(page))}

    def after_one_another(self):
        return [client.post(self.page, self.data) for client in self._clients]

    def at_once(self, sandbox):
        """While Clerk has not answered the first one, the second one arrives and waits."""
        if self.route is None:
            return self._in_threads(lambda: None)
        sandbox.fault(self.route, "delay", seconds=None)
        return self._in_threads(
            lambda: wait_until(sandbox.writes, "the first POST never reached Clerk"),
            lambda: wait_until(_one_waits, "the second POST does not wait for the first"),
            sandbox.clear_faults,
        )

    def _in_threads(self, before_second, *then):
        answers = [None, None]

        def post(which):
            try:
                answers[which] = self._clients[which].post(self.page, self.data)
            finally:
                connection.close()

        threads = [threading.Thread(target=post, args=[which]) for which in (0, 1)]
        threads[0].start()
        before_second()
        threads[1].start()
        for step in then:
            step()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return answers


def _same_person(client):
    other = Client()
    other.cookies["sessionid"] = client.cookies["sessionid"].value
    return other


def _one_waits():
    return repeats.waited_for


def save(client, sandbox):
    user = linked(sandbox)
    data = {"name": "Mary Ann Jones", "email": user.email, "role": user.role,
            "internal_role": "", "builder_group": "", "version": version_of(user)}  # fmt: skip
    return Twice(client, page_of(user), data, RENAME), "Saved here and in Clerk.", 1


def save_here(client, sandbox):
    user = BuilderUserFactory()
    data = {"name": "Mary Ann Jones", "email": user.email, "role": user.role,
            "internal_role": "", "builder_group": "", "version": version_of(user)}  # fmt: skip
    twice = Twice(client, page_of(user), data)
    return twice, "Saved here. This person has no Clerk account.", 0


def add_and_create(client, sandbox):
    twice = Twice(client, ADD, new_user("create"), "POST /users")
    return twice, "Saved here and in Clerk.", 1


def add_and_invite(client, sandbox):
    twice = Twice(client, ADD, new_user("invite"), "POST /invitations")
    return twice, "nora@example.com is invited.", 1


def add_here(client, sandbox):
    twice = Twice(client, ADD, new_user("none"))
    return twice, "Saved here. This person has no Clerk account.", 0


def ban(client, sandbox):
    user = linked(sandbox)
    twice = Twice(client, url("ban", user), {}, "POST /users/{user_id}/ban")
    return twice, "Mary Ann Smith is banned.", 1


def replace_now(client, sandbox):
    data = {"email": "new@example.com", "how": "replace"}
    route = "PUT /users/{user_id}/email_address"
    twice = Twice(client, url("email", linked(sandbox)), data, route)
    return twice, "Mary Ann Smith now signs in with new@example.com.", 1


def invite_to_new_email(client, sandbox):
    data = {"email": "new@example.com", "how": "invite"}
    twice = Twice(client, url("email", linked(sandbox)), data, "POST /invitations")
    return twice, "Mary Ann Smith is invited to new@example.com", 1


def set_password(client, sandbox):
    data = {"password1": "correct horse 1", "password2": "correct horse 1"}
    twice = Twice(client, url("password", linked(sandbox)), data, RENAME)
    return twice, "Clerk has the new password of Mary Ann Smith.", 1


def delete(client, sandbox):
    user = linked(sandbox)
    twice = Twice(client, url("delete", user), {"post": "yes"}, "DELETE /users/{user_id}")
    return twice, "“Mary Ann Smith” was deleted successfully.", 1


def link(client, sandbox):
    user = BuilderUserFactory(name="Mary Ann Smith", email="mary@example.com")
    account = sandbox.add_user(email=user.email, first_name="Mary Ann", last_name="Smith")
    twice = Twice(client, url("link", user), {"clerk_id": account["id"]})
    return twice, "Mary Ann Smith is linked.", 0


def unlink(client, sandbox):
    twice = Twice(client, url("unlink", linked(sandbox)), {})
    return twice, "Mary Ann Smith is no longer linked.", 0


def resend(client, sandbox):
    user = BuilderUserFactory()
    invitations.invite(user, actor=None)
    SyncAttempt.objects.all().delete()
    LogEntry.objects.all().delete()
    sandbox.clear_requests()
    page = reverse("admin:users_invitation_resend", args=[Invitation.objects.get().pk])
    return Twice(client, page, {}, "POST /invitations"), "A new invitation is on its way.", 2


PAGES = [save, save_here, add_and_create, add_and_invite, add_here, ban, replace_now,
         invite_to_new_email, set_password, delete, link, unlink, resend]  # fmt: skip


def assert_one_change(sandbox, answers, words, writes):
    """Both answers say that it is done, and it was done once."""
    for answer in answers:
        assert answer.status_code == 302, text_of(answer)
        assert words in " ".join(said(answer))
    assert answers[0]["Location"] == answers[1]["Location"]
    assert len(sandbox.writes()) == writes
    changes = max(writes, 1)  # sending again revokes the invitation before
    assert list(SyncAttempt.objects.values_list("status", flat=True)) == ["applied"] * changes
    assert LogEntry.objects.count() == changes
    for user in BuilderUser.objects.linked():
        account = sandbox.user(user.clerk_id)
        assert f"{account['first_name']} {account['last_name']}" == user.name
        assert [one["id"] for one in sandbox.find(user.email)] == [user.clerk_id]


@pytest.mark.parametrize("page", PAGES)
def test_one_after_the_other(client, sandbox, page):
    twice, words, writes = page(client, sandbox)
    assert_one_change(sandbox, twice.after_one_another(), words, writes)


@pytest.mark.parametrize("page", PAGES)
def test_both_at_once(client, sandbox, page):
    twice, words, writes = page(client, sandbox)
    assert_one_change(sandbox, twice.at_once(sandbox), words, writes)


def test_without_its_token_the_second_post_would_be_another_change(client, sandbox):
    twice, *_ = ban(client, sandbox)
    del twice.data["token"]
    twice.after_one_another()
    assert len(sandbox.writes()) == 2


def test_a_third_click_is_answered_at_once(client, sandbox):
    twice, words, _ = save(client, sandbox)
    third = []

    def click_again():
        third.append(_same_person(client).post(twice.page, twice.data))

    sandbox.fault(RENAME, "delay", seconds=None)
    answers = twice._in_threads(
        lambda: wait_until(sandbox.writes, "the first POST never reached Clerk"),
        lambda: wait_until(_one_waits, "the second POST does not wait for the first"),
        click_again,
        sandbox.clear_faults,
    )
    assert "already being saved. It was not sent a second time." in text_of(third[0])
    assert_one_change(sandbox, answers, words, 1)


def test_a_new_user_is_opened_by_both_answers(client, sandbox):
    twice, *_ = add_here(client, sandbox)
    twice.data["_continue"] = ""
    answers = twice.after_one_another()
    assert [answer["Location"] for answer in answers] == [page_of(BuilderUser.objects.get())] * 2


def test_an_invitation_that_waits_is_stored_once(client, sandbox, monkeypatch):
    monkeypatch.setattr(invitation_limit, "PER_HOUR", 0)
    monkeypatch.setattr(invitation_limit, "full_until", timezone.now)
    twice, *_ = add_and_invite(client, sandbox)
    for answer in twice.after_one_another():
        assert answer.status_code == 302, text_of(answer)
        assert "Clerk takes no more invitations for now." in " ".join(said(answer))
    assert BuilderUser.objects.count() == Invitation.objects.count() == 1
    assert sandbox.writes() == []


def test_an_invitation_that_clerk_puts_off_is_stored_once(client, sandbox):
    twice, *_ = add_and_invite(client, sandbox)
    sandbox.fault("POST /invitations", "status", status=429, retry_after=60)
    for answer in twice.after_one_another():
        assert answer.status_code == 302, text_of(answer)
        assert "Clerk takes no more invitations for now." in " ".join(said(answer))
    assert BuilderUser.objects.count() == Invitation.objects.count() == 1


def test_a_refusal_is_told_twice_and_asked_of_clerk_once(client, sandbox):
    twice, *_ = save(client, sandbox)
    sandbox.fault(RENAME, "status", status=422, code="x", param="first_name", message="It is odd.")
    for answer in twice.after_one_another():
        assert answer.status_code == 200
        assert "It is odd." in text_of(answer)
        assert "Nothing was saved" in text_of(answer)
        assert 'value="Mary Ann Jones"' in text_of(answer)
        assert token_on(answer, 'id="builderuser_form"') != twice.data["token"]
    assert len(sandbox.writes()) == 1
    assert SyncAttempt.objects.get().status == "refused"
    # What is saved again on purpose is another change.
    twice.data["token"] = token_on(answer, 'id="builderuser_form"')
    assert client.post(twice.page, twice.data).status_code == 302
    assert BuilderUser.objects.get().name == "Mary Ann Jones"


def test_a_conflict_is_told_twice(client, sandbox):
    twice, *_ = save(client, sandbox)
    user = BuilderUser.objects.get()
    sandbox.edit(user.clerk_id, last_name="Brown")
    with without_clerk():
        BuilderUser.objects.update(name="Mary Ann Brown")
    ClerkAccount.objects.update(last_name="Brown")
    for answer in twice.after_one_another():
        assert "Changed since you opened the form" in text_of(answer)
    assert sandbox.writes() == []
    assert stored(user).name == "Mary Ann Brown"


def test_an_unknown_outcome_is_told_twice(client, sandbox):
    twice, *_ = save(client, sandbox)
    sandbox.fault(RENAME, "close")
    for answer in twice.after_one_another():
        assert "Clerk has not confirmed this yet." in text_of(answer)
    assert len(sandbox.writes()) == 1
    assert SyncAttempt.objects.get().status == "started"


@pytest.mark.parametrize("token", ["", "no token", "\0", "1" * 5000])
def test_what_is_no_token_counts_as_none(client, sandbox, token):
    user = linked(sandbox)
    assert submit(client, user, name="Mary Ann Jones", token=token).status_code == 302
    assert stored(user).name == "Mary Ann Jones"
    assert SyncAttempt.objects.get().token is None


class TestBackButton:
    """The page comes out of the browser's history: the old token, and new values."""

    def test_other_values_are_a_new_change(self, client, sandbox):
        twice, *_ = save(client, sandbox)
        client.post(twice.page, twice.data)
        response = client.post(twice.page, twice.data | {"name": "Mary Ann Brown"})
        assert response.status_code == 302, "a person is not in conflict with themselves"
        user = BuilderUser.objects.get()
        assert user.name == "Mary Ann Brown"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")
        assert len(sandbox.writes()) == LogEntry.objects.count() == 2

    def test_what_another_person_saved_since_is_a_conflict(self, client, sandbox):
        twice, *_ = save(client, sandbox)
        user = BuilderUser.objects.get()
        client.post(twice.page, twice.data)
        other = Client()
        other.force_login(StaffFactory(first_name="Kim", last_name="Other"))
        submit(other, stored(user), name="Mary Ann Third")
        response = client.post(twice.page, twice.data | {"name": "Mary Ann Brown"})
        assert "changed by Kim Other" in text_of(response)
        assert stored(user).name == "Mary Ann Third"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Third")

    def test_another_password_is_set(self, client, sandbox, settings):
        twice, words, _ = set_password(client, sandbox)
        client.post(twice.page, twice.data)
        long_ago = "2026-01-01T00:00Z"
        SyncAttempt.objects.update(started_at=long_ago, settled_at=long_ago)
        sent = {"password1": "another horse 2", "password2": "another horse 2"}
        assert words in said(client.post(twice.page, twice.data | sent))
        assert len(sandbox.writes()) == 2


def test_a_password_whose_first_click_took_long_is_set_once(client, sandbox):
    twice, words, _ = set_password(client, sandbox)
    client.post(twice.page, twice.data)
    SyncAttempt.objects.update(started_at="2026-01-01T00:00Z")
    assert words in said(client.post(twice.page, twice.data))
    assert len(sandbox.writes()) == SyncAttempt.objects.count() == 1


def test_a_user_with_an_open_invitation_is_deleted_once(client, sandbox):
    user = BuilderUserFactory(name="Mary Ann Smith")
    invitations.invite(user, actor=None)
    sandbox.clear_requests()
    twice = Twice(client, url("delete", user), {"post": "yes"}, "POST /invitations/{id}/revoke")
    for answer in twice.after_one_another():
        assert "“Mary Ann Smith” was deleted successfully." in " ".join(said(answer))
    assert len(sandbox.writes()) == 1
    assert not BuilderUser.objects.exists()


def test_the_panel_copies_once(client, sandbox):
    user = linked(sandbox)
    with without_clerk():
        BuilderUser.objects.update(name="Mary Ann Jones")
    token = token_on(client.get(page_of(user)), f"/{user.pk}/push/name/")
    page = reverse("admin:users_builderuser_push", args=[user.pk, "name"])
    for _ in range(2):
        assert "The name was copied to Clerk." in said(client.post(page, {"token": token}))
    assert len(sandbox.writes()) == 1
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")


def test_clerks_version_is_used_once_by_two_clicks(client, sandbox):
    user = linked(sandbox)
    sandbox.fault(RENAME, "close")
    submit(client, user, name="Mary Ann Jones")
    sandbox.edit(user.clerk_id, last_name="Third")
    time_is_over()
    token = token_on(client.get(page_of(user)), f"/{user.pk}/take-over/")
    clients = [client, _same_person(client)]
    start = threading.Barrier(2)
    answers = []

    def click(client):
        try:
            start.wait(PATIENCE)
            answers.append(client.post(url("take_over", user), {"token": token}))
        finally:
            connection.close()

    threads = [threading.Thread(target=click, args=[one]) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [said(answer) for answer in answers] == [["Clerk's version is used here now."]] * 2
    assert stored(user).name == "Mary Ann Third"
    statuses = SyncAttempt.objects.order_by("id").values_list("operation", "status")
    assert list(statuses) == [("update", "dropped"), ("follow", "applied")]


def test_every_page_that_acts_carries_a_token_that_is_new_each_time(client, sandbox):
    user, other = linked(sandbox), BuilderUserFactory(email="bob@example.com")
    invitations.invite(other, actor=None)
    sandbox.add_user(email="bob@example.com", first_name="Bob", last_name="B")
    invitation = Invitation.objects.get().pk
    actions = ("email", "password", "delete", "ban", "unban", "unlock", "reset_mfa", "sign_out",
               "unlink", "change")  # fmt: skip
    pages = [
        ADD,
        *(url(name, user) for name in actions),
        url("link", other),
        url("invite", other),
        reverse("admin:users_invitation_resend", args=[invitation]),
        reverse("admin:users_invitation_revoke", args=[invitation]),
    ]
    for page in pages:
        tokens = {uuid.UUID(token_on(client.get(page), 'id="content"')) for _ in range(2)}
        assert len(tokens) == 2, page


WATCH_BUTTONS = """
for (const name of ["_save", "_continue"]) {
  const button = document.querySelector(`input[name=${name}]`);
  new MutationObserver(() => {
    if (button.disabled) console.log(`${name}: ${button.value}, disabled`);
  }).observe(button, { attributes: true });
}
"""
"""While a page is being sent a test cannot look at it: it tells of its buttons itself."""


def test_a_real_double_click_sends_one_change(page, sandbox):
    user = linked(sandbox)
    page.goto(page_of(user))
    page.get_by_label("Name:").fill("Mary Ann Jones")
    sandbox.fault(RENAME, "delay", seconds=None)
    posts, shown = [], []
    page.on("console", lambda message: shown.append(message.text))
    page.evaluate(WATCH_BUTTONS)
    page.on("request", lambda request: posts.append(request) if request.method == "POST" else None)
    button = page.get_by_role("button", name="Save and continue editing")
    button.dblclick(no_wait_after=True)
    wait_until(sandbox.writes, "the save never reached Clerk")
    sandbox.clear_faults()
    page.get_by_text("Saved here and in Clerk.").wait_for()
    assert page.url.endswith(page_of(user)), "the name of the clicked button was sent"
    assert {"_save: Save, disabled", "_continue: Saving… asking Clerk, disabled"} <= set(shown)
    assert len(posts) == len(sandbox.writes()) == 1
    assert page.get_by_role("button", name="Save and continue editing").is_enabled()
    assert stored(user).name == "Mary Ann Jones"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
