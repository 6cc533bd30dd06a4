"""The rules for values of fields, shared by forms and spreadsheets."""

from __future__ import annotations

import re
import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator, validate_email
from django.utils.translation import gettext as _

from users.clerk import names
from users.models import Role

NAME_LENGTH, EMAIL_LENGTH = 200, 254

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Includes the characters that change the direction of text: one name can look like another."""
_MARKUP = re.compile(r"[<>]")
_INVISIBLE = "".join(
    map(chr, (0xAD, 0x61C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060,
              *range(0x2066, 0x206A), 0xFEFF))
)  # fmt: skip
"""What other programs put around a text that is copied from them."""


def trimmed(text: str) -> str:
    """Return the text without white space and invisible characters around it."""
    return text.strip(names.WHITE_SPACE + _INVISIBLE)


def clean_name(value: str) -> str:
    """Return the name with its white space squashed.

    Raises `ValidationError` for characters that a name cannot hold, and for a wrong length.
    """
    if CONTROL.search(value):
        raise ValidationError(_("Remove the control characters from the name."))
    if _MARKUP.search(value):
        raise ValidationError(_("A name cannot hold < or >."))
    name = names.squash(value)
    if not any(character.isalnum() for character in name):
        raise ValidationError(_("Enter a name."))
    if len(name) > NAME_LENGTH:
        raise ValidationError(_("A name has at most {count} characters.").format(count=NAME_LENGTH))
    return name


def clean_email(value: str) -> str:
    """Return the email trimmed and in lower case.

    Raises `ValidationError` if it is not a valid address.
    """
    email = trimmed(value)
    # `validate_email` removes these from a domain before it looks, as IDNA does. Then the stored
    # address would look like another one, and equal none.
    if any(unicodedata.category(character) == "Cf" for character in email):
        raise ValidationError(_("Remove the invisible characters from the email."))
    # `validate_email` accepts the Kelvin sign and three more letters as ASCII. Lower case turns
    # some of them into the letters of another mailbox.
    if not email.rpartition("@")[0].isascii():
        raise ValidationError(EmailValidator.message)
    email = email.lower()
    validate_email(email)
    if len(email) > EMAIL_LENGTH:
        raise ValidationError(
            _("An email has at most {count} characters.").format(count=EMAIL_LENGTH)
        )
    return email


def clean_roles(role: str | None, internal_role: str | None) -> None:
    """Refuse an internal role for a user whose role is not Admin.

    Raises `ValidationError`.
    """
    if internal_role and role and role != Role.ADMIN:
        raise ValidationError(_("Only users with the role Admin have an internal role."))
