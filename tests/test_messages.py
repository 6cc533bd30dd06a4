"""What staff read when Clerk did not make a change: what it means, and what to do next."""

from __future__ import annotations

import ast
import html
import http.client
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from sandbox import Sandbox
from tests.support.bulk_pages import plan
from tests.support.change_form import (
    assert_unchanged,
    in_clerk,
    page_of,
    said,
    stored,
    submit,
    text_of,
)
from tests.support.factories import BuilderUserFactory, StaffFactory, change_here, linked
from users.models import BuilderUser, ClerkAccount, Invitation, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)

ADD = "/admin/users/builderuser/add/"
HTML = b"<html><h1>Forbidden</h1></html>"
FAILED = "Failed to sync with Clerk authentication system."


def page(user, name):
    return reverse(f"admin:users_builderuser_{name}", args=[user.pk])


def refuse(sandbox, route="PATCH /users/{user_id}", **fault):
    """Clerk answers the next request of this route with one of its own refusals."""
    sandbox.fault(route, "status", **{"status": 422, **fault})


def name_errors(response):
    return response.context["adminform"].form.errors["name"]


# --- Something in between answers -----------------------------------------------------------------


@contextmanager
def in_between(
    sandbox: Sandbox, status: int, body: bytes, *, apply: bool, **headers: str
) -> Iterator[str]:
    """A proxy that answers each write itself; with `apply` it passes the write on before that."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*self._passed_on())

        def do_PATCH(self) -> None:
            if apply:
                self._passed_on()
            self._answer(status, body, headers)

        def _passed_on(self) -> tuple[int, bytes, dict[str, str]]:
            connection = http.client.HTTPConnection(urlsplit(sandbox.url).netloc, timeout=20)
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            wanted = ("Authorization", "Content-Type", "Clerk-API-Version")
            passed = {key: self.headers[key] for key in wanted if key in self.headers}
            connection.request(self.command, self.path, sent, passed)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            return answer.status, content, {"Content-Type": "application/json"}

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{urlsplit(sandbox.url).path}"
    finally:
        server.shutdown()
        server.server_close()


BODIES = {"html": HTML, "empty": b"", "no errors": b'{"message": "Forbidden"}', "list": b"[]"}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 422, 429])
class TestA4xxThatIsNotClerks:
    @pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
    def test_a_change_that_was_applied_before_it_is_saved(
        self, client, sandbox, settings, status, body
    ):
        user = linked(sandbox)
        with in_between(sandbox, status, body, apply=True) as settings.CLERK_API_URL:
            response = submit(client, user, name="Mary Ann Jones")
        assert response.status_code == 302
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert len(sandbox.writes()) == 1
        assert SyncAttempt.objects.get().status == "applied"

    def test_a_change_that_did_not_arrive_is_not_called_refused(
        self, client, sandbox, settings, status
    ):
        user = linked(sandbox)
        with in_between(sandbox, status, HTML, apply=False) as settings.CLERK_API_URL:
            response = submit(client, user, name="Mary Ann Jones")
        assert f"Something other than Clerk answered ({status})" in text_of(response)
        assert "Invalid update data" not in text_of(response)
        assert "Clerk refused" not in text_of(response)
        assert SyncAttempt.objects.get().status != "refused"
        assert_unchanged(sandbox, user)


# --- Refusals that no typing mends ----------------------------------------------------------------

MEANINGS = {
    "resource_locked": (409, "Clerk is busy with another change of this user. Save again in a"),
    "conflict": (409, "Clerk is busy with another change of this user. Save again in a moment."),
    "clerk_key_invalid": (401, "Ask an engineer to check CLERK_SECRET_KEY."),
    "a_new_code_of_401": (401, "Clerk does not accept this application's key."),
    "a_new_code_of_402": (402, "The plan of this Clerk instance does not include this."),
    "authorization_invalid": (403, "key is not allowed to do this in Clerk. Ask an engineer"),
    "feature_not_enabled": (403, "An engineer can switch it on in Clerk's dashboard."),
    "user_quota_exceeded": (403, "has as many users as its plan allows. Ask an engineer"),
    "not_allowed_access": (403, "does not admit the email address"),
    "a_new_code_of_403": (403, "Clerk does not allow this: Said by Clerk. Ask an engineer"),
    "user_managed_by_scim": (409, "Ask the administrator of that directory"),
    "request_body_too_large": (413, "too large for Clerk. Shorten the text and save again."),
    "a_new_code_of_413": (413, "too large for Clerk. Shorten the text and save again."),
}


@pytest.mark.parametrize(
    ("code", "status", "words"), [(code, *rest) for code, rest in MEANINGS.items()], ids=MEANINGS
)
def test_a_refusal_says_what_it_means_and_who_mends_it(client, sandbox, code, status, words):
    user = linked(sandbox)
    refuse(sandbox, status=status, code=code, message="Said by Clerk")
    response = text_of(submit(client, user, name="Mary Ann Jones"))
    assert FAILED in response
    assert "Nothing was saved." in response
    assert words in response
    assert "Invalid update data" not in response
    assert "orrect" not in response.replace("Please correct the error below.", "")
    assert SyncAttempt.objects.get().status == "refused"
    assert_unchanged(sandbox, user)


def test_a_user_who_is_not_found_is_not_to_be_deleted(client, sandbox):
    user = linked(sandbox)
    refuse(sandbox, status=404, code="resource_not_found", message="not found")
    assert (
        "User not found in Clerk. They may have been deleted. Nothing was saved. Ask an engineer "
        "whether this application uses the right Clerk instance before you disconnect or delete "
        "this user."
    ) in text_of(submit(client, user, name="Mary Ann Jones"))
    assert_unchanged(sandbox, user)


@pytest.mark.parametrize("key", ["pk_test_public", "sk_test_a b"])
def test_a_key_that_is_not_valid(client, sandbox, settings, key):
    user = linked(sandbox)
    settings.CLERK_SECRET_KEY = key
    response = text_of(submit(client, user, name="Mary Ann Jones"))
    assert (
        "Clerk authentication not configured: CLERK_SECRET_KEY is not a valid Clerk secret key "
        "(sk_test_… or sk_live_…)."
    ) in response
    assert key not in response
    assert_unchanged(sandbox, user)


FAR = "Clerk asks to wait more than an hour. Save again later."
WAITS = {
    "0": "Save again in 1 second.",
    "7": "Save again in 7 seconds.",
    "90": "Save again in 90 seconds.",
    "91": "Save again in 2 minutes.",
    "3600": "Save again in 60 minutes.",
    "3601": FAR,
    "2300500149": FAR,
    "9" * 400: FAR,
    "Fri, 31 Dec 9999 23:59:59 GMT": FAR,
    "Wed, 99999999999999999999 Oct 2015 07:28:00 GMT": "Save again in 1 second.",
    "-5": "Save again in 1 second.",
    "soon": "Save again in 1 second.",
}


@pytest.mark.parametrize(("header", "words"), WAITS.items(), ids=[key[:40] for key in WAITS])
def test_how_long_clerk_asks_to_wait(client, sandbox, settings, header, words):
    user = linked(sandbox)
    body = b'{"errors": [{"code": "too_many_requests", "message": "Too many requests"}]}'
    kind, refused = "application/json", {"Retry_After": header}
    proxy = in_between(sandbox, 429, body, apply=False, Content_Type=kind, **refused)
    with proxy as settings.CLERK_API_URL:
        response = submit(client, user, name="Mary Ann Jones")
    assert words in text_of(response)
    assert "2300500149" not in text_of(response)
    assert SyncAttempt.objects.get().status == "refused"
    assert_unchanged(sandbox, user)


# --- In the words of the form ---------------------------------------------------------------------

NAMES_OFF = (
    "Invalid update data: Names are switched off in this Clerk instance. An engineer can switch "
    "them on in Clerk's dashboard."
)
BOTH_NAMES = (
    "Invalid update data: Clerk wants a first and a last name. Type both, with a space between "
    "them."
)
UNKNOWN = "first_name is not a valid parameter for this request."


class TestNames:
    @pytest.mark.parametrize("param", ["first_name", ""])
    def test_names_that_are_switched_off_in_clerk(self, client, sandbox, param):
        user = linked(sandbox)
        refuse(sandbox, code="form_param_unknown", message=UNKNOWN, param=param)
        response = submit(client, user, name="Mary Ann Jones")
        assert name_errors(response) == [NAMES_OFF]
        assert "first_name" not in text_of(response)
        assert "Correct the data" not in text_of(response), "no typing mends it"
        assert 'value="Mary Ann Jones"' in text_of(response)
        assert_unchanged(sandbox, user)

    def test_both_names_refused_alike_are_told_once(self, client, sandbox):
        user = linked(sandbox)
        names = ("first_name", "last_name")
        entries = [{"code": "form_param_unknown", "message": UNKNOWN, "meta": {"param_name": name}}
                   for name in names]  # fmt: skip
        refuse(sandbox, errors=entries)
        assert name_errors(submit(client, user, name="Mary Ann Jones")) == [NAMES_OFF]
        assert_unchanged(sandbox, user)

    @pytest.mark.parametrize("code", ["form_param_nil", "form_param_missing", "form_data_missing"])
    @pytest.mark.parametrize("param", ["last_name", ""])
    def test_one_word_where_clerk_wants_two_names(self, client, sandbox, code, param):
        user = linked(sandbox)
        refuse(sandbox, code=code, message="last_name is required", param=param)
        response = submit(client, user, name="Mary")
        assert name_errors(response) == [BOTH_NAMES]
        assert "last_name" not in text_of(response)
        assert "Correct the data and save again." in text_of(response)
        assert_unchanged(sandbox, user)

    def test_a_new_user_with_one_name(self, client, sandbox):
        refuse(sandbox, "POST /users", code="form_param_nil", message="last_name is required")
        response = client.post(
            ADD, {"name": "Ann", "email": "a@example.com", "role": "BUILDER", "account": "create"}
        )
        assert name_errors(response) == [BOTH_NAMES]
        assert not BuilderUser.objects.exists()
        assert sandbox.find("a@example.com") == []

    @pytest.mark.parametrize("param", ["first_name", ""])
    def test_other_texts_of_clerk_name_our_field(self, client, sandbox, param):
        user = linked(sandbox)
        text = "first_name must not be longer than 256 characters"
        refuse(sandbox, code="form_param_max_length_exceeded", message=text, param=param)
        response = submit(client, user, name="Mary Ann Jones")
        assert name_errors(response) == [
            "Invalid update data: Name must not be longer than 256 characters."
        ]
        assert_unchanged(sandbox, user)

    def test_a_button_that_copies_the_name(self, client, sandbox):
        user = linked(sandbox)
        change_here(user, name="Mary")
        refuse(sandbox, code="form_param_unknown", message=UNKNOWN)
        [message] = said(
            client.post(reverse("admin:users_builderuser_push", args=[user.pk, "name"]))
        )
        assert NAMES_OFF in html.unescape(message)
        assert "first_name" not in message
        assert stored(user).name == "Mary"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Smith")


def test_a_new_email_that_clerk_finds_invalid(client, sandbox):
    user = linked(sandbox, email="old@example.com")
    text = "email_address must be a valid email address."
    refuse(sandbox, "PUT /users/{user_id}/email_address", code="form_param_format_invalid",
           message=text)  # fmt: skip
    response = client.post(page(user, "email"), {"email": "new@example.com", "how": "replace"})
    assert response.context["form"].errors["email"] == [
        "Invalid update data: Email must be a valid email address."
    ]
    assert stored(user).email == "old@example.com"
    assert sandbox.find("old@example.com")


# --- An address that somebody has -----------------------------------------------------------------

TAKEN = "That email address is taken. Please try another."
WANTED = "wanted@example.com"
FREE = "This address belongs to an account in Clerk that no user here is connected to."
NOT_SEEN = "An account in Clerk has this address. No user here is known to use that account."


def free_account(sandbox, *, seen: bool, **known):
    """An account in Clerk with the wanted address; with `seen`, we have a copy of it."""
    account = sandbox.add_user(email=WANTED)
    sandbox.clear_requests()
    if seen:
        ClerkAccount.objects.create(
            clerk_id=account["id"], email=WANTED, seen_at=timezone.now(), **known
        )
    return account


def create(client, account):
    fields = {"name": "Ann Lee", "email": WANTED, "role": "BUILDER", "account": account}
    return client.post(ADD, fields)


def change_email(client, user, how):
    return client.post(page(user, "email"), {"email": WANTED, "how": how})


def moved_in_clerk(sandbox):
    """A user whose account has the wanted address in Clerk, while the row has another one."""
    other = linked(sandbox, name="Bob Brown", email=WANTED)
    change_here(other, email="bob@example.com")
    return other


class TestAnAddressThatIsTaken:
    @pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen"])
    def test_by_a_free_account_that_the_user_can_be_linked_to(self, client, sandbox, seen):
        free_account(sandbox, seen=seen)
        user = BuilderUserFactory(email=WANTED)
        response = client.post(page(user, "invite"))
        assert TAKEN in text_of(response)
        assert (FREE if seen else NOT_SEEN) in text_of(response)
        assert "Link this user to that account instead." in text_of(response)
        link = f"{page(user, 'link')}?q=wanted%40example.com"
        assert f'<a href="{link}">Link to that account</a>' in text_of(response)
        assert "user_" in text_of(client.get(link)), "the page finds it"
        assert not stored(user).linked
        assert sandbox.invitations() == []
        assert not Invitation.objects.exists()
        assert FREE.split(".")[0] in SyncAttempt.objects.get().message or not seen

    def test_the_link_needs_its_permission(self, sandbox):
        free_account(sandbox, seen=True)
        user = BuilderUserFactory(email=WANTED)
        staff = StaffFactory(is_superuser=False)
        staff.user_permissions.set(
            Permission.objects.filter(codename__in=["view_builderuser", "invite"])
        )
        client = Client()
        client.force_login(staff)
        response = client.post(page(user, "invite"))
        assert FREE in text_of(response)
        assert "Link to that account" not in text_of(response)

    @pytest.mark.parametrize("account", ["create", "invite"])
    def test_by_a_free_account_when_a_user_is_added(self, client, sandbox, account):
        free_account(sandbox, seen=True)
        response = create(client, account)
        assert response.context["adminform"].form.errors["email"] == [
            f"Invalid update data: {TAKEN}",
            f"{FREE} To use that account, choose “No sign-in yet”, save, and link the account on "
            "the user's page.",
        ]
        assert not BuilderUser.objects.exists()
        assert len(sandbox.find(WANTED)) == 1
        # What the words advise works.
        assert create(client, "none").status_code == 302
        assert BuilderUser.objects.get().email == WANTED

    @pytest.mark.parametrize("how", ["replace", "invite"])
    def test_by_a_free_account_when_a_linked_user_is_to_get_it(self, client, sandbox, how):
        free_account(sandbox, seen=True)
        user = linked(sandbox, email="old@example.com")
        response = change_email(client, user, how)
        assert f"{FREE} Ask an engineer whether that account is still needed." in text_of(response)
        assert "Link to that account" not in text_of(response)
        assert stored(user).email == "old@example.com"
        assert len(sandbox.find("old@example.com")) == 1

    @pytest.mark.parametrize("how", ["replace", "invite"])
    def test_by_a_user_whose_account_has_it(self, client, sandbox, how):
        other, user = moved_in_clerk(sandbox), linked(sandbox, email="old@example.com")
        response = change_email(client, user, how)
        link = f'<a href="{page_of(other)}">Open Bob Brown</a>'
        assert response.context["form"].errors["email"] == [
            f"Invalid update data: {TAKEN}", "Bob Brown has this address.", link,
        ]  # fmt: skip
        assert link in text_of(response)
        assert stored(user).email == "old@example.com"
        assert sandbox.find(WANTED)[0]["id"] == other.clerk_id

    @pytest.mark.parametrize("account", ["create", "invite"])
    def test_by_a_user_whose_account_has_it_when_another_is_added(self, client, sandbox, account):
        other = moved_in_clerk(sandbox)
        response = text_of(create(client, account))
        assert "Bob Brown has this address." in response
        assert f'<a href="{page_of(other)}">Open Bob Brown</a>' in response
        assert list(BuilderUser.objects.all()) == [other]

    def test_by_a_user_whose_account_has_it_when_the_email_is_copied(self, client, sandbox):
        other, user = moved_in_clerk(sandbox), linked(sandbox, email="old@example.com")
        change_here(user, email=WANTED)
        push = reverse("admin:users_builderuser_push", args=[user.pk, "email"])
        response = client.post(push, follow=True)
        assert f'Bob Brown has this address. <a href="{page_of(other)}">' in text_of(response)
        assert stored(user).email == WANTED
        assert len(sandbox.find("old@example.com")) == 1

    def test_by_another_builder_user(self, client, sandbox):
        """The table refuses it before Clerk is asked; the holder is named all the same."""
        other = BuilderUserFactory(name="Bob Brown", email="Wanted@Example.com")
        user, free = linked(sandbox, email="old@example.com"), BuilderUserFactory()
        for response in (
            create(client, "create"),
            create(client, "invite"),
            create(client, "none"),
            submit(client, free, email=WANTED),
            change_email(client, user, "replace"),
            change_email(client, user, "invite"),
        ):
            assert "Another builder user has this email." in text_of(response)
            assert "Bob Brown has this address." in text_of(response)
            assert f'<a href="{page_of(other)}">Open Bob Brown</a>' in text_of(response)
        assert sandbox.writes() == []
        assert set(BuilderUser.objects.all()) == {other, user, free}
        assert stored(user).email == "old@example.com"

    def test_whose_page_this_person_may_not_open(self, sandbox):
        BuilderUserFactory(name="Bob Brown", email=WANTED)
        staff = StaffFactory(is_superuser=False)
        staff.user_permissions.set(Permission.objects.filter(codename="add_builderuser"))
        client = Client()
        client.force_login(staff)
        response = create(client, "none")
        assert "Bob Brown has this address." in text_of(response)
        assert "<a href" not in str(response.context["adminform"].form.errors["email"])

    def test_by_accounts_that_no_longer_count(self, client, sandbox):
        """A deleted account has no address any more; the user's own one is nobody else."""
        free_account(sandbox, seen=True, deleted_at=timezone.now())
        user = BuilderUserFactory(email=WANTED)
        assert NOT_SEEN in text_of(client.post(page(user, "invite")))

    def test_a_name_is_shown_as_text(self, client, sandbox):
        BuilderUserFactory(name="<b>Bob</b>", email=WANTED)
        content = create(client, "none").content.decode()
        assert "&lt;b&gt;Bob&lt;/b&gt; has this address." in content
        assert "<b>Bob" not in content


def test_nothing_is_logged_for_a_refusal(client, sandbox):
    free_account(sandbox, seen=True)
    create(client, "create")
    assert not LogEntry.objects.exists()


# --- What only engineers understand --------------------------------------------------------------

ENGINEERS_ALONE = {"accounts.py", "exports.py", "files.py", "limits.py", "plan_file.py", "run.py"}
"""Modules of bulk work whose texts with options appear on the command line alone."""
OPTION = re.compile(r"(?<![\w-])--[a-z]|\bclerk_(push|pull|link|import|action|diff|check)\b")


def texts_of(module: Path) -> set[str]:
    tree = ast.parse(module.read_text())
    docstrings = {
        id(node.value) for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }  # fmt: skip
    return {
        node.value for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and id(node) not in docstrings and " " in node.value
    }  # fmt: skip


def test_texts_of_bulk_work_that_pages_show_name_no_option_of_the_command_line():
    folder = Path(settings.BASE_DIR, "users", "sync", "bulk")
    modules = [one for one in folder.rglob("*.py") if one.name not in ENGINEERS_ALONE]
    assert len(modules) > 20
    assert {text for one in modules for text in texts_of(one) if OPTION.search(text)} == set()


def test_a_plan_of_the_pages_says_who_is_left_out_in_plain_words(client, sandbox):
    unseen, known = linked(sandbox, name="Uma Unseen"), linked(sandbox, name="Cleo Clerk")
    ClerkAccount.objects.filter(pk=unseen.clerk_id).delete()
    change_here(known, clerk_id=None)
    ClerkAccount.objects.filter(pk=known.clerk_id).update(user=None)
    seen = [linked(sandbox), BuilderUserFactory()]
    banned = text_of(client.get(plan(client, [unseen, seen[0]], action="ban")))
    assert "Left out: 1 user whose account was not seen yet: Uma Unseen" in banned
    invited = text_of(client.get(plan(client, [known, seen[1]], action="invite")))
    assert "1 user whose email has an account in Clerk already: Cleo Clerk" in invited
    change_here(seen[0], name="Bob Brown")
    copied = text_of(client.get(plan(client, [unseen, seen[0]], action="copy_to")))
    assert "Left out: 1 whose account was not seen yet." in copied
    for page in (banned, invited, copied):
        assert "--no-refresh" not in page
        assert "clerk_link" not in page
