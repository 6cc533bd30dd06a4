"""The API while something goes wrong: outages, two at once, floods, and requests of nonsense."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, connection
from django.db.models import F
from django.test import Client
from django.utils import timezone

from tests.support.change_form import form_of, page_of, stored, text_of
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, linked
from tests.support.front_end import ORIGIN, administrator, ask, edit, rename, token_of
from tests.support.patience import wait_until
from tests.support.unknown import NOT_CONFIRMED, time_is_over
from users import throttle
from users.api import endpoint
from users.models import ApiUse, BuilderUser, ClerkAccount, SyncAttempt
from users.sync.outbound import recovery

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("front_end")]

PATCH = "PATCH /users/{user_id}"


@pytest.fixture
def user(sandbox) -> BuilderUser:
    return linked(sandbox)


@pytest.fixture
def token(sandbox) -> str:
    return token_of(sandbox, administrator(sandbox))


# --- Clerk ---------------------------------------------------------------------------------------


def test_clerk_that_is_down_saves_nothing(sandbox, settings, user, token):
    settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
    response = rename(token, user, lastName="Jones")
    assert response.status_code == 503
    assert response.json()["error"].startswith(
        "Failed to update user: Failed to connect to authentication system. Please try again."
    )
    assert (
        edit(token, user, name="Mary Ann Jones")
        .json()["error"]
        .startswith("Failed to connect to authentication system. Please try again.")
    )
    assert stored(user).name == user.name


def test_a_group_is_saved_while_clerk_is_down(settings, user, token):
    settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
    group = BuilderGroupFactory()
    assert edit(token, user, builderGroupId=str(group.pk)).status_code == 200
    assert stored(user).builder_group == group


def test_a_rate_limit_of_clerk_says_when_to_come_again(sandbox, user, token):
    sandbox.fault(PATCH, "status", status=429, code="too_many_requests", retry_after=7)
    response = rename(token, user, lastName="Jones")
    assert (response.status_code, response["Retry-After"]) == (503, "7")
    assert stored(user).name == user.name


def test_an_unknown_outcome_is_told_as_one_and_settled_later(sandbox, client, user, token):
    sandbox.fault(PATCH, "late", seconds=None, how="status", status=500)
    response = rename(token, user, lastName="Jones")
    assert response.status_code == 504
    assert NOT_CONFIRMED in response.json()["error"]
    assert stored(user).name == user.name

    another = edit(token, user, name="Mary Ann Brown")
    assert another.status_code == 409
    assert "“Edit” by Ann Lee at" in another.json()["error"]
    assert "Ann Lee" in text_of(client.get(page_of(user)))

    sandbox.apply_late()
    time_is_over()
    assert [result.resolved for result in recovery.recover_all()] == [True]
    assert stored(user).name == "Mary Ann Jones"
    assert not SyncAttempt.objects.filter(unseen=True).exists()


def test_a_lost_rename_is_sent_again_with_the_names_as_they_were_given(sandbox, user, token):
    sandbox.fault(PATCH, "status", status=500, times=1)
    assert rename(token, user, firstName="Maria", lastName="de la Cruz").status_code == 504
    time_is_over()
    list(recovery.recover_all())
    account = sandbox.user(user.clerk_id)
    assert (account["first_name"], account["last_name"]) == ("Maria", "de la Cruz")
    assert stored(user).name == "Maria de la Cruz"


def test_metadata_of_unknown_outcome_is_read_back(sandbox, user, token):
    route = "PATCH /users/{user_id}/metadata"
    sandbox.fault(route, "status", status=500, apply=True, times=1)
    assert rename(token, user, publicMetadata={"plan": "pro"}).status_code == 200
    sandbox.fault(route, "status", status=500, times=1)
    response = rename(token, user, publicMetadata={"plan": "max"})
    assert response.status_code == 504
    assert rename(token, user, publicMetadata={"plan": "basic"}).status_code == 409
    assert rename(token, user, publicMetadata={"seats": 3}).status_code == 200
    time_is_over()
    list(recovery.recover_all())
    assert sandbox.user(user.clerk_id)["public_metadata"] == {"plan": "pro", "seats": 3}
    assert not SyncAttempt.objects.pending().exists()


@pytest.mark.parametrize("shown", [None, 12345678901234567000], ids=["as sent", "rounded"])
def test_a_large_number_in_metadata_is_read_back(sandbox, user, token, shown):
    """JavaScript writes 12345678901234567168 with fewer digits; PostgreSQL writes all of them."""
    sandbox.fault("PATCH /users/{user_id}/metadata", "late", how="status", status=500, times=1)
    answer = rename(token, user, publicMetadata={"views": [1.2345678901234567e19], "x": 1e23})
    assert answer.status_code == 504
    sandbox.apply_late()
    if shown:
        sandbox.edit(user.clerk_id, public_metadata={"views": [shown], "x": 1e23})
    time_is_over()
    list(recovery.recover_all())
    assert SyncAttempt.objects.get().status == "applied"


def test_a_name_that_was_changed_in_clerk_meanwhile_is_a_conflict(sandbox, user, token):
    sandbox.edit(user.clerk_id, first_name="Marie")
    ClerkAccount.objects.update(seen_at=timezone.now() - timedelta(hours=1))
    response = rename(token, user, lastName="Jones")
    assert response.status_code == 409
    assert "was changed in Clerk" in response.json()["error"]
    assert sandbox.user(user.clerk_id)["last_name"] == "Smith"


# --- Two at once ---------------------------------------------------------------------------------


def test_of_two_edits_at_once_one_is_told_of_the_other(sandbox, user, token):
    answers = []

    def first() -> None:
        answers.append(edit(token, user, name="Mary Ann Jones"))
        connection.close()

    sandbox.fault(PATCH, "delay", seconds=600)
    saving = threading.Thread(target=first)
    saving.start()
    wait_until(lambda: sandbox.writes(), "the first edit to reach Clerk")
    busy = rename(token, user, lastName="Brown")
    assert busy.status_code == 409
    assert "being saved by someone else right now" in busy.json()["error"]
    sandbox.clear_faults()
    saving.join()
    assert answers[0].status_code == 200
    assert stored(user).name == "Mary Ann Jones"
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"


def test_a_form_that_was_open_meanwhile_is_told_who_changed_the_user(client, user, token):
    opened = form_of(user, name="Mary Ann Brown")
    assert rename(token, user, lastName="Jones").status_code == 200
    response = client.post(page_of(user), opened)
    assert "This user was changed by Ann Lee since you opened the form (name)." in text_of(response)
    assert stored(user).name == "Mary Ann Jones"


def test_history_and_journal_name_the_person(client, user, token):
    edit(token, user, name="Mary Ann Jones")
    entry = LogEntry.objects.get()
    assert entry.user.username == "cascade"
    assert entry.get_change_message() == "Changed Name. By Ann Lee, at the front end."
    history = client.get(f"/admin/users/builderuser/{user.pk}/history/")
    assert "By Ann Lee, at the front end." in text_of(history)
    journal = text_of(client.get("/admin/users/syncattempt/"))
    assert "Ann Lee" in journal
    assert "Front end" in journal
    attempt = SyncAttempt.objects.get()
    page = text_of(client.get(f"/admin/users/syncattempt/{attempt.pk}/change/"))
    assert attempt.actor_clerk_id in page


# --- Floods --------------------------------------------------------------------------------------


def test_a_person_who_asks_too_often_waits(monkeypatch, sandbox, user, token):
    monkeypatch.setattr(endpoint, "PER_PERSON", 2)
    assert [rename(token, user, lastName=name).status_code for name in "ABC"] == [200, 200, 429]
    response = rename(token, user, lastName="D")
    assert 1 <= int(response["Retry-After"]) <= 60
    assert response.json()["error"].startswith("Too many requests. Try again in ")
    assert stored(user).name == "Mary Ann B"
    assert rename(token_of(sandbox, user), user, lastName="E").status_code == 200
    ApiUse.objects.update(since=F("since") - throttle.WINDOW)
    assert rename(token, user, lastName="F").status_code == 200


def test_an_address_that_asks_too_often_waits_before_its_token_is_looked_at(monkeypatch):
    monkeypatch.setattr(endpoint, "PER_ADDRESS", 2)
    assert [ask("POST", "sync-user").status_code for _ in range(3)] == [401, 401, 429]


def test_no_address_is_stored_and_old_counts_are_forgotten():
    ask("POST", "sync-user")
    assert not ApiUse.objects.filter(key__contains="127.0.0.1").exists()
    throttle.forget_old()
    assert ApiUse.objects.count() == 1
    ApiUse.objects.update(since=F("since") - throttle.WINDOW - timedelta(seconds=1))
    throttle.forget_old()
    assert not ApiUse.objects.exists()


# --- Pages of other origins ----------------------------------------------------------------------


def preflight(origin: str, path: str = "/api/users/x"):
    return Client().options(
        path,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, content-type",
        },
    )


def test_the_front_end_may_ask_from_its_origin():
    response = preflight(ORIGIN)
    assert response.status_code == 200
    assert response["Access-Control-Allow-Origin"] == ORIGIN
    assert "PATCH" in response["Access-Control-Allow-Methods"]
    assert "authorization" in response["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in response
    refused = ask("POST", "sync-user", Origin=ORIGIN)
    assert refused["Access-Control-Allow-Origin"] == ORIGIN, "an error can be read, too"


@pytest.mark.parametrize("origin", ["https://evil.example.com", f"{ORIGIN}.evil.example", "null"])
def test_no_other_origin_may_ask(origin):
    assert "Access-Control-Allow-Origin" not in preflight(origin)


def test_no_other_page_is_opened_to_the_front_end():
    for path in ("/admin/", "/webhooks/clerk/", "/readyz/"):
        assert "Access-Control-Allow-Origin" not in preflight(ORIGIN, path)


# --- Nonsense ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status", "told"),
    [
        ({"raw": b"{"}, 400, "The body is not valid JSON."),
        ({"raw": b"\xff\xfe"}, 400, "The body is not valid JSON."),
        ({"raw": b'{"clerkId": "\\ud800"}'}, 400, "The body is not valid JSON."),
        ({"raw": b'{"clerkId": NaN}'}, 400, "The body is not valid JSON."),
        ({"raw": b'{"clerkId": 1e999}'}, 400, "The body is not valid JSON."),
        ({"raw": b"[" * 100_000}, 413, "The body is larger than 64 KiB."),
        ({"raw": b"[" * 60_000}, 400, "The body is not valid JSON."),
        ({"raw": b"[1]"}, 400, "The body must be a JSON object."),
        ({"raw": b"7"}, 400, "The body must be a JSON object."),
        ({"raw": b'{"clerkId": "user_\\u0000"}'}, 400, "The body must not hold NUL characters."),
        ({"raw": b'{"\\u0000": {"a": 1}}'}, 400, "The body must not hold NUL characters."),
        ({"raw": b'{"a":' * 300 + b"1" + b"}" * 300}, 400, "The body is nested too deeply."),
        ({"body": {}, "content_type": "text/plain"}, 415, "Send the body as application/json."),
        ({"body": {}, "content_type": ""}, 415, "Send the body as application/json."),
        ({"raw": b"a=b", "content_type": "application/x-www-form-urlencoded"}, 415,
         "Send the body as application/json."),
        ({"raw": b"x" * 3 * 2**20, "content_type": "multipart/form-data; boundary=x"}, 413,
         "The request is larger than 1 MiB. Nothing was saved."),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("method", "path"), [("POST", "update-clerk-user"), ("PATCH", "users/x")])
def test_a_body_of_nonsense_is_a_clear_error(token, method, path, sent, status, told):
    response = ask(method, path, token=token, **sent)
    assert (response.status_code, response.json()["error"]) == (status, told)
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["", "users", "users/x/y", "update-clerk-user/", "é"])
def test_an_unknown_endpoint_is_a_clear_error(token, path):
    response = ask("POST", path, {}, token=token)
    assert response.status_code == 404
    assert response.json() == {"error": "There is no such endpoint."}


def test_json_with_a_charset_is_json(user, token):
    response = ask("PATCH", f"users/{user.pk}", {"name": "Mary Ann Jones"}, token=token,
                   content_type="application/json; charset=utf-8")  # fmt: skip
    assert response.status_code == 200


def test_a_database_that_does_not_answer_is_a_clear_error(monkeypatch, token):
    def fail(who: str, *, limit: int) -> int:
        raise OperationalError("no answer")

    monkeypatch.setattr(throttle, "seconds_to_wait", fail)
    response = ask("POST", "sync-user", token=token)
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    assert response.json()["success"] is False


def test_no_answer_says_whether_somebody_exists(sandbox, user):
    """To whom it is not open, every account and every row looks alike."""
    builder = token_of(sandbox, linked(sandbox))
    known, unknown = user.clerk_id, "user_nobody"
    answers = {rename(builder, one, firstName="Eve").content for one in (known, unknown)}
    answers |= {
        edit(builder, one, name="Eve").content for one in (user, BuilderUserFactory.build())
    }
    assert len({answer.partition(b'"error"')[2] for answer in answers}) == 1
