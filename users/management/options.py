"""Options that several commands share, and their values."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from math import inf, nan
from pathlib import Path
from typing import TypedDict, TypeGuard

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser

from users.clerk import BULK_SHARE
from users.errors import BulkRefused
from users.models import Role
from users.sync.actors import Actor
from users.sync.bulk.choosing import Choice, Groups
from users.sync.bulk.creating import Defaults
from users.sync.mirror import report

LONGEST_NUMBER = 18
"""Digits. PostgreSQL takes every number of so many."""

SLOWEST = 0.01
"""Calls a second. A wait for much less than that is longer than the system can count."""
DAY = 86_400
"""Seconds."""

FROM_FILE = ("file", "encoding", "ignore_unknown_columns")
"""The options that make the plan of a spreadsheet, for `BulkCommand.plan_options`."""


def add_choice(parser: CommandParser, *, otherwise: str = "nothing given is everybody") -> None:
    """Add the options that select users.

    `otherwise` says in the help what happens if none of them is given.
    """
    choosing = parser.add_argument_group(
        "choosing", f"Users that fit all of what is given; {otherwise}."
    )
    choosing.add_argument("--id", action="append", default=[], help="our id or Clerk's; repeatable")
    choosing.add_argument("--ids-from", type=Path, metavar="FILE", help="CSV: ids in column one")
    choosing.add_argument("--email", action="append", default=[], help="repeatable")
    choosing.add_argument("--group", action="append", default=[], help="name or id; repeatable")
    choosing.add_argument(
        "--role", action="append", default=[], type=str.upper, choices=Role.values,
        help="repeatable",
    )  # fmt: skip
    choosing.add_argument(
        "--drift", action="append", default=[], choices=report.Kind.values,
        help="users with this difference, as clerk_diff names it; repeatable",
    )  # fmt: skip


class ChoiceOptions(TypedDict):
    """The options that select users."""

    id: list[str]
    ids_from: Path | None
    email: list[str]
    group: list[str]
    role: list[str]
    drift: list[str]


def _selects(options: Mapping[str, object]) -> TypeGuard[ChoiceOptions]:
    """Return whether the command has the options that select users."""
    return "ids_from" in options


def choice_of(options: Mapping[str, object]) -> Choice:
    """Return the selection: everybody for a command without these options.

    Raises `BulkRefused`.
    """
    if not _selects(options):
        return Choice()
    ids = list(options["id"])
    if file := options["ids_from"]:
        ids += _ids_in(file)
    return Choice(
        ids=ids,
        emails=options["email"],
        groups=options["group"],
        roles=options["role"],
        drift=[report.Kind(kind) for kind in options["drift"]],
    )


def _ids_in(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise BulkRefused(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BulkRefused(f"{file} is not text in UTF-8. Nothing was planned.") from None
    cells = [line.replace(";", ",").split(",")[0].strip().strip('"') for line in lines]
    if cells and cells[0].lower() in ("id", "clerk_id"):
        del cells[0]
    if not any(cells):
        raise BulkRefused(f"{file} holds no ids. Nothing was planned.")
    return [cell for cell in cells if cell]


def add_defaults(parser: CommandParser, whose: str) -> None:
    """Add the options for the role and the group of new users. `whose` is a text of the help."""
    parser.add_argument(
        "--role", choices=Role.values, help=f"{whose}; default: {Role.BUILDER.value}"
    )
    parser.add_argument("--group", help=f"name or id; {whose}; default: none")


class DefaultsOptions(TypedDict):
    """The options for the role and the group of new users."""

    role: str | None
    group: str | None


def defaults_of(options: DefaultsOptions) -> Defaults:
    """Return the role and the group of new users.

    Raises `BulkRefused` for a group that does not exist.
    """
    try:
        group = Groups().get(options["group"]) if options["group"] else None
    except KeyError as error:
        raise BulkRefused(f"There is no {error.args[0]}.") from None
    return Defaults(options["role"] or Role.BUILDER.value, group)


def actor_of(username: str | None) -> Actor:
    """Return the staff user that is recorded as the author, or None for the default.

    Raises `BulkRefused` for an unknown username.
    """
    if username is None:
        return None
    actor = get_user_model().objects.filter(username=username).first()
    if actor is None:
        raise BulkRefused(f"No staff user has the username “{username}”. Nothing was changed.")
    return actor


def call_rate(wanted: float | None) -> float:
    """Return the number of calls to Clerk a second.

    Raises `BulkRefused`.
    """
    rate = wanted if wanted is not None else settings.CLERK_RATE_LIMIT * BULK_SHARE
    if not SLOWEST <= rate < inf:
        raise BulkRefused(f"--rate must be a number of calls a second, {SLOWEST} or more.")
    return rate


def whole_number(text: str) -> int:
    """Parse a count, for argparse.

    Raises `ArgumentTypeError`.
    """
    if not text.isascii() or not text.isdecimal():
        raise ArgumentTypeError(f"“{text}” is not a whole number of 0 or more")
    if len(text) > LONGEST_NUMBER:
        raise ArgumentTypeError(f"{text} is too large")
    return int(text)


def positive_number(text: str) -> int:
    """Parse a count that is not 0, for argparse.

    Raises `ArgumentTypeError`.
    """
    if not (number := whole_number(text)):
        raise ArgumentTypeError("0 is too few: give 1 or more")
    return number


def seconds(text: str) -> float:
    """Parse a number of seconds above 0 and of at most a day, for argparse.

    Raises `ArgumentTypeError`.
    """
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not 0 < number <= DAY:
        raise ArgumentTypeError(f"“{text}” is not a number of seconds above 0, at most {DAY}")
    return number


def refuse_together(options: Mapping[str, object], one: str, others: Sequence[str]) -> None:
    """Refuse option `one` together with any of the others.

    Raises `BulkRefused`.
    """
    given = [name for name in others if _is_given(options.get(name))]
    if not _is_given(options[one]) or not given:
        return
    named = ", ".join(_spelled(name) for name in given)
    raise BulkRefused(f"{_spelled(one)} cannot be combined with {named}. Nothing was changed.")


def _is_given(value: object) -> bool:
    """Return whether a value is not the default of its option. A 0 is given."""
    return value is not None and value is not False and value not in ("", [])


def _spelled(name: str) -> str:
    spelled = {"action": "ACTION", "file": "FILE", "plan_file": "--plan"}
    return spelled.get(name, f"--{name.replace('_', '-')}")
