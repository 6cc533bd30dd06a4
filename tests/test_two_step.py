"""Two-step sign-in: turning it on, signing in, recovery codes, and STAFF_MFA=required."""

from __future__ import annotations

import pytest
from django.test import Client
from django_otp.plugins.otp_static.models import StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from staff.models import Outcome, SignInEvent, Step
from tests.support.change_form import page_of
from tests.support.commands import run
from tests.support.factories import StaffFactory, linked
from tests.support.sign_in import (
    CODE,
    PAGE,
    browser,
    codes_on,
    is_signed_in,
    outcomes,
    sign_in,
    text_of,
    turn_on,
    with_password,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _cheap(settings):
    settings.PASSWORD_HASHERS = ["tests.support.sign_in.CountingHasher"]


@pytest.fixture
def sam(db):
    return with_password(StaffFactory(username="sam", email="sam@example.com"))


@pytest.fixture
def enrolled(sam):
    client = browser()
    sign_in(client)
    return turn_on(client)


def half_signed_in() -> Client:
    client = browser()
    response = sign_in(client)
    assert response.status_code == 302
    return client


def test_turning_it_on_shows_ten_recovery_codes_once(sam):
    client = browser()
    sign_in(client)
    _, codes = turn_on(client)
    assert len(set(codes)) == 10
    assert is_signed_in(client)
    page = text_of(client.get(PAGE))
    assert "You have 10 recovery codes left." in page
    assert not any(code in page for code in codes)
    stored = set(StaticToken.objects.values_list("token", flat=True))
    assert not stored & {code.replace("-", "") for code in codes}
    assert list(
        SignInEvent.objects.filter(step=Step.TWO_STEP).values_list("reason", flat=True)
    ) == [
        "New recovery codes.",
        "Turned on.",
    ]


def test_a_wrong_first_code_turns_nothing_on(sam):
    client = browser()
    sign_in(client)
    for code in ("000000", "abc", "12 34", "\u0661" * 6):
        assert "This is not the code" in text_of(client.post(PAGE, {"code": code}))
    assert not TOTPDevice.objects.exists()


def test_the_password_alone_opens_no_page(enrolled, sandbox):
    client, user = half_signed_in(), linked(sandbox)
    for address in ("/admin/", page_of(user), PAGE, "/admin/password_change/", "/admin/auth/user/"):
        response = client.get(address)
        assert response.status_code == 302
        assert response["Location"].startswith(CODE)
    before = user.name
    assert client.post(page_of(user), {"name": "Bob"})["Location"].startswith(CODE)
    user.refresh_from_db()
    assert user.name == before
    assert SignInEvent.objects.filter(step=Step.PASSWORD).first().outcome == Outcome.CONTINUED


def test_the_code_opens_the_page_that_was_asked_for(enrolled, sandbox):
    app, _ = enrolled
    user = linked(sandbox)
    client = half_signed_in()
    asked = client.get(page_of(user))["Location"]
    page = client.get(asked)
    assert f'value="{page_of(user)}"' in text_of(page)
    key = client.cookies["sessionid"].value
    response = client.post(CODE, {"code": app.code(later=1), "next": page_of(user)})
    assert response["Location"] == page_of(user)
    assert client.get(page_of(user)).status_code == 200
    assert client.cookies["sessionid"].value != key
    assert outcomes(step=Step.CODE) == [Outcome.SIGNED_IN]


def test_no_code_leads_to_a_foreign_site(enrolled):
    client = half_signed_in()
    response = client.post(
        CODE, {"code": enrolled[0].code(later=1), "next": "https://evil.example.com/"}
    )
    assert response["Location"] == "/admin/"


def test_a_code_is_accepted_once(enrolled):
    app, _ = enrolled
    code = app.code(later=1)
    first, second = half_signed_in(), half_signed_in()
    assert first.post(CODE, {"code": f" {code[:3]} {code[3:]} "}).status_code == 302
    assert "This code is wrong or was used before." in text_of(second.post(CODE, {"code": code}))
    assert not is_signed_in(second)


def test_a_recovery_code_signs_in_once(enrolled):
    _, codes = enrolled
    client = half_signed_in()
    assert client.post(CODE, {"code": codes[0].upper()}).status_code == 302
    assert is_signed_in(client)
    assert "You have 9 recovery codes left." in text_of(client.get(PAGE))
    again = half_signed_in()
    assert "was used before" in text_of(again.post(CODE, {"code": codes[0]}))
    assert not is_signed_in(again)


def test_guessed_codes_are_limited_and_the_right_one_then_as_well(enrolled):
    app, _ = enrolled
    client = half_signed_in()
    texts = [text_of(client.post(CODE, {"code": f"{n:06d}"})) for n in range(8)]
    assert "Too many attempts for this account." in texts[-1]
    assert "Too many attempts" in text_of(client.post(CODE, {"code": app.code(later=1)}))
    assert outcomes(step=Step.CODE) == [Outcome.REFUSED] * 5 + [Outcome.LIMITED]
    # A right password in between gives no more guesses at the code.
    assert "Too many attempts" in text_of(sign_in(browser()))


def test_new_recovery_codes_need_a_code_and_replace_the_old_ones(enrolled, sam):
    app, codes = enrolled
    client = half_signed_in()
    client.post(CODE, {"code": codes[0]})
    assert "This code is wrong" in text_of(client.post(PAGE, {"code": "000000", "new_codes": "x"}))
    page = client.post(PAGE, {"code": app.code(later=1), "new_codes": "x"})
    assert len(codes_on(page)) == 10
    other = half_signed_in()
    assert other.post(CODE, {"code": codes[1]}).status_code == 200
    assert other.post(CODE, {"code": codes_on(page)[1]}).status_code == 302


def test_new_recovery_codes_do_not_shut_out_whoever_signed_in_by_an_old_one(
    enrolled, sam, settings
):
    settings.STAFF_MFA = "required"
    app, codes = enrolled
    client = half_signed_in()
    client.post(CODE, {"code": codes[0]})
    client.post(PAGE, {"code": app.code(later=1), "new_codes": "x"})
    assert is_signed_in(client)


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_turning_it_on_ends_the_sessions_that_the_password_alone_began(sam, settings, mode):
    settings.STAFF_MFA = "optional"
    before, other = browser(), browser()
    sign_in(before)
    sign_in(other)
    turn_on(other)
    settings.STAFF_MFA = mode
    page = before.get("/admin/auth/user/", follow=True)
    assert page.redirect_chain[0][0].startswith("/admin/login/")
    assert "Your session has ended. Sign in again." in text_of(page)
    assert before.get(CODE)["Location"].startswith("/admin/login/")
    assert is_signed_in(other)


def test_turning_it_on_anew_ends_the_sessions_of_the_device_before(enrolled):
    app, codes = enrolled
    before, other = half_signed_in(), half_signed_in()
    before.post(CODE, {"code": app.code(later=1)})
    assert is_signed_in(before)
    other.post(CODE, {"code": codes[0]})
    other.post(PAGE, {"code": codes[1], "turn_off": "x"})
    turn_on(other)
    assert not is_signed_in(before)
    assert is_signed_in(other)


def test_turning_it_off_needs_a_code(enrolled):
    app, codes = enrolled
    client = half_signed_in()
    client.post(CODE, {"code": codes[0]})
    client.post(PAGE, {"code": "000000", "turn_off": "x"})
    assert TOTPDevice.objects.count() == 1
    page = client.post(PAGE, {"code": app.code(later=1), "turn_off": "x"}, follow=True)
    assert "Two-step sign-in is off." in text_of(page)
    assert not TOTPDevice.objects.exists()
    assert not StaticToken.objects.exists()
    other = browser()
    sign_in(other)
    assert is_signed_in(other)


def test_required_lets_nobody_on_before_it_is_set_up(sam, settings, sandbox):
    settings.STAFF_MFA = "required"
    user, client = linked(sandbox), half_signed_in()
    for address in ("/admin/", page_of(user), CODE):
        assert client.get(address)["Location"].startswith(PAGE)
    assert "You need two-step sign-in before you can go on" in text_of(client.get(PAGE))
    app, _ = turn_on(client)
    assert is_signed_in(client)
    other = half_signed_in()
    assert not is_signed_in(other)
    other.post(CODE, {"code": app.code(later=1)})
    assert is_signed_in(other)


def test_required_cannot_be_turned_off(enrolled, settings):
    settings.STAFF_MFA = "required"
    app, codes = enrolled
    client = half_signed_in()
    client.post(CODE, {"code": codes[0]})
    assert 'name="turn_off"' not in text_of(client.get(PAGE))
    page = client.post(PAGE, {"code": app.code(later=1), "turn_off": "x"}, follow=True)
    assert "Two-step sign-in is required here. It stays on." in text_of(page)
    assert TOTPDevice.objects.count() == 1


def test_required_holds_for_sessions_that_are_open_when_it_is_switched_on(sam, settings):
    client = half_signed_in()
    assert is_signed_in(client)
    settings.STAFF_MFA = "required"
    assert client.get("/admin/")["Location"].startswith(PAGE)


def test_the_command_helps_who_has_lost_phone_and_codes(enrolled, sam):
    open_session = half_signed_in()
    open_session.post(CODE, {"code": enrolled[1][0]})
    assert run("reset_two_step", "sam") == (0, "Two-step sign-in is off for sam.\n")
    assert not TOTPDevice.objects.exists()
    client = browser()
    sign_in(client)
    assert is_signed_in(client)
    assert SignInEvent.objects.filter(step=Step.TWO_STEP, reason="Turned off by command.").exists()


def test_the_keys_of_others_are_on_no_page(enrolled, client):
    """A superuser must not be able to sign in as somebody else."""
    for model in ("otp_totp/totpdevice", "otp_static/staticdevice"):
        assert client.get(f"/admin/{model}/").status_code == 404
    assert "otp_totp" not in text_of(client.get("/admin/"))


def test_who_is_not_signed_in_is_sent_to_the_login(db):
    for address in (PAGE, CODE):
        assert Client().get(address)["Location"].startswith("/admin/login/")
