"""What a field may hold, for the form and for the spreadsheet alike."""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator, validate_email

from users.clerk import names
from users.models import Role

NAME_LENGTH, EMAIL_LENGTH = 200, 254

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff]")
"""Among them those that turn a text round, by which one name looks like another."""
_MARKUP = re.compile(r"[<>]")


def clean_name(value: str) -> str:
    """Whitespace squashed; characters that no name has are refused. Raises `ValidationError`."""
    if CONTROL.search(value):
        raise ValidationError("Remove the control characters from the name.")
    if _MARKUP.search(value):
        raise ValidationError("A name cannot hold < or >.")
    name = names.squash(value)
    if not any(character.isalnum() for character in name):
        raise ValidationError("Enter a name.")
    if len(name) > NAME_LENGTH:
        raise ValidationError(f"A name has at most {NAME_LENGTH} characters.")
    return name


def clean_email(value: str) -> str:
    """Stripped and in lower case. Raises `ValidationError`."""
    email = value.strip()
    # `validate_email` takes the Kelvin sign and three more letters for ASCII, and lowering some
    # of them makes another mailbox.
    if not email.rpartition("@")[0].isascii():
        raise ValidationError(EmailValidator.message)
    email = email.lower()
    validate_email(email)
    if len(email) > EMAIL_LENGTH:
        raise ValidationError(f"An email has at most {EMAIL_LENGTH} characters.")
    return email


def clean_roles(role: str | None, internal_role: str | None) -> None:
    """Raises `ValidationError` for an internal role of somebody who is no Admin."""
    if internal_role and role and role != Role.ADMIN:
        raise ValidationError("Only users with the role Admin have an internal role.")
