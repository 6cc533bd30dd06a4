"""The gateway to Clerk: every method over real sockets against the sandbox, with the real SDK,
and the traps of both."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest
import requests
from clerk_backend_api.utils import serializers

from sandbox import Limits, Sandbox
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
from tests.support.gateway import READS, WRITES
from tests.support.patience import PATIENCE, deadline_for, seconds_of
from tests.support.slots import Slots
from users.clerk import Clerk, ClerkInstance, Deadline, Pace, clerk, reads
from users.errors import (
    ClerkAlreadyInvited,
    ClerkBusy,
    ClerkDenied,
    ClerkDeniedToAll,
    ClerkEmailTaken,
    ClerkError,
    ClerkInvalidId,
    ClerkInvitationAccepted,
    ClerkInvitationClosed,
    ClerkInvitationRevoked,
    ClerkNotConfigured,
    ClerkNotFound,
    ClerkRateLimited,
    ClerkRefused,
    ClerkUnknown,
    ClerkUnreachable,
    ClerkUnreadable,
)

KEY = "sk_test_a_key_that_must_not_be_seen"
CODES = {"errors": [{"code": "c", "message": "m", "long_message": "m"}]}


def soon() -> Deadline:
    return Deadline(20)


@pytest.fixture
def gateway(sandbox) -> Clerk:
    return clerk()


@pytest.fixture
def mary(sandbox) -> str:
    user = sandbox.add_user(
        email="mary@example.com",
        first_name="Mary",
        last_name="Smith",
        public_metadata={"role": "ADMIN", "tags": {"a": 1}},
    )
    return user["id"]


def write(name: str, gateway: Clerk, user_id: str, seconds: float = 20) -> object:
    return WRITES[name][1](gateway, user_id, Deadline(seconds))


# --- Every method ------------------------------------------------------------------------------


def test_every_method_is_driven_here():
    methods = {name for name in vars(Clerk) if not name.startswith("_")} - {"paced"}
    assert methods == {*WRITES, *READS}


def test_users_are_listed_by_their_last_change(sandbox, gateway, mary, monkeypatch):
    ann = sandbox.add_user(email="ann@example.com")["id"]
    later = sandbox.state.now() + 1000
    monkeypatch.setattr(sandbox.state, "clock", lambda: later / 1000)
    sandbox.edit(mary, last_name="Jones")
    pages = [
        gateway.list_changed_users(limit=1, offset=offset, deadline=soon()).users
        for offset in (0, 1, 2)
    ]
    assert [[one.id for one in page] for page in pages] == [[mary], [ann], []]


def test_users_are_read(sandbox, gateway, mary):
    ann = sandbox.add_user(email="ann@example.com", first_name="Ann", banned=True)["id"]
    user = gateway.get_user(mary, deadline=soon())
    assert (user.id, user.name, user.email, user.email_verified) == (
        mary, "Mary Smith", "mary@example.com", True)  # fmt: skip
    assert user.public_metadata["role"] == "ADMIN"
    assert [one.id for one in gateway.find_by_email(" MARY@example.com ", deadline=soon())] == [
        mary
    ]
    assert gateway.find_by_email(" ", deadline=soon()) == []
    assert [one.id for one in gateway.search("nn@exa", deadline=soon())] == [ann]
    assert gateway.count_users(deadline=soon()) == 2
    known = gateway.get_users([mary, "user_gone"], deadline=soon())
    assert [one.id for one in known.users] == [mary]
    assert gateway.get_users([], deadline=soon()).users == ()  # not everybody
    page = gateway.list_users(limit=1, deadline=soon())
    assert ([one.id for one in page.users], page.last_id, page.size) == ([ann], ann, 1)
    rest = gateway.list_users(limit=1, starting_after=ann, deadline=soon())
    assert [one.id for one in rest.users] == [mary]
    created = sandbox.user(mary)["created_at"]
    window = gateway.list_users(
        created_after=created - 1, created_before=created + 1, deadline=soon()
    )
    assert mary in [one.id for one in window.users]
    with pytest.raises(ClerkNotFound) as caught:
        gateway.get_user("user_nobody", deadline=soon())
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("body", "environment"),
    [
        ({"id": "ins_2wZ0yX8v", "environment_type": "production"}, "production"),
        ({"id": "ins_2wZ0yX8v", "environment_type": 7, "a_new_field": []}, ""),
        ({"id": "ins_2wZ0yX8v"}, ""),
    ],
)
def test_the_instance_is_read_tolerantly(settings, db, body, environment):
    with serving(answering(200, body)) as server:
        settings.CLERK_API_URL, settings.CLERK_SECRET_KEY = server.url, KEY
        assert clerk().get_instance(deadline=soon()) == ClerkInstance("ins_2wZ0yX8v", environment)


@pytest.mark.parametrize("wrong", [None, 7, "", "ins_", "user_1", "ins_1/x", "ins_1\n"])
def test_an_instance_without_a_valid_id_is_an_unknown_answer(settings, db, wrong):
    with serving(answering(200, {"object": "instance", "id": wrong})) as server:
        settings.CLERK_API_URL, settings.CLERK_SECRET_KEY = server.url, KEY
        with pytest.raises(ClerkUnknown):
            clerk().get_instance(deadline=soon())


def test_the_instance_is_the_one_that_the_events_name(sandbox, gateway, mary):
    instance = gateway.get_instance(deadline=soon())
    assert instance == ClerkInstance(sandbox.instance_id, "development")
    assert sandbox.webhooks.events[0].payload["instance_id"] == instance.id


def test_users_are_written(sandbox, gateway, mary):
    user = gateway.update_user(mary, first_name="Marie", last_name="", deadline=soon())
    assert user.name == "Marie"
    before = sandbox.user(mary)["password_last_updated_at"]
    sandbox.sign_in(mary)
    gateway.set_password(mary, password="correct horse battery", sign_out=True, deadline=soon())
    assert before is None
    assert sandbox.user(mary)["password_enabled"]
    assert gateway.list_sessions(mary, deadline=soon()) == []
    gateway.replace_email(mary, email="marie@example.com", deadline=soon())
    assert gateway.find_by_email("mary@example.com", deadline=soon()) == []
    assert [one.id for one in gateway.find_by_email("marie@example.com", deadline=soon())] == [mary]
    assert sandbox.mails()[0]["to"] == "mary@example.com"
    assert gateway.ban_user(mary, deadline=soon()).banned
    assert not gateway.unban_user(mary, deadline=soon()).banned
    sandbox.edit(mary, locked=True, two_factor_enabled=True)
    assert not gateway.unlock_user(mary, deadline=soon()).locked
    gateway.disable_mfa(mary, deadline=soon())
    assert not sandbox.user(mary)["two_factor_enabled"]
    gateway.delete_user(mary, deadline=soon())
    assert sandbox.user(mary) is None
    new = gateway.create_user(
        email="new@example.com", first_name="New", last_name="Person",
        public_metadata={"cascade_user_id": "7"}, deadline=soon())  # fmt: skip
    assert sandbox.user(new.id)["public_metadata"] == {"cascade_user_id": "7"}
    assert new.email_verified


def test_a_write_sends_what_changed_and_nothing_else(sandbox, gateway, mary):
    write("update_user", gateway, mary)
    write("set_password", gateway, mary)
    write("replace_email", gateway, mary)
    names, password, email = (request.body for request in sandbox.writes())
    always = {"notify_primary_email_address_changed": False}  # the SDK's own
    assert names == {"first_name": "Marie", "last_name": "Jones", **always}
    assert password == {"password": "(set)", "sign_out_of_other_sessions": True, **always}
    assert email == {"email_address": "marie@example.com", "identification_status": "verified",
                     "notify_primary_email_address_changed": True}  # fmt: skip


def test_metadata_is_merged(sandbox, gateway, mary):
    write("merge_metadata", gateway, mary)
    assert sandbox.user(mary)["public_metadata"] == {"tags": {"a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("version", "status", "stored"),
    [("2026-05-12", 422, {"role": "ADMIN", "tags": {"a": 1}}), ("2025-11-10", 200, {"x": 1})],
)
def test_the_rule_about_metadata_of_both_versions(sandbox, mary, version, status, stored):
    """The older version replaces it in PATCH /users; the pinned one does not know it there."""
    answer = requests.patch(
        f"{sandbox.url}/users/{mary}",
        json={"public_metadata": {"x": 1}},
        headers={"Authorization": f"Bearer {sandbox.secret_key}", "Clerk-API-Version": version},
        timeout=PATIENCE,
    )
    assert answer.status_code == status
    assert sandbox.user(mary)["public_metadata"] == stored
    if status == 422:
        [problem] = answer.json()["errors"]
        assert (problem["code"], problem["meta"]["param_name"]) == (
            "form_param_unknown", "public_metadata")  # fmt: skip


def test_invitations(sandbox, gateway):
    sent = write("create_invitation", gateway, "")
    assert (sent.email, sent.status, sent.public_metadata) == ("new@example.com", "pending",
                                                               {"k": "v"})  # fmt: skip
    assert (sent.expires_at - sent.created_at).days == 7
    with pytest.raises(ClerkRefused) as caught:
        write("create_invitation", gateway, "")
    assert (caught.value.status, caught.value.code) == (400, "duplicate_record")
    [listed] = gateway.list_invitations(query="new@", deadline=soon())
    assert listed.id == sent.id
    assert gateway.revoke_invitation(sent.id, deadline=soon()).status == "revoked"
    assert gateway.list_invitations(deadline=soon()) == [], "Clerk leaves out the revoked ones"
    assert len(gateway.list_invitations(status="revoked", deadline=soon())) == 1
    with pytest.raises(ClerkRefused) as caught:
        gateway.revoke_invitation(sent.id, deadline=soon())
    assert caught.value.code == "invitation_already_revoked"
    sandbox.add_user(email="taken@example.com")
    with pytest.raises(ClerkRefused) as caught:
        gateway.create_invitation(
            email="taken@example.com", public_metadata={}, expires_in_days=7, deadline=soon()
        )
    assert (caught.value.code, caught.value.problems[0].param) == (
        "form_identifier_exists", "email_address")  # fmt: skip


def test_sessions(sandbox, gateway, mary):
    other = sandbox.add_user(email="ann@example.com")["id"]
    sandbox.sign_in(other)
    session = sandbox.sign_in(mary)
    [listed] = gateway.list_sessions(mary, deadline=soon())
    assert (listed.id, listed.user_id, listed.status) == (session["id"], mary, "active")
    gateway.revoke_session(session["id"], deadline=soon())
    assert gateway.list_sessions(mary, deadline=soon()) == []
    assert len(gateway.list_sessions(other, deadline=soon())) == 1


def test_the_pinned_version_is_sent_by_reads_and_writes(sandbox, gateway, mary):
    for name in WRITES:
        with suppress(ClerkError):
            write(name, gateway, mary)
    for read in READS.values():
        with suppress(ClerkError):
            read(gateway, mary, soon())
    assert len(sandbox.requests()) == len(WRITES) + len(READS)
    assert {request.version for request in sandbox.requests()} == {"2026-05-12"}


def test_the_classes_made_once_read_as_the_sdk_s_own(sandbox, gateway, mary, monkeypatch):
    made_once = write("update_user", gateway, mary)
    from pydantic import create_model

    monkeypatch.setattr(serializers, "create_model", create_model)
    own = write("update_user", gateway, mary)
    assert (own.id, own.name, own.emails) == (made_once.id, made_once.name, made_once.emails)


# --- What an answer means ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["update_user", "ban_user", "create_invitation", "disable_mfa",
                                  "replace_email", "get_user", "list_invitations"])  # fmt: skip
@pytest.mark.parametrize(
    ("status", "code", "param", "expected"),
    [
        (400, "delete_linked_identification_disallowed", "", ClerkRefused),
        (400, "duplicate_record", "", ClerkAlreadyInvited),
        (400, "api_version_invalid", "", ClerkRefused),
        (401, "clerk_key_invalid", "", ClerkDeniedToAll),
        (401, "authentication_invalid", "", ClerkDeniedToAll),
        (402, "unsupported_subscription_plan_features", "", ClerkDeniedToAll),
        (403, "user_quota_exceeded", "", ClerkDenied),
        (403, "authorization_invalid", "", ClerkDeniedToAll),
        (400, "feature_not_enabled", "", ClerkDeniedToAll),
        (400, "invitation_already_accepted", "", ClerkInvitationAccepted),
        (400, "invitation_already_expired", "", ClerkInvitationClosed),
        (400, "invitation_already_revoked", "", ClerkInvitationRevoked),
        (409, "conflict", "", ClerkBusy),
        (404, "resource_not_found", "", ClerkNotFound),
        (404, "page_not_found", "", ClerkUnknown),
        (408, "timeout", "", ClerkUnknown),
        (409, "resource_locked", "", ClerkBusy),
        (409, "user_managed_by_scim", "", ClerkRefused),
        (413, "request_body_too_large", "", ClerkRefused),
        (422, "form_identifier_exists", "email_address", ClerkEmailTaken),
        (422, "form_password_pwned", "password", ClerkRefused),
        (422, "form_param_nil", "email_address", ClerkRefused),
        (429, "too_many_requests", "", ClerkRateLimited),
        (500, "internal_clerk_error", "", ClerkUnknown),
        (503, "service_unavailable", "", ClerkUnknown),
        (504, "gateway_timeout", "", ClerkUnknown),
    ],
)
def test_an_error_is_told_by_status_and_code(
    sandbox, gateway, mary, name, status, code, param, expected
):
    """Whatever class the SDK makes of it, which differs by operation."""
    sandbox.fault("*", "status", status=status, code=code, param=param, message="Said.",
                  retry_after=30, times=None)  # fmt: skip
    call = READS.get(name) or WRITES[name][1]
    with pytest.raises(ClerkError) as caught:
        call(gateway, mary, soon())
    error = caught.value
    assert type(error) is expected
    assert (error.status, error.code) == (status, code)
    assert (error.problems[0].message, error.problems[0].param) == ("Said.", param or None)
    assert error.trace_id
    if status == 429:
        assert error.retry_after == 30


@pytest.mark.parametrize("name", ["update_user", "ban_user", "get_user"])
def test_two_problems_and_odd_bodies(sandbox, gateway, mary, name):
    call = READS.get(name) or WRITES[name][1]
    two = [{"code": "a", "message": "A", "meta": {"param_name": "first_name"}},
           {"code": "b", "message": "B", "long_message": "The long B"}]  # fmt: skip
    sandbox.fault("*", "status", status=422, errors=two)
    with pytest.raises(ClerkRefused) as caught:
        call(gateway, mary, soon())
    assert [(p.code, p.message, p.param) for p in caught.value.problems] == [
        ("a", "A", "first_name"), ("b", "The long B", None)]  # fmt: skip
    sandbox.fault("*", "unreadable_error", times=None)
    with pytest.raises(ClerkUnknown) as caught:
        call(gateway, mary, soon())
    assert (caught.value.status, caught.value.problems) == (422, ())
    sandbox.clear_faults()
    sandbox.fault("*", "html", times=None)
    with pytest.raises(ClerkUnknown) as caught:
        call(gateway, mary, soon())
    assert (caught.value.status, caught.value.trace_id) == (502, "9f00ba11deadbeef")


NOT_CLERKS = {
    "empty": "",
    "null": None,
    "list": [],
    "no errors": {"message": "Forbidden"},
    "errors is empty": {"errors": []},
    "errors is text": {"errors": "not allowed"},
    "errors of texts": {"errors": ["not allowed"]},
    "no code": {"errors": [{"message": "m", "long_message": "m"}]},
    "code is empty": {"errors": [{"code": "", "message": "m"}]},
    "code is a number": {"errors": [{"code": 403, "message": "m"}]},
    "one entry of two": {"errors": [{"code": "c", "message": "m"}, {"message": "m"}]},
}


@pytest.mark.parametrize("body", NOT_CLERKS.values(), ids=NOT_CLERKS)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 410, 413, 415, 422, 429])
def test_a_4xx_without_clerks_errors_is_an_unknown_outcome(settings, sandbox, status, body):
    """A proxy or a firewall answered. It may have passed the request on before it did."""
    with serving(answering(status, body)) as server:
        settings.CLERK_API_URL = server.url
        for name in ("update_user", "delete_user"):
            with pytest.raises(ClerkUnknown) as caught:
                write(name, clerk(), "user_1")
            assert str(caught.value) == f"Something other than Clerk answered ({status})"
        assert server.requests == 2


@pytest.mark.parametrize("kind", ["html_200", "broken_json"])
@pytest.mark.parametrize("name", ["create_user", "update_user", "ban_user", "create_invitation"])
def test_a_success_that_cannot_be_read_says_that_clerk_did_it(sandbox, gateway, mary, name, kind):
    sandbox.fault("*", kind, apply=True)
    with pytest.raises(ClerkUnreadable) as caught:
        write(name, gateway, mary)
    assert caught.value.status == 200
    assert len(sandbox.writes()) == 1
    sandbox.fault("GET /users/{user_id}", kind, times=None)
    with pytest.raises(ClerkUnknown) as caught:
        gateway.get_user(mary, deadline=soon())
    assert not isinstance(caught.value, ClerkUnreadable), "a read did nothing"


@pytest.mark.parametrize("kind", ["status", "html", "reset", "close", "hang"])
@pytest.mark.parametrize("name", list(WRITES))
def test_no_write_is_sent_twice(sandbox, gateway, mary, name, kind):
    short = deadline_for(lambda: gateway.get_user(mary, deadline=soon()), at_least=0.2)
    sandbox.clear_requests()
    sandbox.fault(WRITES[name][0], kind, status=503, times=None)
    with pytest.raises(ClerkUnknown):
        write(name, gateway, mary, seconds=short if kind == "hang" else 20)
    assert len(sandbox.requests()) == 1


@pytest.mark.parametrize("name", list(READS))
def test_a_read_is_tried_again(sandbox, gateway, mary, name):
    sandbox.fault("*", "status", status=503)
    sandbox.fault("*", "reset")
    READS[name](gateway, mary, soon())
    assert [request.status for request in sandbox.requests()] == [503, None, 200]


def test_nobody_there_is_unreachable(settings, gateway):
    settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
    with pytest.raises(ClerkUnreachable):
        write("update_user", clerk(), "user_1")
    with pytest.raises(ClerkUnreachable):
        clerk().get_user("user_1", deadline=soon())


# --- 429 -----------------------------------------------------------------------------------------


def test_retry_after_is_obeyed_by_reads_within_their_deadline(sandbox, gateway, mary, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr(reads, "time", SimpleNamespace(sleep=slept.append))
    sandbox.fault("*", "status", status=429, retry_after=3)
    gateway.get_user(mary, deadline=soon())
    assert slept == [3.0]
    sandbox.fault("*", "status", status=429, retry_after=86_400)
    with pytest.raises(ClerkRateLimited) as caught:
        gateway.get_user(mary, deadline=soon())
    assert slept == [3.0], "it sleeps neither a day nor until the deadline"
    assert caught.value.retry_after == 86_400


A_DAY = 86_400
ODD_RETRY_AFTER = {
    "7": 7, "": 1, "soon": 1, "-1": 1, "1.5": 1, "nan": 1, "inf": 1,
    "2300500149": A_DAY, "9" * 5000: A_DAY,
    "Wed, 21 Oct 2015 07:28:00 GMT": 0,
    "Wed, 21 Oct 2015 07:28:00 -0000": 0,
    "Fri, 31 Dec 9999 23:59:59 GMT": A_DAY,
    "Fri, 31 Dec 9999 23:59:59 -2359": A_DAY,
    "Wed, 21 Oct 99999999999999999999 07:28:00 GMT": 1,
    "Wed, 99999999999999999999 Oct 2015 07:28:00 GMT": 1,
    "Wed, 21 Oct 2015 07:28:00 +99999999999999": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("header", "seconds"), ODD_RETRY_AFTER.items(), ids=[key[:40] for key in ODD_RETRY_AFTER]
)
def test_any_retry_after_is_read_and_capped(settings, header, seconds):
    with serving(answering(429, CODES, f"Retry-After: {header}")) as server:
        settings.CLERK_API_URL = server.url
        with pytest.raises(ClerkRateLimited) as caught:
            write("update_user", clerk(), "user_1")
    assert caught.value.retry_after == seconds
    assert server.requests == 1


@pytest.mark.parametrize("date", ["Wed, 99999999999999999999 Oct 2015 07:28:00 GMT", "now", ""])
def test_a_date_of_clerk_that_cannot_be_read(settings, sandbox, date):
    with serving(answering(200, {}, f"Date: {date}")) as server:
        settings.CLERK_API_URL = server.url
        with pytest.raises(ClerkUnknown, match="does not say its time"):
            clerk().time(deadline=soon())


def paced_by(rate, clock, sleep):
    """Return a rate limiter that nobody else shares, by a clock of the test."""
    return Pace(rate, Slots(rate, clock), clock=clock, sleep=sleep)


@pytest.mark.parametrize("body", [CODES, "<html>Too many requests</html>"], ids=["clerk", "proxy"])
@pytest.mark.parametrize("name", ["update_user", "get_user"])
def test_a_429_of_anybody_makes_bulk_work_wait(settings, sandbox, name, body):
    slept: list[float] = []
    pace = paced_by(1000, lambda: sum(slept), slept.append)
    call = READS.get(name) or WRITES[name][1]
    with serving(answering(429, body, "Retry-After: 30")) as server:
        settings.CLERK_API_URL = server.url
        with pytest.raises(ClerkError) as caught:
            call(clerk().paced(pace), "user_1", soon())
        assert server.requests == 1, "the wait is longer than the deadline"
    assert isinstance(caught.value, ClerkRateLimited if body is CODES else ClerkUnknown)
    pace.wait()
    assert sum(slept) == pytest.approx(30, abs=0.1)


def test_sessions_that_are_ended_count_for_the_rate_and_wait_for_no_place(sandbox, gateway, mary):
    slept: list[float] = []
    pace = paced_by(1, lambda: sum(slept), slept.append)
    paced = gateway.paced(pace)
    for session in [sandbox.sign_in(mary) for _ in range(5)]:
        paced.revoke_session(session["id"], deadline=soon())
    assert not slept
    pace.wait()
    assert sum(slept) == pytest.approx(5)


def test_a_429_makes_all_at_this_pace_wait(sandbox, gateway, mary):
    """The one who met it is told at once: no lock is held while Clerk wants no more."""
    sandbox.fault("*", "status", status=429, retry_after=3)
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = paced_by(1000, lambda: now[0], sleep)
    paced = gateway.paced(pace)
    with pytest.raises(ClerkRateLimited):
        write("update_user", paced, mary)
    assert sum(slept) == pytest.approx(0, abs=0.1)
    pace.wait(mary)
    write("update_user", paced, mary)
    assert [request.status for request in sandbox.requests()] == [429, 200]
    assert sum(slept) == pytest.approx(3, abs=0.1)


# --- Ids, key, proxies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", ["", ".", "../organizations/org_1", "user_x/ban", "user_x?y=1", "user_x\n", "inv_1",
              "user_", "user_é", "user_x y"])  # fmt: skip
def test_no_odd_id_reaches_a_path(sandbox, gateway, wrong):
    by_user = [name for name, (route, _) in WRITES.items() if "{user_id}" in route]
    for name in by_user:
        with pytest.raises(ClerkInvalidId):
            write(name, gateway, wrong)
    for call in (gateway.get_user, gateway.list_sessions):
        with pytest.raises(ClerkInvalidId):
            call(wrong, deadline=soon())
    with pytest.raises(ClerkInvalidId):
        gateway.list_users(starting_after=wrong, deadline=soon())
    for call in (gateway.revoke_session, gateway.revoke_invitation):
        with pytest.raises(ClerkInvalidId):
            call("user_x" if wrong == "inv_1" else wrong, deadline=soon())
    assert sandbox.requests() == []


@pytest.mark.parametrize("key", ["", "  ", "pk_test_x", "sk_test_ä", "sk_test_a b"])
def test_without_a_key_nothing_is_sent(sandbox, settings, key):
    settings.CLERK_SECRET_KEY = key
    with pytest.raises(ClerkNotConfigured, match="Clerk authentication not configured") as caught:
        clerk()
    assert not key.strip() or key not in str(caught.value)


def test_the_key_is_seen_nowhere(sandbox, settings, caplog):
    settings.CLERK_SECRET_KEY = KEY
    caplog.set_level(logging.DEBUG)
    told = []
    for url in (sandbox.url, "http://127.0.0.1:9/v1"):
        settings.CLERK_API_URL = url
        told.append(repr(clerk()))
        for call in [*READS.values(), *(call for _, call in WRITES.values())]:
            with pytest.raises(ClerkError) as caught:
                call(clerk(), "user_1", soon())
            told += [str(caught.value), repr(caught.value), repr(vars(caught.value))]
            told += traceback.format_exception(caught.value)
    assert len(told) > 100
    assert not [text for text in [*told, caplog.text] if KEY in text]
    assert "correct horse battery" not in caplog.text
    assert {request.status for request in sandbox.requests()} == {401}


def test_proxies_of_the_environment_are_ignored(sandbox, settings, mary, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    settings.CLERK_API_URL = f"{sandbox.url}/"  # another client
    assert clerk().get_user(mary, deadline=soon()).id == mary
    assert write("update_user", clerk(), mary).id == mary


# --- Servers that misbehave ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["get_user", "list_users", "update_user", "delete_user"])
@pytest.mark.parametrize("answer", [hang, drip_status, drip_headers, drip_body, drip_chunks, flood])
def test_whatever_the_server_does_a_call_ends_at_its_deadline(settings, answer, name):
    """Ten times the deadline is the limit: these servers hold a call for ever."""
    # A read is tried again, and the second try may have no time left to connect.
    failures = (ClerkUnknown, ClerkUnreachable) if name in READS else ClerkUnknown

    def call(deadline: Deadline) -> None:
        with pytest.raises(failures):
            (READS.get(name) or WRITES[name][1])(clerk(), "user_1", deadline)

    with serving(answering(200, "nonsense")) as server:
        settings.CLERK_API_URL = server.url
        short = deadline_for(lambda: call(soon()), at_least=0.4)
    with serving(answer) as server:
        settings.CLERK_API_URL = server.url
        assert seconds_of(lambda: call(Deadline(short))) < 10 * short
        if name in WRITES:
            assert server.requests == 1
    assert not server.outlasted


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(sandbox, settings, mary, status):
    location = f"Location: {sandbox.url}/users/{mary}"
    with serving(answering(status, {}, location)) as server:
        settings.CLERK_API_URL = server.url
        for name in ("update_user", "get_user"):
            with pytest.raises(ClerkUnknown) as caught:
                (READS.get(name) or WRITES[name][1])(clerk(), mary, soon())
            assert caught.value.status == status
    assert sandbox.requests() == []


# --- Answers that an SDK does not know -----------------------------------------------------------


def _newer(user: dict) -> dict:
    """As an instance may send it tomorrow: an unknown state, a missing field, a new one."""
    user["email_addresses"][0]["verification"] |= {"status": "fraud_suspected", "object": "new"}
    del user["legal_accepted_at"], user["passkeys"]
    return user | {"a_new_field": {"deep": [1]}, "public_metadata": None, "banned": "maybe"}


def test_a_user_that_the_sdk_cannot_read_is_read(sandbox, settings, mary):
    user = _newer(sandbox.user(mary))
    with serving(answering(200, user)) as server:
        settings.CLERK_API_URL = server.url
        for name in ("update_user", "ban_user", "get_user"):
            read = (READS.get(name) or WRITES[name][1])(clerk(), mary, soon())
            assert (read.id, read.email, read.email_verified) == (mary, "mary@example.com", False)
            assert (read.banned, read.public_metadata) == (False, {})
        assert server.requests == 3


def test_one_unreadable_user_does_not_hide_a_page(sandbox, settings, mary):
    ann = sandbox.add_user(email="ann@example.com")
    page = [_newer(sandbox.user(mary)), {"id": "../x"}, "nonsense", {"id": 7}, None, ann]
    with serving(answering(200, page)) as server:
        settings.CLERK_API_URL = server.url
        found = clerk().list_users(deadline=soon())
    assert [user.id for user in found.users] == [mary, ann["id"]]
    assert [named for named, _ in found.unreadable] == ["../x", "?", "7", "?"]
    assert (found.last_id, found.size) == (ann["id"], 6)


@pytest.mark.parametrize("body", [{}, "text", None, 7])
@pytest.mark.parametrize("name", [name for name in READS if name != "get_user"])
def test_a_list_that_is_none_is_not_taken_for_an_empty_one(settings, db, name, body):
    with serving(answering(200, body)) as server:
        settings.CLERK_API_URL = server.url
        settings.CLERK_SECRET_KEY = KEY
        with pytest.raises(ClerkUnknown):
            READS[name](clerk(), "user_1", soon())


def test_another_user_than_the_one_asked_for_is_no_answer(sandbox, settings, mary):
    with serving(answering(200, sandbox.user(mary))) as server:
        settings.CLERK_API_URL = server.url
        with pytest.raises(ClerkUnknown):
            clerk().get_user("user_other", deadline=soon())


# --- Clerk's limits, at a clock of our own -------------------------------------------------------


@contextmanager
def limited(limits: Limits) -> Iterator[tuple[Sandbox, list[float]]]:
    now = [1_800_000_000.0]
    sandbox = Sandbox(limits=limits, clock=lambda: now[0]).start()
    try:
        yield sandbox, now
    finally:
        sandbox.stop()


def test_a_limit_of_the_sandbox_reaches_the_caller(settings):
    with limited(Limits(user=(2, 10.0))) as (sandbox, now):
        settings.CLERK_API_URL, settings.CLERK_SECRET_KEY = sandbox.url, sandbox.secret_key
        user = sandbox.add_user(email="mary@example.com")["id"]
        write("update_user", clerk(), user)
        now[0] += 3
        write("update_user", clerk(), user)
        with pytest.raises(ClerkRateLimited) as caught:
            write("update_user", clerk(), user)
        assert (caught.value.code, caught.value.retry_after) == ("too_many_requests", 7)
        now[0] += 7
        write("update_user", clerk(), user)
