"""Sign-in through the company's OpenID provider, against a real one over loopback sockets."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.test import Client

from staff import provider
from staff.models import Outcome, ProviderAccount, SignInEvent, Step
from staff.sessions import SEEN_AT
from tests.support.factories import StaffFactory
from tests.support.interruptions import in_thread
from tests.support.oidc_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    DID_NOT_WORK,
    START,
    Provider,
    new_key,
    sign_in,
)
from tests.support.patience import PATIENCE, wait_until
from tests.support.production import PRODUCTION, check, manage
from tests.support.sign_in import browser, is_signed_in, text_of

pytestmark = pytest.mark.django_db(transaction=True)

CALLBACK = "/oidc/callback/"


@pytest.fixture
def sam(db):
    return StaffFactory(username="sam", email="Sam@Example.com", is_superuser=False)


def assert_refused(company: Provider, words: str = DID_NOT_WORK) -> str:
    """No session, no new user, the words on the page; give the reason in the journal."""
    people = User.objects.count()
    client, page = sign_in(company)
    assert words in text_of(page).replace("&#x27;", "'")
    assert not is_signed_in(client)
    assert User.objects.count() == people
    event = SignInEvent.objects.filter(step=Step.PROVIDER).first()
    assert event.outcome == Outcome.REFUSED
    return event.reason


def test_the_login_leads_to_the_provider_if_one_is_set(company, settings):
    page = text_of(Client().get("/admin/login/?next=/admin/users/"))
    assert "Sign in with Example &amp; Sons" in page
    assert f'href="{START}?next=%2Fadmin%2Fusers%2F"' in page
    settings.OIDC_ISSUER = ""
    assert "Sign in with" not in text_of(Client().get("/admin/login/"))
    assert Client().get(START).status_code == 404
    assert Client().get(CALLBACK).status_code == 404


def test_the_first_sign_in_binds_and_the_page_that_was_asked_for_opens(company, sam):
    client, page = sign_in(company, next="/admin/password_change/done/")
    assert page.redirect_chain[0][0] == "/admin/password_change/done/"
    assert is_signed_in(client)
    account = ProviderAccount.objects.get()
    assert (account.user, account.issuer, account.subject) == (sam, company.issuer, "sub-of-sam")
    event = SignInEvent.objects.get()
    assert (event.step, event.outcome, event.user) == (Step.PROVIDER, Outcome.SIGNED_IN, sam)
    assert event.account == "sam"


def test_no_sign_in_leads_to_a_foreign_site(company, sam):
    _, page = sign_in(company, next="https://evil.example.com/")
    assert page.redirect_chain[0][0] == "/admin/"


def test_a_bound_account_signs_in_whatever_became_of_its_email(company, sam):
    sign_in(company)
    other = StaffFactory(username="other", email="other@example.com")
    for email, verified in (("other@example.com", True), ("sam@foreign.example", False)):
        company.person |= {"email": email, "email_verified": verified}
        client, _ = sign_in(company)
        assert int(client.session["_auth_user_id"]) == sam.pk != other.pk
    assert ProviderAccount.objects.count() == 1


def test_an_email_that_somebody_else_has_now_gives_nothing_of_its_former_owner(company, sam):
    sign_in(company)
    company.person["sub"] = "sub-of-a-newcomer"
    reason = assert_refused(company, "Another company account is bound to your user here.")
    assert reason.startswith("Another company account")
    assert ProviderAccount.objects.get().subject == "sub-of-sam"


def test_the_same_subject_of_another_issuer_is_another_account(company, sam):
    ProviderAccount.objects.create(
        user=StaffFactory(username="other"), issuer="https://old.example.com", subject="sub-of-sam",
        email="other@example.com",
    )  # fmt: skip
    client, _ = sign_in(company)
    assert int(client.session["_auth_user_id"]) == sam.pk


@pytest.mark.parametrize("verified", [False, None, "true", 1])
def test_an_email_that_is_not_verified_binds_nobody(company, sam, verified):
    company.person["email_verified"] = verified
    assert_refused(company, "The provider has not verified your email address.")
    assert not ProviderAccount.objects.exists()


@pytest.mark.parametrize(
    "email", ["sam@foreign.example", "sam@sub.example.com", "sam@example.com.evil.test", "sam@"]
)
def test_a_foreign_domain_binds_nobody(company, sam, email):
    User.objects.update(email=email)
    company.person["email"] = email
    assert_refused(company, "Your email address is not of an allowed domain.")


def test_a_letter_whose_lower_case_is_another_letter_binds_nobody(company, sam):
    User.objects.update(email="kate@example.com")
    company.person["email"] = "\N{KELVIN SIGN}ate@example.com"
    assert_refused(company, "Your email address is not of an allowed domain.")
    assert not ProviderAccount.objects.exists()


@pytest.mark.parametrize("email", ["nobody@example.com", "ſam@example.com"])
def test_no_user_is_created(company, sam, email):
    company.person["email"] = email
    assert_refused(company, "")


def test_an_email_of_two_users_binds_neither(company, sam):
    StaffFactory(username="twin", email="sam@example.com")
    assert_refused(company, "No staff user here has your email address.")


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}])
@pytest.mark.parametrize("bound", [False, True])
def test_who_is_switched_off_is_refused(company, sam, change, bound):
    if bound:
        sign_in(company)
    User.objects.update(**change)
    assert_refused(company, "Your user here is switched off." if bound else "No staff user here")


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example.com"},
        {"aud": "another-client"},
        {"aud": ["another-client", "a-third"]},
        {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
        {"exp": 1},
        {"nonce": "of another sign-in"},
        {"iat": int(time.time()) + 86_400},
    ],
)
def test_an_id_token_that_is_not_for_this_sign_in_is_refused(company, sam, claims):
    company.claims = claims
    assert_refused(company)


@pytest.mark.parametrize("claim", ["iss", "aud", "sub", "exp", "nonce"])
def test_an_id_token_without_a_claim_is_refused(company, sam, claim):
    company.without = {claim}
    assert_refused(company)


def test_an_id_token_that_another_key_signed_is_refused(company, sam):
    company.key = new_key()
    assert_refused(company)


@pytest.mark.parametrize(
    ("algorithm", "key"), [("none", None), ("HS256", CLIENT_SECRET + "0" * 16)]
)
def test_an_id_token_without_an_asymmetric_signature_is_refused(company, sam, algorithm, key):
    company.algorithm, company.key = algorithm, key
    assert_refused(company)


def test_a_new_key_of_the_provider_is_fetched(company, sam):
    sign_in(company)
    company.kid = "second"
    client, _ = sign_in(company)
    assert is_signed_in(client)


def test_a_key_that_was_replaced_under_its_name_is_fetched_after_a_failure(company, sam):
    sign_in(company)
    company.published = company.key = new_key()
    assert_refused(company)
    client, _ = sign_in(company)
    assert is_signed_in(client)


def test_a_provider_that_calls_itself_something_else_is_refused(company, sam):
    company.named_issuer = "https://evil.example.com"
    page = browser().get(START, follow=True)
    assert "The company's sign-in does not answer." in text_of(page).replace("&#x27;", "'")


def test_a_provider_that_is_down_leaves_the_password(company, sam):
    company.down = True
    page = browser().get(START, follow=True)
    assert "The company's sign-in does not answer." in text_of(page).replace("&#x27;", "'")
    company.down = False
    client = browser()
    back = urlsplit(company.sign_in(client.get(START)["Location"]))
    company.down = True
    page = client.get(f"{back.path}?{back.query}", follow=True)
    assert DID_NOT_WORK in text_of(page).replace("&#x27;", "'")
    assert not is_signed_in(client)


def test_a_provider_that_hangs_holds_few_threads(company, monkeypatch):
    """Anybody may start a sign-in, and who is signed in needs the other threads."""
    monkeypatch.setattr(provider, "TIMEOUT", PATIENCE)
    company.answers.clear()
    with ThreadPoolExecutor(provider.MOST_WAITING) as pool:
        started = [pool.submit(in_thread, _start) for _ in range(provider.MOST_WAITING)]
        wait_until(lambda: len(company.requests) == len(started), "a sign-in did not start")
        page = browser().get(START, follow=True)
        assert "The company's sign-in does not answer." in text_of(page).replace("&#x27;", "'")
        company.answers.set()
        for one in started:
            one.result()
    assert browser().get(START).url.startswith(company.issuer)


def _start() -> None:
    assert browser().get(START).status_code == 302


def test_an_email_that_only_the_userinfo_has_is_read_there(company, sam):
    del company.person["email"], company.person["email_verified"]
    company.userinfo = {"sub": "sub-of-sam", "email": "sam@example.com", "email_verified": True}
    client, _ = sign_in(company)
    assert is_signed_in(client)


def test_the_userinfo_of_somebody_else_is_refused(company, sam):
    del company.person["email"]
    company.userinfo = {"sub": "another", "email": "sam@example.com", "email_verified": True}
    assert_refused(company)


def test_an_answer_that_this_browser_did_not_ask_for_is_refused(company, sam):
    theirs = browser()
    back = urlsplit(company.sign_in(theirs.get(START)["Location"]))
    victim = browser()
    victim.get(START)
    for client in (victim, browser()):
        page = client.get(f"{back.path}?{back.query}", follow=True)
        assert DID_NOT_WORK in text_of(page).replace("&#x27;", "'")
        assert not is_signed_in(client)
    assert "POST /token" not in company.requests
    assert not SignInEvent.objects.exists()  # a foreign page uses up nobody's attempts


def test_an_answer_is_used_once(company, sam):
    client = browser()
    back = urlsplit(company.sign_in(client.get(START)["Location"]))
    client.get(f"{back.path}?{back.query}")
    client.post("/admin/logout/")
    client.get(f"{back.path}?{back.query}")
    assert not is_signed_in(client)


def test_a_session_that_has_ended_is_not_opened_again(company, sam):
    """Whoever knew the key of the old session must not be signed in by the new one."""
    client, _ = sign_in(company)
    known = client.cookies["sessionid"].value
    session = SessionStore(known)
    session[SEEN_AT] = time.time() - 9 * 3600
    session.save()
    sign_in(company, client)
    assert is_signed_in(client)
    assert client.cookies["sessionid"].value != known
    assert not SessionStore().exists(known)


def test_starting_leaves_no_row(company, db):
    from django.contrib.sessions.models import Session

    for _ in range(3):
        browser().get(START)
    assert not Session.objects.exists()
    assert not SignInEvent.objects.exists()


def test_refused_sign_ins_of_an_address_are_limited(company, sam):
    company.claims = {"aud": "another-client"}
    for _ in range(21):
        _, page = sign_in(company)
    assert "Too many attempts for this network address." in text_of(page)


def test_the_second_step_is_the_provider_s_own(company, sam, settings):
    settings.STAFF_MFA = "required"
    client, _ = sign_in(company)
    assert is_signed_in(client)


def test_groups_come_from_a_provider_on_the_list_alone(company, sam, settings):
    viewer, editor = Group.objects.create(name="Viewer 2"), Group.objects.create(name="Editor 2")
    sam.groups.set([editor])
    settings.OIDC_GROUPS_CLAIM = "groups"
    company.person["groups"] = ["Viewer 2", "no group of ours"]
    sign_in(company)
    assert set(sam.groups.all()) == {editor}
    settings.OIDC_GROUPS_ISSUERS = [company.issuer]
    sign_in(company)
    assert set(sam.groups.all()) == {viewer}
    assert LogEntry.objects.get().get_change_message() == (
        "Groups set by the company's provider: Viewer 2."
    )
    del company.person["groups"]
    company.userinfo = {"groups": ["Editor 2", "Viewer 2"]}
    sign_in(company)
    assert set(sam.groups.all()) == {editor, viewer}
    company.userinfo = {}
    sign_in(company)
    assert set(sam.groups.all()) == set()
    assert not Group.objects.filter(name="no group of ours").exists()
    sam.refresh_from_db()
    assert (sam.is_superuser, sam.is_staff) == (False, True)


def test_a_superuser_removes_a_binding(company, sam, client):
    sign_in(company)
    account = ProviderAccount.objects.get()
    assert client.get("/admin/staff/provideraccount/").status_code == 200
    client.post(f"/admin/staff/provideraccount/{account.pk}/delete/", {"post": "yes"})
    assert not ProviderAccount.objects.exists()


def test_the_check_warns_when_nobody_could_sign_in_without_the_provider(company, sam, capsys):
    call_command("check", databases=["default"])
    assert "Nobody can sign in while the provider" in capsys.readouterr().err
    admin = StaffFactory(username="admin")
    admin.set_password("a password for that day")
    admin.save()
    call_command("check", databases=["default"])
    assert "Nobody can sign in" not in capsys.readouterr().err


SETTINGS = {
    "OIDC_ISSUER": "https://login.example.com",
    "OIDC_CLIENT_ID": "cascade",
    "OIDC_CLIENT_SECRET": "secret",
    "OIDC_EMAIL_DOMAINS": "example.com",
}


def test_the_settings_of_a_provider_are_checked():
    assert check(**PRODUCTION, **SETTINGS).returncode == 0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"OIDC_CLIENT_ID": ""}, "Set OIDC_CLIENT_ID in the environment, since OIDC_ISSUER is set"),
        ({"OIDC_EMAIL_DOMAINS": ""}, "Set OIDC_EMAIL_DOMAINS"),
        ({"OIDC_ISSUER": "http://login.example.com"}, "must be addresses such as https://"),
        ({"OIDC_GROUPS_ISSUERS": "https://x.clerk.accounts.dev"}, "must not name Clerk"),
        ({"OIDC_GROUPS_ISSUERS": "https://clerk.example.com"}, "must not name Clerk"),
        ({"STAFF_MFA": "always"}, "STAFF_MFA must be optional or required"),
        ({"TRUSTED_PROXY_COUNT": "-1"}, "TRUSTED_PROXY_COUNT must be a whole number of proxies"),
        ({"TRUSTED_PROXY_COUNT": "all"}, "TRUSTED_PROXY_COUNT must be a whole number of proxies"),
        ({"EMAIL_URL": "nowhere"}, "EMAIL_URL must be an address such as smtp+tls://"),
    ],
)
def test_a_wrong_setting_is_named(changed, words):
    ended = check(**{**PRODUCTION, **SETTINGS, **changed})
    assert ended.returncode != 0
    assert words in ended.stderr


def test_without_a_mail_server_there_is_no_page_for_a_forgotten_password():
    code = "from django.urls import reverse; reverse('admin_password_reset')"
    said = manage("shell", "-v0", "-c", code, **PRODUCTION)
    assert "NoReverseMatch" in said.stderr
