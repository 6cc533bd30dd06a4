"""Somebody wants the form to say something untrue, to lose an edit, to crash or to hang."""

from __future__ import annotations

import json
import time

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from tests.support.bad_servers import (
    answering,
    drip_body,
    drip_chunks,
    drip_headers,
    drip_status,
    flood,
    hang,
    serving,
)
from tests.support.change_form import (
    assert_unchanged,
    form_of,
    in_clerk,
    page_of,
    said,
    stored,
    submit,
    text_of,
)
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    change_here,
    delete_here,
    linked,
)
from tests.support.patience import deadline_for
from tests.support.unknown import NOT_CONFIRMED
from users.errors import NotKnown
from users.forms import ChangeForm, FormContext
from users.models import BuilderUser, ClerkAccount, SyncAttempt
from users.sync.outbound import checkpoints

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/users/builderuser/"
ADD = "/admin/users/builderuser/add/"
PAGES = ["email", "password"]


@pytest.mark.parametrize("chosen", ["abc", "\0", "", "1"])
def test_an_action_on_what_is_no_id(client, sandbox, chosen):
    client.raise_request_exception = False
    user = linked(sandbox)
    data = {"action": "change_many", "_selected_action": [chosen]}
    response = client.post(LIST, data, follow=True)
    assert response.status_code in (200, 400)
    assert stored(user)
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    "query", ["builder_group=x", "builder_group=%00", "name=%00", "role=KING", "account=x",
              "email=%00", "_to_field=name", "_popup=x", "_changelist_filters=%00"]
)  # fmt: skip
@pytest.mark.parametrize(
    "page", ["add", "change", "list", "email", "password", "delete", "history"]
)
def test_odd_queries(client, sandbox, page, query):
    client.raise_request_exception = False
    user = linked(sandbox)
    pages = {"add": ADD, "list": LIST, "change": page_of(user)}
    address = pages.get(page) or page_of(user).replace("change", page)
    response = client.get(f"{address}?{query}", follow=True)
    assert response.status_code in (200, 400, 404)


def test_save_as_new_is_no_way_round(client, sandbox):
    """The form has no such button, but Django takes it from anybody."""
    user = linked(sandbox)
    response = submit(client, user, name="Mary Ann Jones", _saveasnew="1")
    assert "Another builder user has this email." in text_of(response)
    assert BuilderUser.objects.count() == 1
    assert sandbox.requests() == []
    assert_unchanged(sandbox, user)


@pytest.mark.parametrize("button", ["_popup", "_continue", "_addanother", "_save"])
class TestButtons:
    def test_each_saves_once_on_both_sides(self, client, sandbox, button):
        user = linked(sandbox)
        response = submit(client, user, name="Mary Ann Jones", **{button: "1"})
        assert response.status_code in (200, 302)
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert BuilderUser.objects.count() == 1
        assert LogEntry.objects.count() == SyncAttempt.objects.count() == 1

    def test_a_refusal_is_told_by_each(self, client, sandbox, button):
        user = linked(sandbox)
        sandbox.fault("PATCH /users/{user_id}", "status", status=422, code="form_param_nil")
        response = submit(client, user, name="Mary Ann Jones", **{button: "1"})
        assert response.status_code == 200
        assert "Invalid update data" in text_of(response)
        assert said(response) == []
        assert_unchanged(sandbox, user)

    def test_nothing_typed_is_nothing_saved(self, client, sandbox, button):
        user = linked(sandbox)
        response = submit(client, user, **{button: "1"})
        if button != "_popup":  # which closes and says nothing
            assert said(response) == ["It is stored like this already; nothing had to be saved."]
        assert not LogEntry.objects.exists()
        assert_unchanged(sandbox, user)


def test_the_version_of_another_user_saves_nothing(client, sandbox):
    user, other = linked(sandbox), linked(sandbox)
    response = submit(client, user, name="Bob", version=form_of(other)["version"])
    assert "Nothing was saved" in text_of(response)
    assert_unchanged(sandbox, user)


@pytest.mark.parametrize("field", ["clerk_id", "id", "created_at", "updated_at"])
def test_a_field_that_is_not_on_the_form_is_not_written(client, sandbox, field):
    user, other = linked(sandbox), linked(sandbox)
    before = BuilderUser.objects.values().get(pk=user.pk)
    submit(client, user, **{field: getattr(other, field)})
    assert BuilderUser.objects.values().get(pk=user.pk) == before
    assert sandbox.requests() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"name=%FF%00&version=", b"name=x&" * 2000, b"name=" + b"x" * 2_000_000],
    ids=["empty", "bytes", "no text", "many fields", "two megabytes"],
)
@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"],
)
def test_a_body_that_no_browser_sends(client, sandbox, body, kind):
    client.raise_request_exception = False
    user = linked(sandbox)
    for page in (page_of(user), *(page_of(user).replace("change", name) for name in PAGES), ADD):
        response = client.post(page, data=body, content_type=kind)
        assert response.status_code in (200, 302, 400, 413)
    assert sandbox.writes() == []
    assert_unchanged(sandbox, user)


def test_words_of_clerk_are_words(client, sandbox):
    """What Clerk says stands on the page, in the journal and in the log, and is never markup."""
    user = linked(sandbox)
    sandbox.fault("PATCH /users/{user_id}", "status", status=422, code="x", param="first_name",
                  message="<script>alert(1)</script>\r\n{% debug %}")  # fmt: skip
    response = submit(client, user, name="Bob")
    assert b"<script>alert" not in response.content
    assert "<script>alert(1)</script>" in text_of(response)
    attempt = SyncAttempt.objects.get()
    assert "\n" not in attempt.message
    page = client.get(reverse("admin:users_syncattempt_change", args=[attempt.pk]))
    assert b"<script>alert" not in page.content
    assert_unchanged(sandbox, user)


def test_a_failure_is_told_beside_an_error_of_the_form(sandbox):
    """The form is checked anew when a refusal is shown in it: a group may have gone since."""
    user, group = linked(sandbox), BuilderGroupFactory.build()

    context = FormContext(failure=NotKnown("It is not known yet whether Clerk has the change."))
    form = ChangeForm(form_of(user, builder_group=group.pk), instance=user, context=context)
    assert "not known yet" in form.errors["__all__"][0]
    assert "builder_group" in form.errors


@pytest.fixture
def meanwhile():
    """Does something between the attempt and the save, as another process would."""
    receivers = []

    def meanwhile(do):
        def receiver(sender, step, **_):
            if step == checkpoints.AFTER_ATTEMPT:
                do()

        receivers.append(receiver)
        checkpoints.reached.connect(receiver)

    yield meanwhile
    for receiver in receivers:
        checkpoints.reached.disconnect(receiver)


def test_a_user_who_is_deleted_while_the_form_is_saved(client, sandbox, meanwhile):
    user = linked(sandbox)
    meanwhile(lambda: delete_here(user))
    response = client.post(page_of(user), form_of(user, name="Bob"), follow=True)
    assert response.status_code == 200
    assert "doesn’t exist. Perhaps it was deleted?" in text_of(response)
    assert "successfully" not in text_of(response)
    assert in_clerk(sandbox, user) == ("Mary Ann", "Smith")
    assert SyncAttempt.objects.get().status == "dropped"
    assert not LogEntry.objects.exists()


def test_a_user_who_is_linked_while_the_form_is_saved(client, sandbox):
    """The form was opened without an account: its edit must not pass Clerk by."""
    user, account = BuilderUserFactory(), sandbox.add_user()
    form = form_of(user, name="Bob")
    change_here(user, clerk_id=account["id"])
    response = client.post(page_of(user), form)
    assert "since you opened the form" in text_of(response)
    assert stored(user).name == user.name
    assert not LogEntry.objects.exists()


# --- A server that is not Clerk, or not well -----------------------------------------------------


@pytest.mark.parametrize("answer", [hang, drip_status, drip_headers, drip_body, drip_chunks, flood])
@pytest.mark.parametrize("known", [True, False], ids=["names known", "names asked for"])
def test_a_save_ends_with_its_deadline(client, sandbox, settings, answer, known):
    user = linked(sandbox)
    if not known:
        user.account.delete()
    short = deadline_for(lambda: client.get(page_of(user)), at_least=1.5)
    settings.CLERK_EDIT_DEADLINE = short
    with serving(answer) as server:
        settings.CLERK_API_URL = server.url
        started = time.monotonic()
        response = submit(client, user, name="Bob")
        # Without a deadline these servers would hold the save for ever.
        assert time.monotonic() - started < 10 * short
    assert not server.outlasted
    assert response.status_code == 200
    assert "Failed to" in text_of(response)
    assert_unchanged(sandbox, user)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206])
@pytest.mark.parametrize("body", ["another user", "{}", "[]", "null"])
def test_a_success_that_is_no_answer_is_not_believed(client, sandbox, settings, status, body):
    """Clerk says that it did it and does not show the user: not saved, and not called unsaved."""
    user, other = linked(sandbox), sandbox.add_user(last_name="Jones")
    said_by_clerk = other if body == "another user" else json.loads(body)
    with serving(answering(status, said_by_clerk)) as server:
        settings.CLERK_API_URL = server.url
        settings.CLERK_EDIT_DEADLINE = 3.0
        response = submit(client, user, name="Mary Ann Jones")
    assert NOT_CONFIRMED in text_of(response)
    assert SyncAttempt.objects.get().status == "started"
    assert not ClerkAccount.objects.filter(clerk_id=other["id"]).exists()
    assert_unchanged(sandbox, user)
