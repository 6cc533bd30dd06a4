"""Clerk has a first and a last name, the table has one."""

from __future__ import annotations

import unicodedata

WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Every character at which `str.split` splits. SQL needs them spelled out."""


def squash(text: str) -> str:
    """The text with runs of white space as one space, and none at the ends."""
    return " ".join(text.split())


def normalized(text: str) -> str:
    """The text by which names are compared: squashed, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", squash(text))


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
    starts = list(map(normalized, words[: len(kept)])) == list(map(normalized, kept))
    return len(kept) if starts else 0
