"""The sandbox is Clerk: the SDK reads every answer of it, and both its answers and the gateway's
requests are as Clerk's published document says."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from clerk_backend_api import Clerk as ClerkSDK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from sandbox import Request, Sandbox
from sandbox.routes import ROUTES, find
from sandbox.users import CREATABLE
from tests.support.gateway import READS, WRITES
from tests.support.patience import PATIENCE
from users.clerk import Deadline, clerk

DOCUMENT = Path(__file__).parent / "clerk" / "bapi-2026-05-12.subset.yml"
NOT_IN_THE_DOCUMENT = {"GET /instance"}
"""Read by the SDK alone: the published part of the document leaves it out."""
PASSWORD = "correct horse battery"


class Contract:
    """Clerk's document. With None, nothing is compared."""

    def __init__(self, document: dict[str, Any] | None) -> None:
        self.document = document

    def problems_of_answer(self, route: str, status: int, body: Any) -> list[str]:
        if self.document is None or route in NOT_IN_THE_DOCUMENT:
            return []
        operation = self._operation(route)
        answer = self._resolved(operation["responses"].get(str(status)))
        if answer is None or status >= 400:
            schema: dict[str, Any] = {"$ref": "#/components/schemas/ClerkErrors"}
        else:
            schema = answer["content"]["application/json"]["schema"]
        return self._problems(schema, body)

    def problems_of_request(self, route: str, query: list[tuple[str, str]], body: Any) -> list[str]:
        if self.document is None or route in NOT_IN_THE_DOCUMENT:
            return []
        operation = self._operation(route)
        parameters = [self._resolved(one) for one in operation.get("parameters", [])]
        known = {one["name"] for one in parameters if one["in"] == "query"}
        problems = [f"unknown parameter {name}" for name, _ in query if name not in known]
        content = (self._resolved(operation.get("requestBody")) or {}).get("content")
        if body is not None:
            if content is None:
                return [*problems, "a body where none belongs"]
            problems += self._problems(content["application/json"]["schema"], body)
        return problems

    def _operation(self, route: str) -> dict[str, Any]:
        method, path = route.replace("{email_id}", "{email_address_id}").split(" ")
        return self.document["paths"][path][method.lower()]

    def _resolved(self, node: Any) -> Any:
        while isinstance(node, dict) and "$ref" in node:
            found: Any = self.document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            node = found
        return node

    def _problems(self, schema: dict[str, Any], value: Any) -> list[str]:
        whole = {**_json_schema(schema), "components": self._components()}
        return [f"{error.json_path}: {error.message[:200]}"
                for error in Draft202012Validator(whole).iter_errors(value)]  # fmt: skip

    @cache  # noqa: B019 (one for the run)
    def _components(self) -> dict[str, Any]:
        return _json_schema(self.document["components"])


def _json_schema(node: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(node, list):
        return [_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _json_schema(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if node.get("nullable") is True else plain


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract(yaml.safe_load(DOCUMENT.read_text()))


# --- The SDK reads every answer ------------------------------------------------------------------


def drive(sdk: Any, sandbox: Sandbox) -> list[Any]:
    """Every route once; the SDK's models are strict about what they read."""
    users, emails, invitations = sdk.users, sdk.email_addresses, sdk.invitations
    mary = users.create(email_address=["mary@example.com"], first_name="Mary",
                        password=PASSWORD, public_metadata={"a": 1})  # fmt: skip
    uid = mary.id
    sandbox.add_user()
    ann = sandbox.add_user(email="ann@example.com", verified=False, last_name="Smith")["id"]
    sandbox.link_google(ann)
    email = emails.create(request={"user_id": uid, "email_address": "m2@example.com"})
    invitation = invitations.create(request={"email_address": "new@example.com"})
    sandbox.accept(invitations.create(request={"email_address": "n2@example.com"}).id)
    session = sandbox.sign_in(uid)["id"]
    sandbox.sign_in(uid, pending=True)
    return [
        mary,
        email,
        invitation,
        users.list(request={"limit": 500}),
        users.count(request={}),
        users.get(user_id=uid),
        users.update(user_id=uid, first_name="Marie", password=PASSWORD),
        users.ban(user_id=uid),
        users.unban(user_id=uid),
        users.lock(user_id=uid),
        users.unlock(user_id=uid),
        users.disable_mfa(user_id=uid),
        users.update_metadata(user_id=uid, public_metadata={"b": 2}),
        users.replace_metadata(user_id=uid, public_metadata={"c": 3}),
        users.bulk_ban(user_ids=[uid, ann]),
        users.bulk_unban(user_ids=[uid, ann]),
        emails.get(email_address_id=email.id),
        emails.update(email_address_id=email.id, verified=True, primary=True),
        emails.delete(email_address_id=email.id),
        emails.replace_for_user(user_id=uid, email_address="m3@example.com"),
        invitations.list(),
        invitations.revoke(invitation_id=invitation.id),
        sdk.sessions.list(user_id=uid),
        sdk.sessions.get(session_id=session),
        sdk.sessions.revoke(session_id=session),
        users.delete(user_id=uid),
        sdk.instance_settings.get(),
    ]


@pytest.mark.filterwarnings("ignore:.*DEPRECATED:DeprecationWarning")  # the SDK's own parameter
def test_the_sdk_reads_every_answer_of_every_route(sandbox):
    sdk = ClerkSDK(bearer_auth=sandbox.secret_key, server_url=sandbox.url, retry_config=None)
    assert None not in drive(sdk, sandbox)
    routes = {find(request.method, request.path)[0] for request in sandbox.requests()}
    assert routes == set(ROUTES)
    assert {request.status for request in sandbox.requests()} == {200}


# --- Answers and requests are as the document says -----------------------------------------------


class Client:
    """Asks the sandbox and holds every answer against the contract."""

    def __init__(self, sandbox: Sandbox, contract: Contract) -> None:
        self._sandbox, self._contract = sandbox, contract
        self.answered: set[tuple[str, int]] = set()

    def __call__(self, route: str, body: Any = None, *, expect: int = 200, key: str = "",
                 **ids: str) -> Any:  # fmt: skip
        method, path = route.format(**ids).split(" ")
        answer = requests.request(
            method,
            self._sandbox.url + path,
            json=body,
            headers={
                "Authorization": f"Bearer {key or self._sandbox.secret_key}",
                "Clerk-API-Version": "2026-05-12",
            },
            timeout=PATIENCE,
        )
        assert answer.status_code == expect, (route, answer.text)
        assert self._contract.problems_of_answer(route, expect, answer.json()) == [], route
        if expect == 200:
            assert self._contract.problems_of_request(route, [], body) == [], route
        else:
            assert answer.json()["errors"][0]["code"]
            assert answer.json()["clerk_trace_id"]
        self.answered.add((route, expect))
        return answer.json()


def test_every_answer_is_as_the_document_says(sandbox, contract):
    call = Client(sandbox, contract)
    new = {"email_address": ["mary@example.com"], "first_name": "Mary", "password": PASSWORD}
    uid = call("POST /users", new)["id"]
    ann = sandbox.add_user(email="ann@example.com", verified=False)["id"]
    sandbox.link_google(ann)
    sandbox.add_user()
    eid = call("POST /email_addresses", {"user_id": uid, "email_address": "m2@example.com"})["id"]
    iid = call("POST /invitations", {"email_address": "new@example.com"})["id"]
    sandbox.accept(call("POST /invitations", {"email_address": "n2@example.com"})["id"])
    sid = sandbox.sign_in(uid)["id"]
    for route in ("GET /users", "GET /users/count", "GET /users/{user_id}", "GET /invitations",
                  "GET /email_addresses/{email_id}", "GET /sessions/{session_id}",
                  "POST /users/{user_id}/ban", "POST /users/{user_id}/unban",
                  "POST /users/{user_id}/lock", "POST /users/{user_id}/unlock",
                  "DELETE /users/{user_id}/mfa",
                  "POST /invitations/{invitation_id}/revoke",
                  "POST /sessions/{session_id}/revoke"):  # fmt: skip
        call(route, user_id=uid, email_id=eid, session_id=sid, invitation_id=iid)
    call("GET /instance")
    call("PATCH /users/{user_id}", {"last_name": None, "password": PASSWORD}, user_id=uid)
    call("PATCH /users/{user_id}/metadata", {"public_metadata": {"a": None}}, user_id=uid)
    call("PUT /users/{user_id}/metadata", {"public_metadata": {}}, user_id=uid)
    call("POST /users/ban", {"user_ids": [uid]})
    call("POST /users/unban", {"user_ids": [uid]})
    call("PATCH /email_addresses/{email_id}", {"verified": True, "primary": True}, email_id=eid)
    call("DELETE /email_addresses/{email_id}", email_id=eid)
    call("PUT /users/{user_id}/email_address", {"email_address": "m3@example.com"}, user_id=uid)
    call("DELETE /users/{user_id}", user_id=uid)

    call("GET /users", expect=401, key="sk_test_wrong")
    call("GET /users/{user_id}", expect=404, user_id="user_nobody")
    call("GET /sessions", expect=422)
    call("POST /users", {"email_address": ["ann@example.com"]}, expect=422)
    call("POST /users", {"email_address": ["no"], "shoe_size": 7}, expect=422)
    call("PATCH /users/{user_id}", {"public_metadata": {}}, expect=422, user_id=ann)
    call("PUT /users/{user_id}/email_address", {"email_address": "x@example.com"}, expect=400,
         user_id=ann)  # fmt: skip
    call("POST /invitations", {"email_address": "ann@example.com"}, expect=422)
    call("POST /invitations/{invitation_id}/revoke", expect=400, invitation_id=iid)
    assert {route for route, status in call.answered if status == 200} == set(ROUTES) - {
        "GET /sessions"
    }, "which the gateway asks below, with its query"


def test_every_request_of_the_gateway_is_as_the_document_says(sandbox, contract):
    mary = sandbox.add_user(email="mary@example.com", first_name="Mary")["id"]
    session = sandbox.sign_in(mary)["id"]
    for read in READS.values():
        read(clerk(), mary, Deadline(20))
    clerk().list_users(starting_after=mary, created_after=1, created_before=2, limit=500,
                       deadline=Deadline(20))  # fmt: skip
    clerk().list_invitations(query="x", status="pending", offset=5, deadline=Deadline(20))
    WRITES["create_invitation"][1](clerk(), mary, Deadline(20))
    apart = ("create_invitation", "revoke_invitation", "revoke_session", "delete_user")
    for name in [name for name in WRITES if name not in apart]:
        WRITES[name][1](clerk(), mary, Deadline(20))
    clerk().revoke_invitation(sandbox.invitations()[0]["id"], deadline=Deadline(20))
    clerk().revoke_session(session, deadline=Deadline(20))
    clerk().delete_user(mary, deadline=Deadline(20))
    log = sandbox.requests()
    assert {request.status for request in log} == {200}
    seen = set()
    for request in log:
        route, _ = find(request.method, request.path)
        seen.add(route)
        body = request.body
        if body and "password" in body:
            body = body | {"password": PASSWORD}  # the log does not keep it
        assert contract.problems_of_request(route, request.query, body) == [], route
    assert seen >= {route for route, _ in WRITES.values()} | {"GET /users", "GET /sessions"}


# --- Bodies that no client of ours sends ---------------------------------------------------------

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
FIELDS = sorted({*CREATABLE, "user_ids", "user_id", "verified", "primary", "expires_in_days",
                 "identification_status", "notify", "public_metadata"})  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    route=st.sampled_from([route for route in ROUTES if not route.startswith("GET")]),
    body=st.dictionaries(st.sampled_from(FIELDS), ODD, max_size=4),
    surrogate=st.booleans(),
)
def test_no_body_breaks_the_sandbox(sandbox, route, body, surrogate):
    user = sandbox.add_user(email="mary@example.com")["id"]
    if surrogate:
        body |= {"first_name": "\ud800", "password": "\ud800 long enough"}
    method, path = route.replace("{user_id}", user).split(" ")
    request = Request(method, path, [], json.loads(json.dumps(body)))
    answer = sandbox.api.answer(request, f"Bearer {sandbox.secret_key}", [], False)
    assert answer.status < 500
    sandbox.reset()


def test_a_bulk_request_about_no_ids_is_refused(sandbox):
    Client(sandbox, Contract(None))("POST /users/ban", {"user_ids": [{}]}, expect=422)


@pytest.mark.parametrize(("letters", "expect"), [("x" * 8000, 200), ("\u00e9" * 4100, 422)])
def test_metadata_is_limited_in_bytes(sandbox, letters, expect):
    user = sandbox.add_user(email="mary@example.com")["id"]
    call = Client(sandbox, Contract(None))
    call("PATCH /users/{user_id}/metadata", {"public_metadata": {"a": letters}}, user_id=user,
         expect=expect)  # fmt: skip
    assert bool(sandbox.user(user)["public_metadata"]) is (expect == 200)
