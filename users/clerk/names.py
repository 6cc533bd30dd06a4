"""Clerk has a first and a last name, the table has one (DESIGN, "Names")."""

from __future__ import annotations


def squash(text: str) -> str:
    """The text with runs of whitespace as one space, and none at the ends."""
    return " ".join(text.split())


def join(first: str, last: str) -> str:
    return squash(f"{first} {last}")


def split(name: str, *, first: str = "", last: str = "") -> tuple[str, str]:
    """`name` as Clerk's two names, given the two that it has now.

    A first name that the new name starts with is kept, so that "Mary Ann|Smith" becomes
    "Mary Ann|Jones"; else a last name that it ends with ("Ludwig|van der Berg" →
    "Louis|van der Berg"); else the first word is the first name.
    """
    words = name.split()
    if kept := _leading(words, first.split()):
        return " ".join(words[:kept]), " ".join(words[kept:])
    if kept := _leading(words[::-1], last.split()[::-1]):
        return " ".join(words[:-kept]), " ".join(words[-kept:])
    return " ".join(words[:1]), " ".join(words[1:])


def _leading(words: list[str], kept: list[str]) -> int:
    """How many words are kept: all of `kept` if `words` starts with them, else 0."""
    return len(kept) if words[: len(kept)] == kept else 0
