"""Read users from a YAML file, for `python -m sandbox --seed FILE`."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import yaml

from sandbox.errors import Refusal
from sandbox.requests import email_address
from sandbox.state import Json
from sandbox.users import NAME_LENGTH

FIELDS: dict[str, type] = {
    "email": str,
    "verified": bool,
    "first_name": str,
    "last_name": str,
    "username": str,
    "external_id": str,
    "banned": bool,
    "locked": bool,
    "two_factor_enabled": bool,
    "password_enabled": bool,
    "public_metadata": dict,
    "private_metadata": dict,
    "unsafe_metadata": dict,
    "created_at": date,
    "last_sign_in_at": date,
}
"""The fields of a user in the file, and their types. A `datetime` is also a `date`."""

UNIQUE = ("email", "username", "external_id")

_TYPES = {
    str: "a text (put it in quotes)",
    bool: "true or false",
    dict: "a mapping of JSON values",
    date: "a date such as 2026-11-27",
}


class SeedError(Exception):
    """The file cannot be used. The text is one line that names the file and the wrong line."""


class _WrongLine(Exception):
    def __init__(self, node: yaml.Node, reason: str) -> None:
        super().__init__(reason)
        self.line = node.start_mark.line + 1


def read(file: Path) -> list[Json]:
    """Return the users of a file, each as arguments of `Sandbox.add_user`.

    Raises:
        SeedError: The file cannot be read, or a line of it is wrong.
    """
    try:
        root = yaml.compose(file.read_text("utf-8"), Loader=yaml.SafeLoader)
        if root is None:
            raise SeedError(f"{file}: the file is empty")
        return _users(root)
    except _WrongLine as error:
        raise SeedError(f"{file}, line {error.line}: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SeedError(f"{file}{line}: the YAML is not valid ({error.problem})") from None
    except OSError as error:
        raise SeedError(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise SeedError(f"{file}: the file is not a text in UTF-8") from None


def _users(root: yaml.Node) -> list[Json]:
    entries = _entries(root, known=["users"])
    if "users" not in entries:
        raise _WrongLine(root, "the list “users” is missing")
    listed = entries["users"]
    if not isinstance(listed, yaml.SequenceNode):
        raise _WrongLine(listed, "“users” must be a list")
    seen: dict[tuple[str, str], int] = {}
    return [_user(node, seen) for node in listed.value]


def _user(node: yaml.Node, seen: dict[tuple[str, str], int]) -> Json:
    """Return one user. `seen` maps each unique value to its line, and gets the new ones."""
    user = {}
    for name, value in _entries(node, known=FIELDS).items():
        user[name] = _value(name, value)
        if name in UNIQUE:
            first = seen.setdefault((name, user[name]), value.start_mark.line + 1)
            if first != value.start_mark.line + 1:
                raise _WrongLine(value, f"line {first} has the same {name}")
    return user


def _entries(node: yaml.Node, *, known: Any) -> dict[str, yaml.Node]:
    """Return the entries of a mapping. Each key must be `known` and occur once."""
    if not isinstance(node, yaml.MappingNode):
        raise _WrongLine(node, "this must be a mapping such as “email: mary@example.com”")
    entries: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if key.value not in list(known):
            raise _WrongLine(key, f"“{key.value}” is not one of: {', '.join(known)}")
        if key.value in entries:
            raise _WrongLine(key, f"“{key.value}” is there twice")
        entries[key.value] = value
    return entries


def _value(name: str, node: yaml.Node) -> Any:
    """Return the value of a field as the sandbox stores it."""
    wanted = FIELDS[name]
    try:
        value = _plain(node, wanted)
        if wanted is date:
            return _milliseconds(value)
        json.dumps(value)  # raises if metadata contains a value that JSON does not have
    except (TypeError, ValueError):
        raise _WrongLine(node, f"{name} must be {_TYPES[wanted]}") from None
    if name == "email":
        return _email(node, value)
    if wanted is str and len(value) > NAME_LENGTH:
        raise _WrongLine(node, f"{name} must not be longer than {NAME_LENGTH} characters")
    return value


def _plain(node: yaml.Node, wanted: type) -> Any:
    """Return the value as a Python object. Raises `TypeError` or `ValueError` for another type."""
    value: Any = yaml.SafeLoader("").construct_object(node, deep=True)
    is_wanted = isinstance(value, wanted)
    if not is_wanted:
        raise TypeError
    return value


def _email(node: yaml.Node, text: str) -> str:
    try:
        return email_address(text)
    except Refusal:
        raise _WrongLine(node, f"“{text}” is not a valid email") from None


def _milliseconds(moment: date) -> int:
    """Return a moment in milliseconds, as Clerk stores it. Without a time zone it is in UTC."""
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time.min)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
