"""A stored `clerk_id` that is not a valid Clerk id counts as no account, and blocks nothing."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from tests.support.bulk_pages import plan, press
from tests.support.change_form import page_of, stored, submit, text_of
from tests.support.commands import run
from tests.support.events import arrive, happened
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, SyncAttemptFactory
from tests.support.workers import work
from users.ids import USER_ID
from users.models import BuilderUser, ClerkAccount, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)

BAD_IDS = ["placeholder_1", "USER_2ABC", "", "  ", "user_2Ab\n", "user_", "user_2Ab/../x"]
NO_ACCOUNT = "has no Clerk account"


@pytest.fixture(autouse=True)
def _original_table(db):
    """The table of the application before accepts an empty id: it has no such constraint."""
    [constraint] = [
        one for one in BuilderUser._meta.constraints if one.name == "users_clerk_id_not_empty"
    ]
    with connection.schema_editor() as editor:
        editor.remove_constraint(BuilderUser, constraint)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM users_invitation; DELETE FROM users WHERE clerk_id = ''")
    with connection.schema_editor() as editor:
        editor.add_constraint(BuilderUser, constraint)


@pytest.fixture(params=BAD_IDS, ids=repr)
def user(request, sandbox) -> BuilderUser:
    user = BuilderUserFactory(name="Mary Ann Smith", email="mary@example.com")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE users SET clerk_id = %s WHERE id = %s", [request.param, user.pk])
    return stored(user)


def url(user: BuilderUser, name: str, *arguments: str) -> str:
    return reverse(f"admin:users_builderuser_{name}", args=[user.pk, *arguments])


class TestForm:
    def test_an_edit_is_saved_here_alone(self, client, sandbox, user):
        group = BuilderGroupFactory()
        response = submit(
            client, user, name="Mary Ann Jones", email="new@example.com", builder_group=group.pk
        )
        assert response.status_code == 302, text_of(response)
        now = stored(user)
        assert (now.name, now.email, now.builder_group) == (
            "Mary Ann Jones",
            "new@example.com",
            group,
        )
        assert now.clerk_id == user.clerk_id
        assert SyncAttempt.objects.get().status == "applied"
        assert sandbox.requests() == []

    def test_it_says_that_the_id_is_not_valid_and_what_to_do(self, client, user):
        text = text_of(client.get(page_of(user)))
        assert f"The stored Clerk id “{user.clerk_id}” is not a valid Clerk id" in text
        assert "<em>Unlink</em> clears the id." in text
        assert url(user, "unlink") in text
        assert url(user, "link") in text
        assert url(user, "ban") not in text

    def test_the_list_shows_no_account(self, client, user):
        assert "No Clerk account" in text_of(
            client.get("/admin/users/builderuser/?clerk=not_linked")
        )


class TestPages:
    @pytest.mark.parametrize("page", ["ban", "unban", "unlock", "reset_mfa", "sign_out"])
    def test_an_action_in_clerk_is_refused(self, client, sandbox, user, page):
        assert client.get(url(user, page)).status_code == 200
        response = client.post(url(user, page))
        assert response.status_code == 200
        assert NO_ACCOUNT in text_of(response)
        assert sandbox.requests() == []

    def test_unlink_clears_the_id(self, client, sandbox, user):
        assert client.get(url(user, "unlink")).status_code == 200
        assert client.post(url(user, "unlink")).status_code == 302
        assert stored(user).clerk_id is None
        assert SyncAttempt.objects.get().changes == {"clerk_id": [user.clerk_id, None]}
        assert sandbox.requests() == []

    def test_delete_deletes_here(self, client, sandbox, user):
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        assert "no Clerk account" in text_of(client.get(page))
        assert client.post(page, {"post": "yes"}).status_code == 302
        assert not BuilderUser.objects.exists()
        assert sandbox.requests() == []

    def test_delete_from_the_list(self, client, sandbox, user, settings):
        settings.CLERK_SCAN_AT = None
        press(client, plan(client, [user], action="delete"), "begin", count="1")
        work()
        assert not BuilderUser.objects.exists()
        assert sandbox.requests() == []

    def test_link_replaces_the_id(self, client, sandbox, user):
        account = sandbox.add_user(email="mary@example.com")
        assert account["id"] in text_of(client.get(url(user, "link")))
        response = client.post(url(user, "link"), {"clerk_id": account["id"]})
        assert response.status_code == 302, text_of(response)
        assert stored(user).clerk_id == account["id"]
        assert ClerkAccount.objects.get().user == user

    def test_invite_is_for_a_first_account(self, client, sandbox, user):
        response = client.post(url(user, "invite"))
        assert response.status_code == 302, text_of(response)
        assert user.invitations.get().purpose == "new_account"
        [invitation] = sandbox.invitations()
        accepted = sandbox.accept(invitation["id"])
        arrive(sandbox)
        assert stored(user).clerk_id == accepted["id"]

    def test_a_new_email_or_password_has_no_account_to_change(self, client, sandbox, user):
        assert client.get(url(user, "email")).status_code == 200
        data = {"email": "new@example.com", "how": "replace"}
        assert client.post(url(user, "email"), data).status_code == 403
        data = {"password1": "correct horse battery", "password2": "correct horse battery"}
        assert NO_ACCOUNT in text_of(client.post(url(user, "password"), data))
        assert sandbox.requests() == []

    @pytest.mark.parametrize(
        ("page", "arguments"),
        [
            ("refresh", []),
            ("take_over", []),
            ("check", []),
            ("push", ["name"]),
            ("push", ["email"]),
            ("pull", ["name"]),
        ],
    )
    def test_a_button_of_the_form_is_no_error(self, client, sandbox, user, page, arguments):
        assert client.post(url(user, page, *arguments)).status_code == 302
        assert stored(user).clerk_id == user.clerk_id
        assert sandbox.requests() == []

    def test_an_attempt_that_recorded_the_id_is_abandoned(self, client, sandbox, user):
        attempt = SyncAttemptFactory(
            user=user,
            clerk_id=user.clerk_id,
            changes={"name": [user.name, "Mary Ann Jones"]},
            details={"clerk_name": user.name, "split": ["Mary Ann", "Jones"]},
        )
        assert client.post(url(user, "check")).status_code == 302
        attempt.refresh_from_db()
        assert attempt.status == "dropped"
        assert submit(client, user, name="Mary Ann Brown").status_code == 302
        assert stored(user).name == "Mary Ann Brown"


class TestCommands:
    def test_clerk_diff_lists_it(self, sandbox, user):
        code, out = run("clerk_diff", "--json")
        document = json.loads(out)
        assert code == 2
        assert document["summary"] == {"Linked to something that is not a valid Clerk id": 1}
        [difference] = document["differences"]
        assert (difference["kind"], difference["clerk_id"]) == ("invalid_id", user.clerk_id)
        assert "unlink the user" in difference["cause"]

    @pytest.mark.parametrize("command", ["clerk_push", "clerk_pull"])
    def test_a_copying_command_leaves_it_out(self, sandbox, user, command):
        code, out = run(command, "--apply")
        assert code == 0
        assert "Left out: 1 without a Clerk account." in out
        assert stored(user).clerk_id == user.clerk_id

    def test_clerk_link_links_it(self, sandbox, user):
        account = sandbox.add_user(email="mary@example.com")
        code, out = run("clerk_link", "--apply")
        assert code == 0, out
        assert stored(user).clerk_id == account["id"]

    def test_an_event_links_it(self, sandbox, user):
        happened(sandbox)
        account = sandbox.add_user(email="mary@example.com")
        arrive(sandbox)
        assert stored(user).clerk_id == account["id"]


@given(
    st.one_of(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
        st.from_regex(r"user_[A-Za-z0-9_]*[\n ]?é?", fullmatch=True),
        st.from_regex(USER_ID),
    )
)
def test_python_and_postgresql_agree_on_valid_ids(text):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s ~ %s", [text, USER_ID.pattern])
        assert cursor.fetchone() == (bool(USER_ID.match(text)),)
    assert BuilderUser(clerk_id=text).linked == bool(USER_ID.match(text))
