"""The sandbox's pages and its controls over JSON: what a person does by hand in the demo."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import requests

from sandbox import Sandbox
from sandbox.routes import ROUTES
from tests.support.patience import PATIENCE, wait_until

NASTY = "<script>alert('x')</script>\"&'"


def page(sandbox: Sandbox, path: str) -> str:
    answer = requests.get(sandbox.root + path, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return answer.text


def post(sandbox: Sandbox, path: str, expect: int = 200, **form: str) -> requests.Response:
    answer = requests.post(sandbox.root + path, data=form, timeout=PATIENCE)
    assert answer.status_code == expect, answer.text
    return answer


def control(sandbox: Sandbox, method: str, path: str, body: object = None) -> object:
    answer = requests.request(
        method, f"{sandbox.root}/_sandbox/{path}", json=body, timeout=PATIENCE
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def api(sandbox: Sandbox, method: str, path: str, body: object = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}
    return requests.request(
        method, sandbox.url + path, json=body, headers=headers, timeout=PATIENCE
    )


def test_every_value_is_escaped_on_every_page(sandbox):
    user = sandbox.add_user(email="nasty@example.com", first_name=NASTY, username=NASTY)
    api(sandbox, "PATCH", f"/users/{user['id']}", {"last_name": NASTY})
    api(sandbox, "GET", f"/users?query={NASTY}")
    sandbox.state.mails.append({"to": NASTY, "slug": NASTY, "at": 0})
    sandbox.fault("*", "status", code=NASTY, skip=10**6)
    event = sandbox.webhooks.events[0]
    for path in ("/", f"/?q={NASTY}", f"/users/{user['id']}", "/inbox", "/webhooks",
                 f"/webhooks/{event.id}", "/faults", "/requests"):  # fmt: skip
        text = page(sandbox, path)
        assert "<script" not in text, path
        assert "alert(" in text or path == "/webhooks", path
    assert requests.get(f"{sandbox.root}/users/{NASTY}", timeout=PATIENCE).status_code == 404


def test_the_person_changes_name_and_email_signs_in_and_leaves(sandbox):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary", last_name="Smith")
    place = f"/users/{user['id']}"
    text = post(sandbox, f"{place}/edit", first_name="Marie", last_name="", email="M@Example.com ")
    assert "m@example.com" in text.text
    changed = sandbox.user(user["id"])
    assert (changed["first_name"], changed["last_name"]) == ("Marie", None)
    assert sandbox.find("mary@example.com") == []
    assert [found["id"] for found in sandbox.find("m@example.com")] == [user["id"]]
    post(sandbox, f"{place}/sign-in")
    assert sandbox.user(user["id"])["last_sign_in_at"]
    post(sandbox, f"{place}/begin-sign-in")
    post(sandbox, f"{place}/delete")
    assert sandbox.users() == []
    assert [event.type for event in sandbox.webhooks.events] == [
        "user.created", "user.updated", "session.created", "session.pending",
        "user.deleted"]  # fmt: skip


def test_the_person_signs_out_on_all_devices(sandbox):
    user = sandbox.add_user(email="mary@example.com")
    for _ in range(2):
        sandbox.sign_in(user["id"])
    post(sandbox, f"/users/{user['id']}/sign-out")
    assert {session["status"] for session in sandbox.state.sessions.values()} == {"removed"}


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"email": "taken@example.com"}, "That email address is taken"),
        ({"email": "no address"}, "must be a valid email address"),
        ({"first_name": "x" * 257}, "must not be longer than 256"),
    ],
)
def test_what_the_person_may_not_do_is_said(sandbox, form, said):
    sandbox.add_user(email="taken@example.com")
    user = sandbox.add_user(email="mary@example.com")
    assert said in post(sandbox, f"/users/{user['id']}/edit", 422, **form).text
    assert sandbox.user(user["id"]) == user


def test_an_invitation_is_accepted_in_the_inbox(sandbox):
    body = {"email_address": "new@example.com", "public_metadata": {"cascade_user_id": "7"}}
    invitation = api(sandbox, "POST", "/invitations", body).json()
    assert "Accept the invitation" in page(sandbox, "/inbox")
    path = f"/inbox/{invitation['id']}/accept"
    assert "8 characters" in post(sandbox, path, 422, password="short").text
    assert sandbox.invitations()[0]["status"] == "pending", "nothing happened"
    post(sandbox, path, first_name="New", last_name="Person", password="a long enough one")
    [user] = sandbox.find("new@example.com")
    assert (user["first_name"], user["last_name"]) == ("New", "Person")
    assert user["password_enabled"] is True
    assert user["public_metadata"] == {"cascade_user_id": "7"}
    assert user["email_addresses"][0]["verification"]["strategy"] == "ticket"
    assert sandbox.invitations()[0]["status"] == "accepted"
    assert "accepted" in page(sandbox, "/inbox")
    assert "Accept the invitation" not in page(sandbox, "/inbox")
    post(sandbox, path, 400)
    assert "a long enough one" not in json.dumps(control(sandbox, "GET", "state"))


def test_an_address_that_google_holds_cannot_be_replaced(sandbox):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary")
    place = f"/users/{user['id']}"
    assert "Google" in post(sandbox, f"{place}/google").text
    linked = sandbox.user(user["id"])
    [account], [email] = linked["external_accounts"], linked["email_addresses"]
    assert account["provider"] == "oauth_google"
    assert email["linked_to"] == [{"type": "oauth_google", "id": account["identification_id"]}]
    refused = api(sandbox, "PUT", f"{place}/email_address", {"email_address": "a@example.com"})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["code"] == "delete_linked_identification_disallowed"
    assert "Already connected" in post(sandbox, f"{place}/google", 400).text
    post(sandbox, f"{place}/no-google")
    assert sandbox.user(user["id"])["external_accounts"] == []
    taken = api(sandbox, "PUT", f"{place}/email_address", {"email_address": "a@example.com"})
    assert taken.status_code == 200


def test_a_new_email_of_the_person_leaves_the_one_that_google_holds(sandbox):
    user = sandbox.add_user(email="mary@example.com")
    sandbox.link_google(user["id"])
    sandbox.edit(user["id"], email="new@example.com")
    found = sandbox.user(user["id"])
    assert [email["email_address"] for email in found["email_addresses"]] == [
        "mary@example.com", "new@example.com"]  # fmt: skip
    assert found["primary_email_address_id"] == found["email_addresses"][1]["id"]


@pytest.mark.parametrize("flag", ["banned", "locked", "two_factor_enabled"])
def test_flags_of_the_dashboard(sandbox, flag):
    user = sandbox.add_user(email="mary@example.com")
    for to, expected in (("on", True), ("off", False)):
        post(sandbox, f"/users/{user['id']}/flag", flag=flag, to=to)
        assert sandbox.user(user["id"])[flag] is expected
    post(sandbox, f"/users/{user['id']}/flag", 400, flag="id", to="on")


def test_users_are_shown_fifty_a_page_and_searched(sandbox):
    sandbox.fill(120, lambda n: {"email": f"p{n}@example.com", "created_at": 1_700_000_000_000 + n})
    text = page(sandbox, "/")
    assert "1–50 of 120" in text
    assert "from=50" in text
    assert "101–120 of 120" in page(sandbox, "/?from=100")
    found = page(sandbox, "/?q=p117")
    assert "p117@example.com" in found
    assert "1–1 of 1" in found
    assert "No user matches “no such”." in page(sandbox, "/?q=no+such&from=x")
    assert "No users on this page." in page(sandbox, "/?from=500")


def test_webhooks_are_held_released_and_sent_again_on_their_page(sandbox):
    sandbox.webhooks.pauses = ()
    sandbox.webhooks.send_to("http://127.0.0.1:9/")
    post(sandbox, "/webhooks/mode", mode="held")
    sandbox.add_user(email="mary@example.com")
    sandbox.add_user(email="ann@example.com")
    assert "Release 2 held" in page(sandbox, "/webhooks")
    post(sandbox, "/webhooks/release", order="shuffled", twice="on", lose="1")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    states = {d["state"]: d["attempts"] for d in sandbox.webhooks.deliveries()}
    assert states == {"lost": 0, "failed": 2}
    for event in sandbox.webhooks.events:
        post(sandbox, f"/webhooks/{event.id}/resend")
    assert sandbox.webhooks.wait_idle(PATIENCE)
    assert sum(delivery["attempts"] for delivery in sandbox.webhooks.deliveries()) == 4
    text = page(sandbox, "/webhooks")
    assert "no answer" in text
    post(sandbox, "/webhooks/mode", 400, mode="sideways")
    post(sandbox, "/webhooks/msg_unknown/resend", 400)
    assert requests.get(f"{sandbox.root}/webhooks/msg_unknown", timeout=PATIENCE).status_code == 404


def test_all_of_it_over_json(sandbox):
    made = control(sandbox, "POST", "users", [{"email": "mary@example.com", "first_name": "Mary"},
                                              {"email": "ann@example.com"}])  # fmt: skip
    mary = made[0]["id"]
    assert sandbox.webhooks.events == [], "they have always been there"
    control(sandbox, "POST", "webhooks/send-to", {"url": "http://127.0.0.1:9/"})
    control(sandbox, "POST", "webhooks/mode", {"mode": "held"})
    control(sandbox, "PATCH", f"users/{mary}", {"first_name": "Marie"})
    control(sandbox, "POST", f"users/{mary}/google")
    control(sandbox, "DELETE", f"users/{mary}/google")
    control(sandbox, "POST", f"users/{mary}/sign-in")
    invitation = api(sandbox, "POST", "/invitations", {"email_address": "new@example.com"}).json()
    accepted = control(sandbox, "POST", f"invitations/{invitation['id']}/accept",
                       {"first_name": "New", "password": "a long enough one"})  # fmt: skip
    control(sandbox, "DELETE", f"users/{accepted['id']}")
    events = control(sandbox, "GET", "webhooks/events")
    assert [event["type"] for event in events] == [
        "user.updated", "user.updated", "user.updated", "session.created", "user.created",
        "user.deleted"]  # fmt: skip
    sandbox.webhooks.pauses = ()
    released = control(sandbox, "POST", "webhooks/release", {"order": "shuffled", "twice": True})
    assert sorted(released) == sorted([event["id"] for event in events] * 2)
    assert control(sandbox, "POST", "webhooks/wait", {"timeout": PATIENCE}) == {"idle": True}
    control(sandbox, "POST", f"webhooks/{events[0]['id']}/resend")
    assert control(sandbox, "POST", "webhooks/wait") == {"idle": True}
    board = control(sandbox, "GET", "webhooks")
    assert board["mode"] == "held"
    assert [delivery["attempts"] for delivery in board["deliveries"]] == [2, 2, 2, 2, 2, 3]
    state = control(sandbox, "GET", "state")
    assert [user["first_name"] for user in state["users"]] == ["Marie", None]
    control(sandbox, "POST", "reset")
    assert control(sandbox, "GET", "state")["users"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "faults", {"route": "GET /nowhere", "kind": "hang"}, 400),
        ("POST", "faults", {"route": "*", "kind": "no such"}, 400),
        ("POST", "users", [{"email": "a@example.com", "verified": True, "emails": 7}], 400),
        ("PATCH", "users/user_nobody", {}, 404),
        ("POST", "users/user_nobody/sign-in", None, 404),
        ("POST", "webhooks/mode", {}, 400),
        ("GET", "nothing", None, 404),
    ],
)
def test_nonsense_is_answered_as_such(sandbox, method, path, body, status):
    url = f"{sandbox.root}/_sandbox/{path}"
    assert requests.request(method, url, json=body, timeout=PATIENCE).status_code == status


def test_a_state_file_keeps_people_over_a_restart(tmp_path):
    file = tmp_path / "sandbox.json"
    first = Sandbox(state_file=file).start()
    user = first.add_user(email="mary@example.com", first_name="Mary")
    first.sign_in(user["id"])
    first.stop()
    second = Sandbox(state_file=file).start()
    try:
        assert [found["id"] for found in second.find("mary@example.com")] == [user["id"]]
        assert api(second, "GET", "/users").json()[0]["first_name"] == "Mary"
        assert second.webhooks.events == []
    finally:
        second.stop()


def test_a_state_file_keeps_webhooks_faults_and_settings_over_a_restart(tmp_path):
    file = tmp_path / "sandbox.json"
    first = Sandbox(state_file=file).start()
    first.webhooks.send_to("http://127.0.0.1:9/hook")
    first.webhooks.mode = "held"
    first.add_user(email="mary@example.com")
    first.fault("GET /users", "status", status=503, times=3)
    first.fault("*", "late", seconds=None, skip=2)
    first.names = "both_required"
    assert api(first, "GET", "/users").status_code == 503
    first.stop()
    second = Sandbox(state_file=file).start()
    try:
        assert (second.webhooks.url, second.webhooks.mode) == ("http://127.0.0.1:9/hook", "held")
        assert second.webhooks.secret == first.webhooks.secret
        assert second.names == "both_required"
        [fault, late] = second.faults.all()
        assert (fault["route"], fault["status"], fault["times"]) == ("GET /users", 503, 2)
        assert (late["kind"], late["seconds"], late["skip"]) == ("late", None, 2)
        second.webhooks.pauses = ()
        [event] = second.webhooks.release()
        assert event.payload["data"]["email_addresses"][0]["email_address"] == "mary@example.com"
        assert second.webhooks.wait_idle(60)
    finally:
        second.stop()


def test_a_state_file_without_webhooks_and_faults_is_read(tmp_path):
    file = tmp_path / "sandbox.json"
    file.write_text('{"users": [], "invitations": {}, "sessions": {}, "mails": []}')
    own = Sandbox(state_file=file).start()
    own.stop()
    assert json.loads(file.read_text())["webhooks"]["mode"] == "live"


@pytest.mark.parametrize("text", ["", '{"users": [', "[]", "{}", '{"users": ["x"]}', "\xff"])
def test_a_corrupt_state_file_is_one_line_that_says_what_to_do(tmp_path, text):
    file = tmp_path / "sandbox.json"
    file.write_bytes(text.encode("latin-1"))
    ended = subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", "0", "--state-file", str(file)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    assert str(file) in line
    assert "delete it to start with no users" in line
    assert file.read_bytes() == text.encode("latin-1"), "it is left as it was"


def test_the_command_sends_webhooks_where_it_is_told(tmp_path):
    command = [sys.executable, "-m", "sandbox", "--port", "0"]
    wrong = subprocess.run(
        [*command, "--webhook-url", "nonsense"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert wrong.returncode == 1
    assert "cannot send webhooks" in wrong.stderr
    running = subprocess.Popen(
        [*command, "--webhook-url", "http://127.0.0.1:9/hook"], stdout=subprocess.PIPE, text=True
    )
    try:
        root = running.stdout.readline().split()[-1]
        answer = requests.get(f"{root}/_sandbox/webhooks", timeout=PATIENCE).json()
        assert answer["url"] == "http://127.0.0.1:9/hook"
    finally:
        running.terminate()
        assert running.wait(PATIENCE) == 0
        running.stdout.close()


# --- Faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["page", "json"])
@pytest.mark.parametrize("route", list(ROUTES))
def test_a_status_can_be_switched_on_for_every_route(sandbox, route, how):
    """A plan that lacks a feature, for one."""
    code = "unsupported_subscription_plan_features"
    if how == "page":
        post(sandbox, "/faults", route=route, kind="status", status="402", code=code)
    else:
        control(sandbox, "POST", "faults",
                {"route": route, "kind": "status", "status": 402, "code": code})  # fmt: skip
    method, path = route.split(" ")
    for name in ("user_id", "email_id", "invitation_id", "session_id"):
        path = path.replace(f"{{{name}}}", "some_1")
    answer = api(sandbox, method, path)
    assert answer.status_code == 402
    assert answer.json()["errors"][0]["code"] == code
    if how == "page":
        assert route in page(sandbox, "/faults")
        post(sandbox, "/faults/clear")
    assert control(sandbox, "GET", "faults") == []


@pytest.mark.parametrize("apply", [False, True], ids=["not applied", "applied"])
@pytest.mark.parametrize(
    "kind", ["status", "html", "html_200", "broken_json", "unreadable_error", "reset", "close"]
)
def test_a_write_fails_and_is_applied_only_when_told(sandbox, kind, apply):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary")
    form = {"apply": "on"} if apply else {}
    post(sandbox, "/faults", route="PATCH /users/{user_id}", kind=kind, times="1", **form)
    try:
        answer = api(sandbox, "PATCH", f"/users/{user['id']}", {"first_name": "Marie"})
    except requests.ConnectionError:
        assert kind in ("reset", "close")
    else:
        expected = {"status": 500, "html": 502, "html_200": 200, "broken_json": 200,
                    "unreadable_error": 422}  # fmt: skip
        assert answer.status_code == expected[kind]
        if kind != "status":
            with pytest.raises(requests.JSONDecodeError):
                answer.json()
    assert sandbox.user(user["id"])["first_name"] == ("Marie" if apply else "Mary")
    assert api(sandbox, "GET", "/users").status_code == 200, "once only"


def test_delay_hang_and_drip_do_not_end_in_time(sandbox):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary")
    headers = {"Authorization": f"Bearer {sandbox.secret_key}"}
    for kind in ("delay", "hang", "drip"):
        post(sandbox, "/faults", route="PATCH /users/{user_id}", kind=kind, seconds="30",
             apply="on")  # fmt: skip
        with pytest.raises((requests.ReadTimeout, requests.ConnectionError)):
            requests.patch(f"{sandbox.url}/users/{user['id']}", json={"first_name": kind},
                           headers=headers, timeout=0.3)  # fmt: skip
        wait_until(
            lambda: sandbox.user(user["id"])["first_name"] == kind,  # noqa: B023
            "the change is not made",
        )
        post(sandbox, "/faults/clear")


def test_a_late_change_is_switched_on_and_applied_on_the_page(sandbox):
    user = sandbox.add_user(email="mary@example.com", first_name="Mary")
    post(sandbox, "/faults", route="*", kind="late", how="close", times="1")
    text = page(sandbox, "/faults")
    assert "the connection is closed" in text
    assert "1 on" in page(sandbox, "/"), "every page warns of it"
    assert "applied on your command" in text
    with pytest.raises(requests.ConnectionError):
        api(sandbox, "PATCH", f"/users/{user['id']}", {"first_name": "Marie"})
    assert "1 answered, but not applied yet" in page(sandbox, "/faults")
    assert control(sandbox, "GET", "late") == {"waiting": 1}
    post(sandbox, "/faults/apply-late")
    assert sandbox.user(user["id"])["first_name"] == "Marie"
    assert "not applied yet" not in page(sandbox, "/faults")
    control(sandbox, "POST", "faults", {"route": "*", "kind": "late", "seconds": 3600})
    assert "applied after 3600 s" in page(sandbox, "/faults")
    api(sandbox, "PATCH", f"/users/{user['id']}", {"first_name": "Maria"})
    control(sandbox, "POST", "late")
    assert sandbox.user(user["id"])["first_name"] == "Maria"


def test_one_of_two_faults_is_switched_off_on_the_page(sandbox):
    first, second = sandbox.fault("GET /users", "hang"), sandbox.fault("*", "close")
    assert "Switch off" in post(sandbox, f"/faults/{first.id}/remove").text
    assert [fault["id"] for fault in sandbox.faults.all()] == [second.id]


def test_a_refusal_that_is_not_clerks_is_shown_on_the_page(sandbox):
    post(sandbox, "/faults", route="*", kind="foreign_4xx", body="json")
    assert "403, JSON without errors" in page(sandbox, "/faults")
    assert sandbox.faults.all()[0]["apply"] is True
    post(sandbox, "/faults", 400, route="*", kind="foreign_4xx", status="500")


def test_the_settings_of_the_instance_are_changed_on_the_page_and_over_json(sandbox):
    post(sandbox, "/faults/instance", names="both_required", normalize_names="on")
    assert (sandbox.names, sandbox.normalize_names, sandbox.hide_password_times) == (
        "both_required", True, False)  # fmt: skip
    assert 'value="both_required" selected' in page(sandbox, "/faults")
    changed = control(sandbox, "PATCH", "instance", {"names": "on", "instance_id": "ins_other"})
    assert changed == sandbox.settings()
    assert sandbox.instance_id == "ins_other"
    post(sandbox, "/faults/instance", 400, names="sideways")


def test_a_fault_for_one_user_after_some_requests(sandbox):
    mary = sandbox.add_user(email="mary@example.com")["id"]
    ann = sandbox.add_user(email="ann@example.com")["id"]
    sandbox.fault("GET /users/{user_id}", "status", status=503, user_id=mary, skip=1, times=2)
    statuses = [api(sandbox, "GET", f"/users/{one}").status_code
                for one in (mary, ann, mary, mary, ann, mary)]  # fmt: skip
    assert statuses == [200, 200, 503, 503, 200, 200]
