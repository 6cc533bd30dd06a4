"""The sandbox's untrue answers: changes applied late, old values, refusals that are not Clerk's;
and the settings of its instance."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from sandbox import Sandbox

CHANGE = "PATCH /users/{user_id}"


def api(sandbox: Sandbox, method: str, path: str, body: object = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}
    return requests.request(method, sandbox.url + path, json=body, headers=headers, timeout=60)


def rename(sandbox: Sandbox, user_id: str, name: str) -> requests.Response:
    return api(sandbox, "PATCH", f"/users/{user_id}", {"first_name": name})


def name(sandbox: Sandbox, user_id: str) -> Any:
    return sandbox.user(user_id)["first_name"]


@pytest.fixture
def mary(sandbox) -> str:
    return sandbox.add_user(email="mary@example.com", first_name="Mary", last_name="Smith")["id"]


# --- Applied late --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["status", "close", "reset", "hang"])
def test_a_late_change_is_applied_after_its_answer_as_if_it_came_then(sandbox, mary, how):
    sandbox.fault(CHANGE, "late", how=how, status=503, code="service_unavailable", seconds=None)
    before = sandbox.user(mary)
    with ThreadPoolExecutor() as pool:
        answered = pool.submit(rename, sandbox, mary, "Marie")
        while not (sandbox.late() or answered.done()):
            time.sleep(0.01)
        assert (sandbox.late(), how == "hang" and answered.done()) == (1, False)
        sandbox.clear_faults()
        if how == "status":
            answer = answered.result()
            assert answer.status_code == 503
            assert answer.json()["errors"][0]["code"] == "service_unavailable"
        else:
            assert isinstance(answered.exception(), requests.ConnectionError)
    assert (sandbox.late(), sandbox.user(mary)) == (1, before), "cleared faults keep it waiting"
    assert rename(sandbox, mary, "Maria").status_code == 200
    sandbox.apply_late()
    assert (sandbox.late(), name(sandbox, mary)) == (0, "Marie")
    *_, second, first = sandbox.webhooks.events
    assert (second.payload["data"]["first_name"], first.payload["data"]["first_name"]) == (
        "Maria", "Marie")  # fmt: skip
    assert first.payload["data"]["updated_at"] > second.payload["data"]["updated_at"]


def test_late_changes_are_applied_in_their_order_and_once(sandbox, mary):
    sandbox.fault(CHANGE, "late", seconds=3600, times=3)
    for text in ("One", "Two", "Three"):
        assert rename(sandbox, mary, text).status_code == 500
    sandbox.apply_late()
    sandbox.apply_late()
    assert [event.payload["data"]["first_name"] for event in sandbox.webhooks.events] == [
        "Mary", "One", "Two", "Three"]  # fmt: skip


def test_a_late_change_is_applied_by_itself_after_its_seconds(sandbox, mary):
    applied = threading.Event()
    sandbox.state.listeners.append(lambda kind, data: applied.set())
    try:
        sandbox.fault(CHANGE, "late", seconds=0.2)
        rename(sandbox, mary, "Marie")
        assert applied.wait(60)
    finally:
        sandbox.state.listeners.pop()
    sandbox.apply_late()
    assert (sandbox.late(), name(sandbox, mary)) == (0, "Marie")
    assert len(sandbox.webhooks.events) == 2


def test_a_late_change_of_a_user_who_is_gone_is_discarded(sandbox, mary):
    sandbox.fault(CHANGE, "late", seconds=None)
    rename(sandbox, mary, "Marie")
    sandbox.delete(mary)
    sandbox.apply_late()
    assert (sandbox.late(), sandbox.users()) == (0, [])


def test_reset_drops_what_is_under_way_and_a_read_is_never_under_way(sandbox, mary):
    sandbox.fault("*", "late", seconds=None, times=2)
    assert api(sandbox, "GET", f"/users/{mary}").status_code == 500
    assert sandbox.late() == 0
    rename(sandbox, mary, "Marie")
    assert sandbox.late() == 1
    sandbox.reset()
    assert sandbox.late() == 0


# --- Old values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("apply", [False, True], ids=["not applied", "applied"])
@pytest.mark.parametrize(
    ("route", "body", "flag"),
    [
        ("PATCH /users/{user_id}", {"first_name": "Marie"}, "first_name"),
        ("PATCH /users/{user_id}/metadata", {"public_metadata": {"a": 1}}, "public_metadata"),
        ("POST /users/{user_id}/ban", None, "banned"),
        ("POST /users/{user_id}/lock", None, "locked"),
    ],
)
def test_a_stale_answer_has_the_user_as_before(sandbox, mary, route, body, flag, apply):
    before = sandbox.user(mary)
    sandbox.fault(route, "stale", apply=apply)
    method, path = route.format(user_id=mary).split(" ")
    answer = api(sandbox, method, path, body)
    assert (answer.status_code, answer.json()) == (200, before)
    assert (sandbox.user(mary)[flag] != before[flag]) is apply


@pytest.mark.parametrize("apply", [False, True], ids=["not applied", "applied"])
def test_a_stale_answer_about_an_address_has_the_old_one(sandbox, mary, apply):
    [old] = sandbox.user(mary)["email_addresses"]
    sandbox.fault("PUT /users/{user_id}/email_address", "stale", apply=apply)
    answer = api(sandbox, "PUT", f"/users/{mary}/email_address", {"email_address": "n@example.com"})
    assert (answer.status_code, answer.json()) == (200, old)
    assert bool(sandbox.find("n@example.com")) is apply


@pytest.mark.parametrize("apply", [False, True], ids=["not applied", "applied"])
def test_a_stale_answer_to_a_delete_says_that_the_user_is_not_deleted(sandbox, mary, apply):
    sandbox.fault("DELETE /users/{user_id}", "stale", apply=apply)
    answer = api(sandbox, "DELETE", f"/users/{mary}")
    assert answer.json() == {"object": "user", "id": mary, "deleted": False}
    assert (sandbox.user(mary) is None) is apply


def test_a_stale_answer_about_anything_else(sandbox, mary):
    session = sandbox.sign_in(mary)
    email_id = sandbox.user(mary)["primary_email_address_id"]
    invitation = api(sandbox, "POST", "/invitations", {"email_address": "n@example.com"}).json()
    user = sandbox.user(mary)
    sandbox.fault("*", "stale", times=None, apply=True)
    assert api(sandbox, "GET", f"/users/{mary}").json() == user, "a read has no value before it"
    revoked = api(sandbox, "POST", f"/invitations/{invitation['id']}/revoke")
    assert revoked.json() == invitation
    assert api(sandbox, "POST", f"/sessions/{session['id']}/revoke").json() == session
    assert api(sandbox, "DELETE", f"/users/{mary}/mfa").json() == {"user_id": mary}
    assert api(sandbox, "PATCH", f"/email_addresses/{email_id}", {"verified": False}).json() == (
        user["email_addresses"][0])  # fmt: skip
    [banned] = api(sandbox, "POST", "/users/ban", {"user_ids": [mary]}).json()
    assert (banned["id"], banned["banned"], sandbox.user(mary)["banned"]) == (mary, False, True)
    assert api(sandbox, "POST", "/invitations", {"email_address": "o@example.com"}).json() is None
    assert [entry["status"] for entry in sandbox.invitations()] == ["revoked", "pending"]


def test_a_stale_answer_is_none_when_clerk_refuses_the_change(sandbox, mary):
    sandbox.fault(CHANGE, "stale", apply=True, times=2)
    assert rename(sandbox, mary, "x" * 300).status_code == 422
    assert rename(sandbox, "user_nobody", "Marie").status_code == 404


# --- Refusals that are not Clerk's ---------------------------------------------------------------


@pytest.mark.parametrize("body", ["html", "json"])
@pytest.mark.parametrize("status", [400, 403, 413, 429])
def test_a_foreign_refusal_has_no_errors_and_the_change_is_applied(sandbox, mary, status, body):
    sandbox.fault(CHANGE, "foreign_4xx", status=status, body=body)
    answer = rename(sandbox, mary, "Marie")
    assert answer.status_code == status
    if body == "html":
        assert answer.headers["Content-Type"] == "text/html"
    else:
        assert "errors" not in answer.json()
    assert name(sandbox, mary) == "Marie"


def test_a_foreign_refusal_can_leave_the_change_out(sandbox, mary):
    sandbox.fault(CHANGE, "foreign_4xx", apply=False)
    assert rename(sandbox, mary, "Marie").status_code == 403
    assert name(sandbox, mary) == "Mary"


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "late", "how": "sideways"},
        {"kind": "foreign_4xx", "body": "xml"},
        {"kind": "foreign_4xx", "status": 500},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox, options):
    with pytest.raises(ValueError):
        sandbox.fault(CHANGE, **options)
    assert sandbox.faults.all() == []


# --- Settings of the instance --------------------------------------------------------------------


def test_an_instance_can_normalize_names(sandbox, mary):
    sandbox.normalize_names = True
    answer = rename(sandbox, mary, " Zoe\u0308 \u00a0 Ann ")
    assert answer.json()["first_name"] == name(sandbox, mary) == "Zo\u00eb Ann"
    new = sandbox.add_user(email="new@example.com", last_name="van\tder  Berg")
    assert sandbox.user(new["id"])["last_name"] == "van der Berg"


def test_an_instance_can_hide_when_passwords_changed(sandbox, mary):
    sandbox.hide_password_times = True
    changed = api(sandbox, "PATCH", f"/users/{mary}", {"password": "correct horse battery"})
    sandbox.sign_in(mary)
    events = [event.payload["data"] for event in sandbox.webhooks.events[1:]]
    given = [changed.json(), api(sandbox, "GET", f"/users/{mary}").json(),
             *api(sandbox, "GET", "/users").json(), events[0], events[1]["user"]]  # fmt: skip
    assert [user["id"] for user in given] == [mary] * 5
    assert not [user for user in given if "password_last_updated_at" in user]
    sandbox.hide_password_times = False
    assert api(sandbox, "GET", f"/users/{mary}").json()["password_last_updated_at"]


@pytest.mark.parametrize("names", ["off", "off_without_param"])
def test_an_instance_can_have_names_switched_off(sandbox, mary, names):
    sandbox.names = names
    new = {"email_address": ["new@example.com"], "skip_password_requirement": True}
    for answer in (rename(sandbox, mary, "Marie"),
                   api(sandbox, "POST", "/users", new | {"first_name": "New"})):  # fmt: skip
        [problem] = answer.json()["errors"]
        assert (answer.status_code, problem["code"]) == (422, "form_param_unknown")
        assert problem["long_message"] == "first_name is not a valid parameter for this request."
        assert problem.get("meta") == ({"param_name": "first_name"} if names == "off" else None)
    assert name(sandbox, mary) == "Mary"
    assert api(sandbox, "POST", "/users", new).status_code == 200


def test_an_instance_can_require_both_names(sandbox, mary):
    sandbox.names = "both_required"
    answer = api(sandbox, "PATCH", f"/users/{mary}", {"first_name": "Marie", "last_name": ""})
    [problem] = answer.json()["errors"]
    assert (answer.status_code, problem["code"], problem["meta"], problem["long_message"]) == (
        422, "form_param_nil", {"param_name": "last_name"}, "last_name is required.")  # fmt: skip
    new = {"email_address": ["new@example.com"], "skip_password_requirement": True}
    answer = api(sandbox, "POST", "/users", new)
    assert [problem["meta"]["param_name"] for problem in answer.json()["errors"]] == [
        "first_name", "last_name"]  # fmt: skip
    assert rename(sandbox, mary, "Marie").status_code == 200


def test_reset_takes_the_settings_back(sandbox):
    before = sandbox.settings()
    sandbox.change_settings({"names": "off", "instance_id": "ins_other", "normalize_names": True,
                             "hide_password_times": True})  # fmt: skip
    assert sandbox.settings() != before
    sandbox.reset()
    assert sandbox.settings() == before
    for wrong in ({"names": "sideways"}, {"shoe_size": 7}):
        with pytest.raises(ValueError, match="no such setting"):
            sandbox.change_settings(wrong)


@pytest.mark.parametrize(
    ("key", "environment"), [("sk_test_x", "development"), ("sk_live_x", "production")]
)
def test_the_instance_of_the_key_is_the_one_of_the_events(key, environment):
    own = Sandbox(secret_key=key).start()
    try:
        for instance_id in (own.instance_id, "ins_another"):
            own.instance_id = instance_id
            own.add_user(email=f"{instance_id}@example.com")
            assert own.webhooks.events[-1].payload["instance_id"] == instance_id
            assert api(own, "GET", "/instance").json() == {
                "object": "instance", "id": instance_id, "environment_type": environment,
                "allowed_origins": None}  # fmt: skip
    finally:
        own.stop()
