"""A language in which every translated text stands between ⟦ and ⟧, and what a page says outside.

It needs no catalogue: what is marked for translation comes back in brackets, Django's own words
too. Words that a page says outside of brackets are data, or are not marked.
"""

from __future__ import annotations

import gettext
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser

from django.utils import translation
from django.utils.translation import trans_real

LANGUAGE = "zz"
SAID = ("alt", "aria-label", "placeholder", "title", "value")
"""The attributes that people see or hear. Those of data for scripts come to them."""
SILENT = ("script", "style", "code", "textarea", "time")
"""Elements whose text is not translated."""
WORD = re.compile(r"[A-Za-z]{2,}")


class _Brackets(gettext.NullTranslations):
    """Stands where Django keeps the catalogue of a language."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧" if message else ""

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"⟦{msgid1 if n == 1 else msgid2}⟧"

    def pgettext(self, context: str, message: str) -> str:
        return self.gettext(message)

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:
        return self.ngettext(msgid1, msgid2, n)

    def language(self) -> str:
        return LANGUAGE

    to_language = language


@contextmanager
def pseudo_language() -> Iterator[None]:
    """Show everything that is marked for translation in brackets."""
    trans_real._translations[LANGUAGE] = _Brackets()
    try:
        with translation.override(LANGUAGE):
            yield
    finally:
        del trans_real._translations[LANGUAGE]


def outside_of_brackets(text: str) -> str:
    depth, kept = 0, []
    for character in text:
        depth += {"⟦": 1, "⟧": -1}.get(character, 0)
        if not depth and character != "⟧":
            kept.append(character)
    return "".join(kept)


class _Said(HTMLParser):
    """Collects the words outside of brackets: those of the text, and those of attributes.

    Brackets may open in one node and close in another, as a sentence may hold a link.
    """

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in SILENT:
            self._silent.append(tag)
        named = dict(attrs)
        for name, value in attrs:
            seen = name in SAID or (name.startswith("data-") and " " in (value or ""))
            button = tag == "input" and named.get("type") in ("submit", "button")
            if name == "value" and not button:
                seen = False
            if seen and value:
                self.attributes.append(f"{name}={value}")

    def handle_endtag(self, tag):
        if self._silent and self._silent[-1] == tag:
            self._silent.pop()

    def handle_data(self, data):
        if not self._silent:
            self.texts.append(data)


def unmarked(page: str, *, data: re.Pattern[str]) -> list[str]:
    """List what a page says outside of brackets, without what `data` matches."""
    said = _Said()
    said.feed(page)
    lines = outside_of_brackets("\n".join(said.texts)).splitlines()
    lines += [
        f"{name}={outside_of_brackets(value)}"
        for name, value in (one.split("=", 1) for one in said.attributes)
        if WORD.search(data.sub("", outside_of_brackets(value)))
    ]
    return [line.strip() for line in lines if WORD.search(data.sub("", line.split("=")[-1]))]
