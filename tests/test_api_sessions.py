"""Who may use the API, and for what: the token proves a person, our row says what they may do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from django.test import Client
from django.utils import timezone

from sandbox.tokens import key_of
from tests.support.change_form import stored
from tests.support.factories import BuilderUserFactory, change_here, linked
from tests.support.front_end import ORIGIN, administrator, ask, claims_of, edit, rename, token_of
from users.clerk import ClerkUser
from users.models import Agreement, ClerkAccount, SyncAttempt
from users.sync.mirror import store
from users.sync.services import linking

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("front_end")]

NO_PERMISSION = "You don't have permission for this. Ask an administrator."
ENDPOINTS = [("POST", "update-clerk-user"), ("PATCH", "users/x"), ("POST", "sync-user")]


def is_refused(sandbox, user, token: str = "", **headers: str) -> str:
    """Whoever sends this changes nothing, learns nothing, and is told why."""
    body = {"clerkId": user.clerk_id, "updates": {"firstName": "Eve"}}
    for method, path in ENDPOINTS:
        response = ask(method, path, body, token=token, **headers)
        assert response.status_code == 401, (path, response.content)
        assert response["WWW-Authenticate"] == "Bearer"
        told = response.json()["error"]
    assert sandbox.requests() == []
    assert stored(user).name == user.name
    assert not SyncAttempt.objects.exists()
    return told


# --- The token -----------------------------------------------------------------------------------


def test_nobody_gets_in_without_a_token(sandbox):
    user = administrator(sandbox)
    assert is_refused(sandbox, user) == "Sign in first."


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Token x", "\x00", "é"])
def test_a_header_without_a_token_proves_nobody(sandbox, header):
    assert is_refused(sandbox, administrator(sandbox), Authorization=header) == "Sign in first."


def test_a_clerk_id_is_no_proof(sandbox):
    user = administrator(sandbox)
    is_refused(sandbox, user, token=user.clerk_id)


@pytest.mark.parametrize("prefix", ["mt_", "m2m_", "ak_", "oat_"])
def test_machine_tokens_are_refused_without_asking_anybody(sandbox, monkeypatch, prefix):
    """Where a token of another type is not refused, the SDK asks Clerk about it."""
    asked = []
    monkeypatch.setattr("clerk_backend_api.security.verifytoken.httpx.Client", asked.append)
    is_refused(sandbox, administrator(sandbox), token=f"{prefix}anything")
    assert asked == []


@pytest.mark.parametrize("junk", ["a", "a.b.c", "..", "é.é.é", "x" * 7000, "\x7f.\x7f.\x7f"])
def test_a_malformed_token_is_refused(sandbox, junk):
    is_refused(sandbox, administrator(sandbox), token=junk)


def test_a_cookie_of_the_session_proves_nobody(sandbox):
    user = administrator(sandbox)
    client = Client()
    client.cookies["__session"] = token_of(sandbox, user)
    sandbox.clear_requests()
    response = ask("POST", "sync-user", client=client)
    assert response.status_code == 401


def test_the_session_of_a_staff_member_proves_nobody(sandbox, client):
    response = ask("POST", "sync-user", client=client)
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"exp": -3600}, "This session has expired. Sign in again."),
        ({"nbf": 3600}, "This session is not valid. Sign in again."),
        ({"iat": 3600}, "This session is not valid. Sign in again."),
        ({"azp": "https://evil.example.com"}, "This session is not valid. Sign in again."),
        ({"azp": f"{ORIGIN}.evil.example"}, "This session is not valid. Sign in again."),
        ({"azp": None}, "This session is not valid. Sign in again."),
        ({"exp": None}, "This session does not allow this. Sign in again."),
        ({"exp": 3600}, "This session does not allow this. Sign in again."),
        ({"iat": None}, "This session does not allow this. Sign in again."),
        ({"sid": None}, "This session does not allow this. Sign in again."),
        ({"sid": "tmpl_1"}, "This session does not allow this. Sign in again."),
        ({"sts": "pending"}, "This session does not allow this. Sign in again."),
        ({"act": {"sub": "user_staff"}}, "This session does not allow this. Sign in again."),
        ({"sub": None}, "This session does not allow this. Sign in again."),
        ({"sub": "../users"}, "This session does not allow this. Sign in again."),
        ({"sub": 7}, "This session is not valid. Sign in again."),
    ],
)  # fmt: skip
def test_a_token_that_clerk_signed_for_something_else_is_refused(sandbox, change, told):
    user = administrator(sandbox)
    claims = claims_of(sandbox, user)
    for name, value in change.items():
        claims[name] = (
            int(time.time()) + value if name in ("exp", "nbf", "iat") and value else value
        )
    token = sandbox.session_key.signed({k: v for k, v in claims.items() if v is not None})
    sandbox.clear_requests()
    assert is_refused(sandbox, user, token=token) == told


def test_a_token_of_another_instance_is_refused(sandbox):
    user = administrator(sandbox)
    token = key_of("sk_test_another").signed(claims_of(sandbox, user))
    assert is_refused(sandbox, user, token=token) == "This session is not valid. Sign in again."


@pytest.mark.parametrize("alg", ["none", "None", "HS256", "RS512", "ES256", ""])
def test_no_other_algorithm_is_taken(sandbox, alg):
    """Among them HS256 with the public key as its secret, which everybody may know."""
    user = administrator(sandbox)
    claims = claims_of(sandbox, user)
    header = {"alg": alg, "typ": "JWT"}
    text = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (header, claims)
    )
    pem = sandbox.session_key.public_pem
    for secret in (pem, pem.strip(), pem.replace("\n", "")):
        digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        is_refused(sandbox, user, token=f"{text}.{signature}")
    is_refused(sandbox, user, token=f"{text}.")


def test_a_token_with_a_changed_claim_is_refused(sandbox):
    user, other = administrator(sandbox), linked(sandbox)
    head, _, signature = token_of(sandbox, other).split(".")
    claims = json.dumps(claims_of(sandbox, user)).encode()
    forged = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    sandbox.clear_requests()
    is_refused(sandbox, user, token=f"{head}.{forged}.{signature}")


def test_a_key_whose_lines_an_environment_file_joined_is_read(sandbox, settings):
    user = administrator(sandbox)
    settings.CLERK_JWT_KEY = sandbox.session_key.public_pem.replace("\n", " ")
    assert ask("POST", "sync-user", token=token_of(sandbox, user)).status_code == 200
    assert jwt.get_unverified_header(token_of(sandbox, user))["alg"] == "RS256"
    assert claims_of(sandbox, user)["azp"] == ORIGIN


# --- What a person may do ------------------------------------------------------------------------


def may_not(sandbox, person, user, **updates):
    """The person is refused, and neither side changes."""
    before = sandbox.user(user.clerk_id)
    token = token_of(sandbox, person)
    sandbox.clear_requests()
    tries = [rename(token, user, **(updates or {"firstName": "Eve"}))]
    if not updates:
        tries.append(edit(token, user, name="Eve Smith", builderGroupId=None))
    for response in tries:
        assert response.status_code == 403, response.content
        assert response.json()["error"] == NO_PERMISSION
    assert sandbox.requests() == []
    assert sandbox.user(user.clerk_id)["public_metadata"] == before["public_metadata"]
    assert stored(user).name == user.name


@pytest.mark.parametrize(
    ("role", "internal_role"),
    [
        ("BUILDER", None), ("BUILDER", "Administrator"), ("HOMEOWNER", None), ("ADMIN", None),
        ("ADMIN", "Employee"), ("ADMIN", "administrator"), ("ADMIN", "Administrator "),
    ],
)  # fmt: skip
def test_nobody_but_an_administrator_edits_others(sandbox, role, internal_role):
    person = linked(sandbox, name="Bob Lee", role=role, internal_role=internal_role)
    may_not(sandbox, person, linked(sandbox))


def test_somebody_without_a_row_edits_nobody(sandbox):
    stranger = sandbox.add_user(email="stranger@example.com")
    may_not(sandbox, stranger["id"], linked(sandbox))
    token = token_of(sandbox, stranger["id"])
    assert rename(token, stranger["id"], firstName="Eve").status_code == 403


@pytest.mark.parametrize(
    "known",
    [
        {"banned": True},
        {"deleted_at": "2026-01-01T00:00:00Z"},
        {"not_found_at": "2026-01-01T00:00:00Z"},
        {"email_verified": False},
        {"email": "other@example.com"},
    ],
)
def test_an_administrator_whose_account_is_not_in_order_edits_nobody(sandbox, known):
    person = administrator(sandbox)
    ClerkAccount.objects.filter(pk=person.clerk_id).update(**known)
    may_not(sandbox, person, linked(sandbox))


def test_an_account_that_staff_connected_may_have_another_address(sandbox, staff):
    person = administrator(sandbox, clerk={"verified": False})
    user = linked(sandbox)
    may_not(sandbox, person, user)
    linking.unlink(stored(person), actor=staff)
    linking.link(stored(person), actor=staff, clerk_id=person.clerk_id)
    assert rename(token_of(sandbox, person), user, firstName="Marie").status_code == 200


def test_a_link_of_staff_to_an_earlier_account_counts_no_more(sandbox, staff):
    """Another application has given the row another account since."""
    person = administrator(sandbox, clerk={"verified": False})
    linking.unlink(stored(person), actor=staff)
    linking.link(stored(person), actor=staff, clerk_id=person.clerk_id)
    thief = sandbox.add_user(email=person.email, verified=False)
    store.keep(ClerkUser.parse(thief, asked_at=timezone.now()))
    change_here(person, clerk_id=thief["id"])
    assert Agreement.objects.get(pk=person.pk).clerk_id == person.clerk_id
    may_not(sandbox, thief["id"], linked(sandbox))


def test_a_banned_administrator_is_out_as_soon_as_we_know(sandbox):
    person, user = administrator(sandbox), linked(sandbox)
    token = token_of(sandbox, person)
    assert rename(token, user, firstName="Marie").status_code == 200
    sandbox.edit(person.clerk_id, banned=True)
    assert ask("POST", "sync-user", token=token).status_code == 403
    assert rename(token, user, firstName="Mary").status_code == 403
    assert rename(token, person, firstName="Anna").status_code == 403


def test_an_administrator_who_was_made_an_employee_is_out_at_once(sandbox):
    person, user = administrator(sandbox), linked(sandbox)
    token = token_of(sandbox, person)
    change_here(person, internal_role="Employee")
    assert rename(token, user, firstName="Marie").status_code == 403


@pytest.mark.parametrize("role", ["BUILDER", "HOMEOWNER", "ADMIN"])
def test_everybody_changes_their_own_name(sandbox, role):
    person = linked(sandbox, role=role)
    token = token_of(sandbox, person)
    assert rename(token, person, firstName="Marie", lastName="Smith").status_code == 200
    assert stored(person).name == "Marie Smith"
    assert edit(token, person, name="Marie Jones").status_code == 200
    assert sandbox.user(person.clerk_id)["last_name"] == "Jones"
    assert [one.actor_name for one in SyncAttempt.objects.order_by("id")] == [
        "Mary Ann Smith", "Marie Smith"]  # fmt: skip


def test_nobody_but_an_administrator_changes_metadata_not_even_their_own(sandbox):
    person = linked(sandbox, role="ADMIN", internal_role="Employee")
    may_not(sandbox, person, person, publicMetadata={"role": "admin"})
    may_not(sandbox, person, person, firstName="Eve", publicMetadata={"role": None})


def test_a_person_changes_neither_their_email_nor_their_group(sandbox):
    person = linked(sandbox)
    token = token_of(sandbox, person)
    for fields in ({"email": "new@example.com"}, {"builderGroupId": str(person.pk)}):
        response = edit(token, person, name="Eve Smith", **fields)
        assert (response.status_code, response.json()["error"]) == (403, NO_PERMISSION)
    assert (stored(person).name, stored(person).email) == (person.name, person.email)


def test_a_person_may_send_their_own_values_back(sandbox):
    """The front end sends every field of its form, also those that nobody touched."""
    person = linked(sandbox)
    fields = {"name": "Marie Smith", "email": person.email.upper(), "builderGroupId": ""}
    response = edit(token_of(sandbox, person), person, **fields)
    assert response.status_code == 200
    assert stored(person).name == "Marie Smith"


def test_a_row_without_an_account_is_edited_by_administrators_alone(sandbox):
    user = BuilderUserFactory()
    assert edit(token_of(sandbox, linked(sandbox)), user, name="Eve").status_code == 403
    assert edit(token_of(sandbox, administrator(sandbox)), user, name="Eve").status_code == 200


def test_an_account_without_a_row_is_edited_by_nobody(sandbox):
    stranger = sandbox.add_user(email="stranger@example.com", first_name="Sue")
    response = rename(token_of(sandbox, administrator(sandbox)), stranger["id"], firstName="Eve")
    assert response.status_code == 404
    assert response.json() == {"error": "User not found in database"}
    assert sandbox.user(stranger["id"])["first_name"] == "Sue"
