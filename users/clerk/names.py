"""Convert between Clerk's first and last name and the one name of our table."""

from __future__ import annotations

import unicodedata

WHITE_SPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Every character at which `str.split` splits, spelled out for SQL."""


def squash(text: str) -> str:
    """Return the text with each run of white space as one space, and none at the ends."""
    return " ".join(text.split())


def normalized(text: str) -> str:
    """Return the form in which names are compared: squashed, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", squash(text))


def join(first: str, last: str) -> str:
    """Return the one name for Clerk's first and last name."""
    return squash(f"{first} {last}")


def split(name: str, *, first: str = "", last: str = "") -> tuple[str, str]:
    """Split `name` into Clerk's two names, given the two that Clerk has now.

    If the new name starts with the current first name, that is kept: "Mary Ann|Smith" becomes
    "Mary Ann|Jones". Else, if the new name ends with the current last name, that is kept:
    "Ludwig|van der Berg" becomes "Louis|van der Berg". Else the first word is the first name.
    """
    words = name.split()
    if kept := _leading(words, first.split()):
        return " ".join(words[:kept]), " ".join(words[kept:])
    if kept := _leading(words[::-1], last.split()[::-1]):
        return " ".join(words[:-kept]), " ".join(words[-kept:])
    return " ".join(words[:1]), " ".join(words[1:])


def _leading(words: list[str], kept: list[str]) -> int:
    """Return how many words are kept: all of `kept` if `words` starts with them, else 0."""
    starts = list(map(normalized, words[: len(kept)])) == list(map(normalized, kept))
    return len(kept) if starts else 0
