"""What the front end has always been answered, byte by byte, and what is new beside it."""

from __future__ import annotations

import pytest

from tests.support.change_form import stored
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, linked
from tests.support.front_end import administrator, ask, edit, rename, token_of
from users.models import SyncAttempt

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("front_end")]


@pytest.fixture
def admin_token(sandbox):
    return token_of(sandbox, administrator(sandbox))


# --- POST /api/update-clerk-user, as it was ------------------------------------------------------


def test_a_renamed_account_is_answered_as_before(sandbox, admin_token):
    user = linked(sandbox)
    response = rename(admin_token, user, firstName="Mary", lastName="O’Hara Jones")
    assert response.status_code == 200
    assert response.content.decode() == (
        f'{{"success":true,"user":{{"id":"{user.clerk_id}","firstName":"Mary",'
        '"lastName":"O’Hara Jones"}}'
    )
    account = sandbox.user(user.clerk_id)
    assert (account["first_name"], account["last_name"]) == ("Mary", "O’Hara Jones")
    assert stored(user).name == "Mary O’Hara Jones"


def test_an_account_without_a_last_name_is_answered_with_null(sandbox, admin_token):
    user = linked(sandbox)
    response = rename(admin_token, user, firstName="Cher", lastName=None)
    assert response.content.decode() == (
        f'{{"success":true,"user":{{"id":"{user.clerk_id}","firstName":"Cher","lastName":null}}}}'
    )
    assert stored(user).name == "Cher"


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_refused_as_before(admin_token, method):
    response = ask(method, "update-clerk-user", token=admin_token)
    assert (response.status_code, response.content) == (405, b'{"error":"Method not allowed"}')
    assert response["Allow"] == "POST"


@pytest.mark.parametrize("body", [None, {}, {"updates": {}}, {"clerkId": ""}, {"clerkId": None}])
def test_a_missing_id_is_refused_as_before(admin_token, body):
    response = ask("POST", "update-clerk-user", body, token=admin_token)
    assert (response.status_code, response.content) == (400, b'{"error":"clerkId is required"}')


def test_an_account_that_clerk_does_not_have_is_answered_as_before(sandbox, admin_token):
    user = linked(sandbox)
    sandbox.delete(user.clerk_id)
    response = rename(admin_token, user, firstName="Mary", lastName="Jones")
    assert response.status_code == 404
    assert response.content == (b'{"error":"User not found in Clerk. They may have been deleted."}')
    assert stored(user).name == "Mary Ann Smith"


def test_a_refusal_of_clerk_begins_as_before(sandbox, admin_token):
    user = linked(sandbox)
    sandbox.names = "both_required"
    response = rename(admin_token, user, firstName="Cher", lastName="")
    assert response.status_code == 422
    assert response.json()["error"].startswith("Invalid update data: ")
    assert "Nothing was saved." in response.json()["error"]
    assert stored(user).name == "Mary Ann Smith"


@pytest.mark.parametrize("missing", ["CLERK_SECRET_KEY", "CLERK_JWT_KEY", "CORS_ALLOWED_ORIGINS"])
def test_a_missing_key_is_answered_as_before(sandbox, admin_token, settings, missing):
    user = linked(sandbox)
    setattr(settings, missing, "")
    response = rename(admin_token, user, firstName="Mary", lastName="Jones")
    assert response.status_code == 500
    assert response.content == (
        b'{"error":"Clerk authentication not configured. Contact administrator."}'
    )
    assert stored(user).name == "Mary Ann Smith"


def test_any_other_failure_begins_as_before(sandbox, admin_token):
    user = linked(sandbox)
    sandbox.fault("*", "status", status=401, code="clerk_key_invalid")
    response = rename(admin_token, user, firstName="Mary", lastName="Jones")
    assert response.status_code == 502
    assert response.json()["error"].startswith("Failed to update user: ")


# --- What the names mean -------------------------------------------------------------------------


def test_a_name_that_is_not_given_stays(sandbox, admin_token):
    user = linked(sandbox)
    assert rename(admin_token, user, lastName="Jones").json()["user"]["firstName"] == "Mary Ann"
    account = sandbox.user(user.clerk_id)
    assert (account["first_name"], account["last_name"]) == ("Mary Ann", "Jones")


def test_another_split_of_the_same_name_changes_nothing(sandbox, admin_token):
    """The front end splits every name at its first space, also when only the group was edited."""
    user = linked(sandbox)
    response = rename(admin_token, user, firstName="Mary", lastName="Ann Smith")
    assert response.json()["user"] == {
        "id": user.clerk_id, "firstName": "Mary Ann", "lastName": "Smith"}  # fmt: skip
    assert sandbox.writes() == []


def test_a_name_that_the_row_has_and_clerk_has_not_is_sent(sandbox, admin_token):
    user = linked(sandbox, name="Mary Jones", first_name="Mary", last_name="Smith")
    response = rename(admin_token, user, firstName="Mary", lastName="Jones")
    assert response.json()["user"]["lastName"] == "Jones"
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"


@pytest.mark.parametrize(
    ("updates", "told"),
    [
        ({"firstName": "", "lastName": " "}, "Invalid update data: Enter a name."),
        ({"firstName": "<b>"}, "Invalid update data: A name cannot hold < or >."),
        ({"firstName": 7}, "Invalid update data: firstName must be a text or null."),
        ({"publicMetadata": []}, "Invalid update data: publicMetadata must be an object."),
        ({"role": "ADMIN"}, "Invalid update data: role is not a field of this request."),
    ],
)
def test_data_that_makes_no_sense_is_refused(sandbox, admin_token, updates, told):
    user = linked(sandbox)
    response = rename(admin_token, user, **updates)
    assert response.status_code == 422
    assert response.json()["error"].startswith(told)
    assert sandbox.writes() == []


# --- Metadata ------------------------------------------------------------------------------------


def test_metadata_is_merged_and_never_replaced(sandbox, admin_token):
    before = {"plan": {"name": "basic", "seats": 3}, "x": 1}
    user = linked(sandbox, clerk={"public_metadata": before | {"kept": [1]}})
    patch = {"plan": {"name": "pro"}, "x": None}
    response = rename(admin_token, user, publicMetadata=patch)
    assert response.status_code == 200, response.content
    after = {"plan": {"name": "pro", "seats": 3}, "kept": [1]}
    assert sandbox.user(user.clerk_id)["public_metadata"] == after
    [attempt] = SyncAttempt.objects.filter(operation="merge_metadata")
    assert (attempt.status, attempt.source, attempt.actor_name) == ("applied", "api", "Ann Lee")
    assert attempt.changes == {"public_metadata": [before, patch]}


def test_a_new_name_keeps_all_metadata(sandbox, admin_token):
    user = linked(sandbox, clerk={"public_metadata": {"plan": "pro"}})
    rename(admin_token, user, firstName="Mary", lastName="Jones", publicMetadata={})
    assert sandbox.user(user.clerk_id)["public_metadata"] == {"plan": "pro"}


@pytest.mark.parametrize("key", ["cascade_user_id", "cascade_invitation"])
def test_our_own_keys_are_reserved_for_everybody(sandbox, admin_token, key):
    user = linked(sandbox)
    response = rename(admin_token, user, firstName="Eve", publicMetadata={key: str(user.pk)})
    assert response.status_code == 422
    assert f"{key} is reserved for this application." in response.json()["error"]
    assert sandbox.writes() == []


def test_metadata_that_clerk_refuses_does_not_hide_that_the_name_was_saved(sandbox, admin_token):
    user = linked(sandbox)
    response = rename(
        admin_token, user, firstName="Mary", lastName="Jones", publicMetadata={"big": "x" * 9000}
    )
    assert response.status_code == 422
    assert "The name was saved. The metadata was not saved:" in response.json()["error"]
    assert stored(user).name == "Mary Jones"
    assert sandbox.user(user.clerk_id)["public_metadata"] == {}


# --- PATCH /api/users/<id> -----------------------------------------------------------------------


def test_name_and_group_are_saved_on_both_sides(sandbox, admin_token):
    user, group = linked(sandbox), BuilderGroupFactory()
    response = edit(admin_token, user, name="Mary Ann Jones", builderGroupId=str(group.pk))
    assert (response.status_code, response.content) == (200, b'{"success":true}')
    assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Jones", group)
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"
    [attempt] = SyncAttempt.objects.filter(user=user)
    assert (attempt.source, attempt.actor, attempt.actor_name) == ("api", None, "Ann Lee")


@pytest.mark.parametrize("none", [None, ""])
def test_no_group_is_no_group(sandbox, admin_token, none):
    user = linked(sandbox, builder_group=BuilderGroupFactory())
    assert edit(admin_token, user, builderGroupId=none).status_code == 200
    assert stored(user).builder_group is None
    assert edit(admin_token, user, builderGroupId=none).status_code == 200


def test_the_email_of_a_linked_user_requires_an_invitation(sandbox, admin_token):
    user = linked(sandbox)
    response = edit(admin_token, user, name="Mary Jones", email="new@example.com")
    assert response.status_code == 422
    told = response.json()
    assert told == {"success": False, "error": told["error"], "requiresInvitation": True}
    assert told["error"].startswith(
        "Email changes for existing users require re-invitation for security."
    )
    assert (stored(user).name, stored(user).email) == (user.name, user.email)
    assert sandbox.writes() == []


def test_the_email_of_a_user_without_an_account_is_saved(admin_token):
    user = BuilderUserFactory()
    assert edit(admin_token, user, email=" New@Example.com").status_code == 200
    assert stored(user).email == "new@example.com"


def test_an_email_that_is_taken_is_refused(admin_token):
    user, other = BuilderUserFactory(), BuilderUserFactory()
    response = edit(admin_token, user, email=other.email)
    assert response.status_code == 422
    assert response.json()["error"].startswith("Another builder user has this email.")
    assert stored(user).email == user.email


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": ""}, "Invalid update data: Enter a name."),
        ({"email": "nobody"}, "Invalid update data: Enter a valid email address."),
        ({"builderGroupId": "x"}, "Invalid update data: This group does not exist."),
        ({"builderGroupId": 7}, "Invalid update data: builderGroupId must be a text or null."),
        ({"password": "x"}, "Invalid update data: password is not a field of this request."),
    ],
)
def test_fields_that_make_no_sense_are_refused(sandbox, admin_token, fields, told):
    user = BuilderUserFactory()
    response = edit(admin_token, user, **fields)
    assert response.status_code == 422
    assert response.json()["success"] is False
    assert response.json()["error"].startswith(told)


@pytest.mark.parametrize("user_id", ["x", "00000000-0000-0000-0000-000000000000"])
def test_a_row_that_does_not_exist_is_answered_as_before(admin_token, user_id):
    response = ask("PATCH", f"users/{user_id}", {"name": "Bob"}, token=admin_token)
    assert response.status_code == 404
    assert response.content == b'{"success":false,"error":"User not found in database"}'


def test_another_administrators_email_and_role_are_not_moved_from_the_front_end(admin_token):
    """Whoever has the address of an administrator without an account can become that one."""
    user = BuilderUserFactory(role="ADMIN", email="boss@example.com")
    response = edit(admin_token, user, email="mine@example.com")
    assert response.status_code == 403
    assert stored(user).email == "boss@example.com"
    assert edit(admin_token, user, name="Bob Boss").status_code == 200
