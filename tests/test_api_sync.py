"""`POST /api/sync-user`: what a person's sign-in shows is a fact like every other one."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from sandbox import Sandbox
from tests.support.change_form import stored
from tests.support.events import arrive, happened
from tests.support.factories import BuilderUserFactory, linked
from tests.support.front_end import administrator, ask, token_of
from users.models import BuilderUser, ClerkAccount, SyncAttempt
from users.sync.services import linking

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("front_end")]


def sync(sandbox: Sandbox, clerk_id: str):
    return ask("POST", "sync-user", token=token_of(sandbox, clerk_id))


def stays_out(sandbox: Sandbox, clerk_id: str, user: BuilderUser) -> None:
    """The person gets no row, and is told no more than that."""
    before = stored(user).clerk_id
    response = sync(sandbox, clerk_id)
    assert response.status_code == 404
    assert response.json() == {
        "success": False,
        "error": "No user here belongs to this sign-in. Ask an administrator.",
    }
    assert stored(user).clerk_id == before


def test_a_verified_address_connects_the_row_and_fills_it(sandbox):
    user = BuilderUserFactory(email="mary@example.com")
    mary = sandbox.add_user(email="Mary@Example.com", first_name="Mary Ann", last_name="Smith",
                            image_url="https://img.example.com/m.png")  # fmt: skip
    response = sync(sandbox, mary["id"])
    assert response.status_code == 200
    assert response.json() == {
        "success": True,
        "user": {
            "id": str(user.pk),
            "clerkId": mary["id"],
            "name": "Mary Ann Smith",
            "email": "mary@example.com",
            "role": "BUILDER",
            "internalRole": None,
            "builderGroupId": None,
            "imageUrl": "https://img.example.com/m.png",
        },
    }
    attempt = SyncAttempt.objects.get()
    assert (attempt.operation, attempt.source, attempt.status) == ("link", "api", "applied")
    assert attempt.details["reason"] == "The account had this email, verified, first."
    assert sandbox.writes() == []


def test_a_name_that_changed_in_clerk_follows(sandbox):
    user = linked(sandbox)
    sandbox.edit(user.clerk_id, last_name="Jones")
    assert sync(sandbox, user.clerk_id).json()["user"]["name"] == "Mary Ann Jones"
    assert stored(user).name == "Mary Ann Jones"


def test_a_name_that_staff_gave_since_stays(sandbox):
    """The row moved and Clerk did not: that is for people, as after an event."""
    user = linked(sandbox, name="Mary Smith-Jones", first_name="Mary", last_name="Smith")
    assert sync(sandbox, user.clerk_id).json()["user"]["name"] == "Mary Smith-Jones"


def test_it_ends_as_the_event_would_have_ended(sandbox):
    rows = []
    for way in ("event", "sync"):
        user = BuilderUserFactory(email=f"{way}@example.com", name="As it was")
        sandbox.add_user(email=f"{way}@example.com", first_name="New", last_name="Name")
        if way == "event":
            arrive(sandbox)
        else:
            sync(sandbox, sandbox.find(user.email)[0]["id"])
        row = stored(user)
        rows.append((row.name, row.role, row.agreement.linked_by, row.agreement.own_name))
        happened(sandbox)
    assert rows[0] == rows[1]
    assert rows[0][2] == "address"


def test_a_row_that_another_application_wrote_later_is_found(sandbox):
    mary = sandbox.add_user(email="mary@example.com")
    arrive(sandbox)
    user = BuilderUserFactory(email="mary@example.com")
    assert sync(sandbox, mary["id"]).status_code == 200
    assert stored(user).clerk_id == mary["id"]


def test_an_address_that_nobody_verified_connects_nothing(sandbox):
    user = BuilderUserFactory(email="mary@example.com")
    thief = sandbox.add_user(email="mary@example.com", verified=False)
    stays_out(sandbox, thief["id"], user)


def test_an_address_that_is_not_the_primary_one_connects_nothing(sandbox):
    user = BuilderUserFactory(email="mary@example.com")
    other = sandbox.add_user(email="other@example.com")
    second = sandbox.add_user(email="mary@example.com")["email_addresses"][0]
    sandbox.delete(sandbox.find("mary@example.com")[0]["id"])
    sandbox.edit(other["id"], email_addresses=[second, *other["email_addresses"]])
    stays_out(sandbox, other["id"], user)


def test_a_claim_in_the_metadata_makes_nobody_an_administrator(sandbox):
    user = BuilderUserFactory(role="ADMIN", internal_role="Administrator")
    thief = sandbox.add_user(
        email="thief@example.com", public_metadata={"cascade_user_id": str(user.pk)}
    )
    stays_out(sandbox, thief["id"], user)


def test_a_row_that_belongs_to_another_account_stays_there(sandbox):
    user = administrator(sandbox)
    sandbox.edit(user.clerk_id, email="moved@example.com")
    thief = sandbox.add_user(email=user.email)
    stays_out(sandbox, thief["id"], user)


def test_an_administrators_row_whose_account_was_deleted_waits_for_a_person(sandbox):
    user = administrator(sandbox)
    happened(sandbox)
    sandbox.delete(user.clerk_id)
    arrive(sandbox)
    another = sandbox.add_user(email=user.email)
    stays_out(sandbox, another["id"], user)


def test_an_account_that_staff_disconnected_stays_disconnected(sandbox, staff):
    user = linked(sandbox)
    linking.unlink(user, actor=staff)
    stays_out(sandbox, user.clerk_id, user)


def test_no_role_is_given_to_anybody(sandbox):
    """The application before made every ADMIN without an internal role an Administrator."""
    user = BuilderUserFactory(email="mary@example.com", role="ADMIN", internal_role=None)
    mary = sandbox.add_user(email="mary@example.com")
    assert sync(sandbox, mary["id"]).json()["user"]["internalRole"] is None
    assert stored(user).internal_role is None


def test_what_the_person_sends_is_not_believed(sandbox):
    user = BuilderUserFactory(email="mary@example.com")
    thief = sandbox.add_user(email="thief@example.com")
    body = {"clerkId": thief["id"], "primaryEmailAddress": {"emailAddress": user.email}}
    response = ask("POST", "sync-user", body, token=token_of(sandbox, thief["id"]))
    assert response.status_code == 422
    assert stored(user).clerk_id is None


def test_a_row_that_somebody_is_saving_follows_later(sandbox):
    user = BuilderUserFactory(email="mary@example.com")
    mary = sandbox.add_user(email="mary@example.com")
    answers = []

    def ask_meanwhile() -> None:
        answers.append(sync(sandbox, mary["id"]))
        connection.close()

    with transaction.atomic():
        BuilderUser.objects.select_for_update().get(pk=user.pk)
        meanwhile = threading.Thread(target=ask_meanwhile)
        meanwhile.start()
        meanwhile.join()
    assert answers[0].status_code == 409
    assert "being saved by someone else right now" in answers[0].json()["error"]
    assert sync(sandbox, mary["id"]).status_code == 200
    assert stored(user).clerk_id == mary["id"]


def test_an_account_that_is_gone_is_told_as_before(sandbox):
    user = linked(sandbox)
    token = token_of(sandbox, user)
    sandbox.delete(user.clerk_id)
    response = ask("POST", "sync-user", token=token)
    assert response.status_code == 404
    assert response.json()["error"] == "User not found in Clerk. They may have been deleted."
    assert ClerkAccount.objects.get(pk=user.clerk_id).not_found_at


def test_clerk_that_is_down_changes_nothing(sandbox, settings):
    user = BuilderUserFactory(email="mary@example.com")
    mary = sandbox.add_user(email="mary@example.com")
    token = token_of(sandbox, mary["id"])
    settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
    response = ask("POST", "sync-user", token=token)
    assert response.status_code == 503
    assert response.json()["error"].startswith("Failed to connect to authentication system.")
    assert stored(user).clerk_id is None
