"""Check the second step of a sign-in with a password.

The step is a code of an authenticator app or a recovery code. `django_otp` stores the devices and
the codes that were used. Its own throttling is off, because `staff.limits` counts codes and
passwords together.
"""

from __future__ import annotations

import re
import secrets
from base64 import b32encode
from typing import Any

import django_otp
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils.crypto import salted_hmac
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_otp.util import random_hex

from staff.backends import PROVIDER_BACKEND

CODE_DUE = "staff.code_due"
NEW_KEY = "staff.new_key"
RECOVERY_CODES = 10
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_LENGTH = 10


def is_required() -> bool:
    """Return whether every staff user with a password needs a second step."""
    return settings.STAFF_MFA == "required"


def is_on(user: User) -> bool:
    """Return whether the user has confirmed an authenticator app."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).exists()


def page_due(request: HttpRequest) -> str | None:
    """Return the name of the page that the session must pass first, or None."""
    if _needs_no_code(request):
        return None
    if request.session.get(CODE_DUE):
        return "staff_code"
    return "staff_two_step" if is_required() else None


def was_turned_on_since(request: HttpRequest) -> bool:
    """Return whether the user turned the second step on after this session began.

    Such a session began with the password alone. It must end, because another person who knows the
    password could have begun it.
    """
    user = request.user
    if _needs_no_code(request) or request.session.get(CODE_DUE):
        return False
    return isinstance(user, User) and is_on(user)


def new_key(request: HttpRequest) -> str:
    """Return the key that this session offers to an app.

    Only the session holds the key until a code confirms it.
    """
    key: str = request.session.setdefault(NEW_KEY, random_hex(20))
    return key


def shown_key(key: str) -> str:
    """Return the key in Base32 and groups of four, for people who cannot scan the picture."""
    text = b32encode(bytes.fromhex(key)).decode()
    return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


def device_with(user: User, key: str) -> TOTPDevice:
    """Return an unsaved device with a key."""
    return TOTPDevice(user=user, key=key, name="App")


@transaction.atomic
def turn_on(user: User, *, key: str, code: str) -> TOTPDevice | None:
    """Store the key if the code proves that the app has it.

    Return the new device. Return None if the code is wrong or if a device is already confirmed.
    """
    User.objects.select_for_update().get(pk=user.pk)
    device = device_with(user, key)
    if is_on(user) or not _looks_like_totp(code := _normalized(code)):
        return None
    if device.verify_token(code):
        return device
    transaction.set_rollback(True)  # `verify_token` saved the device to count the wrong code
    return None


@transaction.atomic
def turn_off(user: User) -> None:
    """Delete the user's app and recovery codes."""
    TOTPDevice.objects.filter(user=user).delete()
    StaticDevice.objects.filter(user=user).delete()


@transaction.atomic
def new_recovery_codes(user: User) -> list[str]:
    """Replace the recovery codes, and return the new ones.

    Only their hashes are stored, so the codes can be shown only once.
    """
    User.objects.select_for_update().get(pk=user.pk)
    # Keep the device: this session, or another one, may be verified by it.
    device, _ = StaticDevice.objects.get_or_create(user=user, name="Recovery codes")
    StaticToken.objects.filter(device=device).delete()
    codes = [_new_code() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(
        StaticToken(device=device, token=_stored(code)) for code in codes
    )
    return [f"{code[:5]}-{code[5:]}" for code in codes]


def recovery_codes_left(user: User) -> int:
    """Return how many recovery codes the user has not used."""
    return StaticToken.objects.filter(device__user=user).count()


@transaction.atomic
def verify(user: User, code: str) -> TOTPDevice | StaticDevice | None:
    """Find the device that a code belongs to, and use the code up.

    Return None if the code is wrong or was used before.
    """
    code = _normalized(code)
    devices: Any
    if _looks_like_totp(code):
        devices, token = TOTPDevice.objects.filter(user=user, confirmed=True), code
    else:
        devices, token = StaticDevice.objects.filter(user=user), _stored(code)
    for device in devices.select_for_update():
        if device.verify_token(token):
            return device
    return None


def accept(request: HttpRequest, device: TOTPDevice | StaticDevice) -> None:
    """Mark the second step of the session as passed.

    The session gets a new key, because its rights grow.
    """
    request.session.cycle_key()
    request.session.pop(CODE_DUE, None)
    request.session.pop(NEW_KEY, None)
    django_otp.login(request, device)


def _new_code() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def _needs_no_code(request: HttpRequest) -> bool:
    """Return whether the session has passed its second step or began at the company's provider."""
    verified = getattr(request.user, "otp_device", None) is not None
    return verified or request.session.get(BACKEND_SESSION_KEY) == PROVIDER_BACKEND


def _normalized(code: str) -> str:
    return re.sub(r"[\s-]", "", code).lower()


def _looks_like_totp(code: str) -> bool:
    return re.fullmatch("[0-9]{6}", code) is not None


def _stored(code: str) -> str:
    return salted_hmac("staff.recovery_code", code, algorithm="sha256").hexdigest()[:16]
