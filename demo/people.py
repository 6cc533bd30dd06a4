"""Generate people for the demo. They are the same at each run, and none of them is real."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass

FIRST = [
    "Mary Ann",
    "José",
    "Ludwig",
    "Zoë",
    "Ahmed",
    "Chloé",
    "Björn",
    "Priya",
    "Owen",
    "Siobhán",
    "Tuấn",
    "Ana María",
    "Kofi",
    "Ingrid",
    "Luca",
    "Yuki",
    "Noor",
    "Władysław",
    "Grace",
    "Eli",
]
LAST = [
    "Smith",
    "van der Berg",
    "García Márquez",
    "O'Connor",
    "Müller",
    "Nguyễn",
    "de la Cruz",
    "Okafor",
    "Lindström",
    "Patel",
    "McAllister",
    "Kowalska",
    "Dupont",
    "Rossi",
    "Haddad",
    "Yamamoto",
    "Fernandes",
    "Jensen",
    "Brown",
    "Saint-Claire",
]
PLACES = [
    "Oak Hill",
    "Cedar Ridge",
    "Maple Grove",
    "Silver Creek",
    "Stonebridge",
    "Willow Bend",
    "Granite Bay",
    "Prairie View",
    "Harbor Point",
    "Juniper Springs",
]
KINDS = ["Homes", "Builders"]

RENAMED = {12: "Grace Jensen", 86: "Ingrid Smith-Rossi", 180: "Ahmed Haddad"}
"""New names of people, by number. Clerk still has their old names."""

ONLY_IN_CLERK = [
    ("Mei", "Tanaka", "mei.tanaka@example.org"),
    ("Jonas", "Weber", "jonas.weber@example.org"),
]
"""First name, last name and email of Clerk accounts without a user."""


@dataclass(frozen=True)
class Person:
    """One person of the demo.

    `clerk_name` is the first and last name in Clerk, or None for a person without an account.
    `signed_in` is the number of days since the last sign-in, or None for never.
    """

    name: str
    email: str
    role: str
    internal_role: str | None
    group: int | None
    clerk_name: tuple[str, str] | None
    signed_in: int | None


def groups() -> list[str]:
    """Return the names of the 20 builder groups."""
    return [f"{place} {kind}" for place in PLACES for kind in KINDS]


def people(count: int = 200) -> list[Person]:
    """Return `count` people, the same ones at each call."""
    chance = random.Random(2026)
    return [_person(chance, number) for number in range(count)]


def _person(chance: random.Random, number: int) -> Person:
    first, last = chance.choice(FIRST), chance.choice(LAST)
    if number % 23 == 0:
        last = ""  # some have one name only
    name = f"{first} {last}".strip()
    if number % 17 == 0:
        name = name.upper() if number % 2 else name.lower()  # as people type
        first, last = name[: len(first)], name[len(first) :].strip()
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    address = ".".join("".join(filter(str.isalpha, word)) for word in plain.split())
    internal_role = "Administrator" if number % 80 == 7 else "Employee"
    is_internal = number % 40 == 7
    return Person(
        name=RENAMED.get(number, name),
        email=f"{address or 'person'}.{number}@example.com",
        role="ADMIN" if is_internal else "BUILDER",
        internal_role=internal_role if is_internal else None,
        group=chance.randrange(20) if number % 11 else None,
        clerk_name=None if number % 6 == 5 else (first, last),
        signed_in=chance.randrange(1, 90) if number % 4 else None,
    )
