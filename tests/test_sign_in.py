"""Signing in with a password: limits of account and address, the journal, and the ways out."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.contrib.auth.hashers import identify_hasher
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone

from cascade.addresses import client_of
from staff.models import Outcome, SignInEvent, Step
from tests.support.commands import run
from tests.support.factories import StaffFactory
from tests.support.sign_in import (
    HOME,
    PASSWORD,
    browser,
    hashed,
    is_signed_in,
    outcomes,
    sign_in,
    text_of,
    with_password,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _counting(settings):
    settings.PASSWORD_HASHERS = ["tests.support.sign_in.CountingHasher"]
    hashed.clear()


@pytest.fixture
def sam(db):
    user = with_password(StaffFactory(username="sam", email="sam@example.com"))
    hashed.clear()
    return user


def test_a_sign_in_stands_in_the_journal_and_in_the_log(sam, caplog):
    client = browser()
    with caplog.at_level(logging.INFO, logger="staff.sign_in"):
        assert sign_in(client)["Location"] == "/admin/"
    assert is_signed_in(client)
    event = SignInEvent.objects.get()
    assert (event.step, event.outcome, event.user) == (Step.PASSWORD, Outcome.SIGNED_IN, sam)
    assert (event.account, event.address) == ("sam", HOME)
    assert f"Password: Signed in (sign-in {event.pk}, user {sam.pk})" in caplog.text
    assert HOME not in caplog.text


def test_forty_wrong_passwords_cost_five_hashes_and_lock_the_right_one_out(sam, caplog):
    client = browser()
    answers = [text_of(sign_in(client, password=f"guess {n}")) for n in range(40)]
    assert len(hashed) == 5
    assert all("Please enter the correct username and password" in text for text in answers[:5])
    assert all(
        "Too many attempts for this account. Try again after" in text for text in answers[5:]
    )
    assert outcomes() == [Outcome.REFUSED] * 5 + [Outcome.LIMITED]
    assert caplog.text.count("Too many attempts for this account.") == 35
    assert "Too many attempts" in text_of(sign_in(client))
    assert not is_signed_in(client)
    assert len(hashed) == 5


def test_clients_that_guess_at_once_get_no_more_guesses_than_one(sam):
    def guess(number):
        try:
            return text_of(sign_in(browser(f"198.51.100.{number}"), password="guess"))
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(guess, range(20)))
    assert len(hashed) == 5
    assert sum("Too many attempts for this account" in text for text in answers) == 15


def test_the_limit_of_an_account_ends_with_its_time(sam):
    for number in range(6):
        sign_in(browser(), password=f"guess {number}")
    SignInEvent.objects.update(at=timezone.now() - timedelta(minutes=16))
    client = browser()
    sign_in(client)
    assert is_signed_in(client)


def test_an_account_is_locked_after_twenty_wrong_passwords_in_a_day(sam):
    for number in range(20):
        assert sign_in(browser(f"198.51.100.{number}"), password="guess").status_code == 200
        SignInEvent.objects.update(at=timezone.now() - timedelta(minutes=20))
    assert len(hashed) == 20
    text = text_of(sign_in(browser()))
    assert "This account is locked until" in text
    assert "Ask an administrator to unlock it." in text
    code, said = run("unlock_sign_in", "--account", "sam")
    assert (code, said) == (0, "The account sam can try to sign in again.\n")
    client = browser()
    sign_in(client)
    assert is_signed_in(client)
    assert SignInEvent.objects.filter(
        step=Step.UNLOCK, account="sam", reason="By command."
    ).exists()


def test_an_address_that_guesses_at_many_accounts_is_stopped(sam):
    for number in range(25):
        sign_in(browser(), username=f"user{number}", password="guess")
    assert len(hashed) == 20
    assert outcomes().count(Outcome.LIMITED) == 1  # an attack does not fill the disk
    assert "Too many attempts for this network address." in text_of(sign_in(browser()))
    elsewhere = browser("203.0.113.8")
    sign_in(elsewhere)
    assert is_signed_in(elsewhere)
    assert run("unlock_sign_in", "--address", HOME)[0] == 0
    home = browser()
    sign_in(home)
    assert is_signed_in(home)


def test_signing_in_with_one_account_gives_an_address_no_more_guesses(sam):
    for number in range(19):
        sign_in(browser(), username=f"user{number}", password="guess")
    sign_in(browser())
    sign_in(browser(), username="other", password="guess")
    assert "for this network address" in text_of(sign_in(browser(), username="another"))


def test_the_addresses_of_one_ipv6_network_count_as_one(sam):
    for number in range(21):
        sign_in(browser(f"2001:db8:1:2::{number:x}"), username=f"user{number}", password="guess")
    assert len(hashed) == 20
    assert SignInEvent.objects.filter(network="2001:db8:1:2::/64", outcome="limited").exists()


def test_a_superuser_unlocks_an_account_and_an_address_in_the_admin(client, sam):
    for number in range(6):
        sign_in(browser(), password=f"guess {number}")
    event = SignInEvent.objects.filter(outcome=Outcome.LIMITED).get()
    for action, said in (
        ("unlock_accounts", "The account sam can try to sign in again."),
        ("unlock_addresses", f"The network address {HOME} can try to sign in again."),
    ):
        response = client.post(
            "/admin/staff/signinevent/",
            {"action": action, "_selected_action": [str(event.pk)]},
            follow=True,
        )
        assert said in text_of(response)
    assert SignInEvent.objects.filter(step=Step.UNLOCK, reason="By staff.").count() == 2
    home = browser()
    sign_in(home)
    assert is_signed_in(home)


def test_who_is_no_superuser_unlocks_nobody(sam):
    from tests.support.personas import client_who_may

    sign_in(browser(), password="guess")
    event = SignInEvent.objects.get()
    reader = client_who_may("view_signinevent")
    assert reader.get("/admin/staff/signinevent/").status_code == 200
    reader.post(
        "/admin/staff/signinevent/",
        {"action": "unlock_accounts", "_selected_action": [str(event.pk)]},
    )
    assert not SignInEvent.objects.filter(step=Step.UNLOCK).exists()
    page = f"/admin/staff/signinevent/{event.pk}/"
    assert reader.post(f"{page}change/", {"outcome": "signed_in"}).status_code == 403
    assert reader.post(f"{page}delete/", {"post": "yes"}).status_code == 403


def test_an_unknown_username_is_limited_alike_and_is_not_stored(sam, caplog):
    """People type their password into the field of the username."""
    texts = [text_of(sign_in(browser(), username="hunter2-secret", password="x")) for _ in range(6)]
    assert len(hashed) == 5
    assert "Too many attempts for this account." in texts[-1]
    assert all(
        account.startswith("unknown:")
        for account in SignInEvent.objects.values_list("account", flat=True)
    )
    assert "hunter2" not in caplog.text


def test_a_header_that_anybody_can_set_changes_no_address(sam):
    for number in range(21):
        sign_in(
            browser(),
            username=f"user{number}",
            password="x",
            headers={"x-forwarded-for": f"192.0.2.{number}"},
        )
    assert "for this network address" in text_of(sign_in(browser()))


@pytest.mark.parametrize(
    ("proxies", "header", "address"),
    [
        (0, "192.0.2.1", "10.0.0.1"),
        (1, "192.0.2.1", "192.0.2.1"),
        (1, "192.0.2.66, 192.0.2.1", "192.0.2.1"),
        (2, "192.0.2.66, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (2, "192.0.2.66", "10.0.0.1"),
        (1, "", "10.0.0.1"),
        (1, "unknown", "10.0.0.1"),
        (1, "192.0.2.1:4711", "192.0.2.1"),
        (1, "[2001:db8::1]:4711", "2001:db8::1"),
        (1, "::ffff:192.0.2.1", "192.0.2.1"),
    ],
)
def test_the_address_is_what_the_outermost_trusted_proxy_saw(settings, proxies, header, address):
    settings.TRUSTED_PROXY_COUNT = proxies
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", headers={"x-forwarded-for": header})
    assert client_of(request).address == address


def test_a_server_without_addresses_still_limits(sam):
    for number in range(21):
        sign_in(browser(""), username=f"user{number}", password="x")
    assert SignInEvent.objects.filter(network="unknown", outcome=Outcome.LIMITED).exists()


def test_a_stolen_session_does_not_guess_the_password(sam):
    client = browser()
    sign_in(client)
    hashed.clear()
    wrong = {
        "old_password": "guess",
        "new_password1": "n3w and long",
        "new_password2": "n3w and long",
    }
    texts = [text_of(client.post("/admin/password_change/", wrong)) for _ in range(10)]
    assert "Too many attempts for this account." in texts[-1]
    assert outcomes(step=Step.CHANGE) == [Outcome.REFUSED] * 5 + [Outcome.LIMITED]
    assert "Too many" not in text_of(sign_in(browser()))


def test_passwords_of_before_are_hashed_anew_at_the_next_sign_in(sam, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    sam.set_password(PASSWORD)
    sam.save()
    settings.PASSWORD_HASHERS = ["staff.hashers.Argon2Hasher", *settings.PASSWORD_HASHERS]
    client = browser()
    sign_in(client)
    assert is_signed_in(client)
    sam.refresh_from_db()
    assert identify_hasher(sam.password).algorithm == "argon2"


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}])
def test_who_may_not_sign_in_is_refused_with_the_same_words(sam, change):
    type(sam).objects.update(**change)
    assert "Please enter the correct username and password" in text_of(sign_in(browser()))
    assert outcomes() == [Outcome.REFUSED]


def test_old_rows_of_the_journal_are_deleted(sam):
    from staff.tasks import forget_sign_ins

    sign_in(browser())
    sign_in(browser())
    first = SignInEvent.objects.last()
    SignInEvent.objects.filter(pk=first.pk).update(at=timezone.now() - timedelta(days=91))
    forget_sign_ins(timestamp=0)
    assert SignInEvent.objects.count() == 1


def test_commands_say_what_they_cannot_find(sam):
    assert run("unlock_sign_in") == (1, "Name an --account or an --address.")
    assert run("unlock_sign_in", "--account", "x") == (1, "There is no staff user x.")
    assert run("unlock_sign_in", "--address", "x") == (1, "x is not a network address.")
    assert run("reset_two_step", "sam") == (1, "Two-step sign-in is not on for sam.")
