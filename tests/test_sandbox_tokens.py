"""The sandbox issues session tokens as Clerk does, to its people alone."""

from __future__ import annotations

import html
import re

import jwt
import pytest
import requests

from sandbox.errors import Refusal
from sandbox.tokens import key_of
from tests.support.patience import PATIENCE

ORIGIN = "https://app.example.com"


def claims_of(sandbox, token: str) -> dict:
    return jwt.decode(token, sandbox.session_key.public_pem, algorithms=["RS256"])


def test_a_token_says_who_the_person_is_and_for_which_page(sandbox):
    mary = sandbox.add_user(email="mary@example.com")
    claims = claims_of(sandbox, sandbox.session_token(mary["id"], azp=ORIGIN))
    assert (claims["sub"], claims["azp"], claims["sts"]) == (mary["id"], ORIGIN, "active")
    assert claims["exp"] - claims["iat"] == 60
    assert "azp" not in claims_of(sandbox, sandbox.session_token(mary["id"]))


def test_a_person_who_is_not_signed_in_signs_in_first(sandbox):
    mary = sandbox.add_user(email="mary@example.com")
    first = claims_of(sandbox, sandbox.session_token(mary["id"]))
    assert sandbox.user(mary["id"])["last_sign_in_at"]
    assert claims_of(sandbox, sandbox.session_token(mary["id"]))["sid"] == first["sid"]
    sandbox.sign_out(mary["id"])
    assert claims_of(sandbox, sandbox.session_token(mary["id"]))["sid"] != first["sid"]


@pytest.mark.parametrize("flag", ["banned", "locked"])
def test_somebody_who_cannot_sign_in_gets_none(sandbox, flag):
    mary = sandbox.add_user(email="mary@example.com")
    sandbox.edit(mary["id"], **{flag: True})
    with pytest.raises(Refusal):
        sandbox.session_token(mary["id"])


def test_each_instance_has_a_key_of_its_own_and_keeps_it():
    one, other = key_of("sk_test_one"), key_of("sk_test_other")
    assert one.modulus.bit_length() == other.modulus.bit_length() == 2048
    assert one != other
    key_of.cache_clear()
    assert key_of("sk_test_one") == one


def test_a_token_over_json_and_on_a_page(sandbox):
    mary = sandbox.add_user(email="mary@example.com")
    control = f"{sandbox.root}/_sandbox"
    token = requests.post(
        f"{control}/users/{mary['id']}/token", json={"azp": ORIGIN}, timeout=PATIENCE
    ).json()["jwt"]
    pem = requests.get(f"{control}/jwt-key", timeout=PATIENCE).json()["pem"]
    assert jwt.decode(token, pem, algorithms=["RS256"])["azp"] == ORIGIN
    place = f"{sandbox.root}/users/{mary['id']}"
    assert "Issue a session token" in requests.get(place, timeout=PATIENCE).text
    page = html.unescape(requests.post(f"{place}/token", {"azp": ORIGIN}, timeout=PATIENCE).text)
    assert pem.strip() in page
    shown = re.search(r"Bearer ([\w.-]+)", page)[1]
    assert claims_of(sandbox, shown)["sub"] == mary["id"]


def test_nobody_who_does_not_exist_gets_a_token(sandbox):
    for path in ("_sandbox/users/user_nobody/token", "users/user_nobody/token"):
        answer = requests.post(f"{sandbox.root}/{path}", json={}, timeout=PATIENCE)
        assert answer.status_code == 404
