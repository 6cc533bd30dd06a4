"""Every word that people see is marked for translation.

The templates are read as they are; the pages are shown in a language that puts what is marked in
brackets (`tests.support.pseudo_language`).
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from django.conf import settings
from django.template.base import Lexer, TokenType
from django.test import Client
from django.utils import translation

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.*"))
LETTERS = re.compile(r"[^\W\d_]{2,}")
ARGUMENT = re.compile(r"""[:=]["'][^"']*[A-Z][a-z]+[^"']*["']""")
"""A text as the argument of a filter or tag. Classes, fields and formats have no capitals."""
ATTRIBUTES = re.compile(r"{% block (coltype|bodyclass|form_attributes) %}.*?{% endblock %}")
"""Blocks that stand inside of a tag: classes, and what a script reads."""
SAID = {"alt", "aria-label", "placeholder", "title", "data-label", "data-busy", "data-slow"}


class Said(HTMLParser):
    """The texts of a template outside of its tags: they are the same in every language."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._code = 0

    def handle_starttag(self, tag, attrs):
        self._code += tag in ("script", "style", "code")
        named = dict(attrs)
        said = [value for name, value in attrs if name in SAID]
        if tag == "input" and named.get("type") == "submit":
            said.append(named.get("value"))
        self.texts += filter(None, said)

    def handle_endtag(self, tag):
        self._code -= tag in ("script", "style", "code")

    def handle_data(self, data):
        if not self._code:
            self.texts.append(data)


def words_of(template):
    """Yield what a template says in one language alone."""
    html, translated = "", False
    template_text = ATTRIBUTES.sub("", template.read_text())
    for token in Lexer(template_text).tokenize():
        if token.token_type == TokenType.BLOCK and "blocktranslate" in token.contents.split()[0]:
            translated = token.contents.startswith("blocktranslate")
        elif token.token_type == TokenType.TEXT and not translated:
            html += token.contents
        elif token.token_type in (TokenType.BLOCK, TokenType.VAR):
            html += "·" if token.token_type == TokenType.VAR else ""
            if not token.contents.startswith("translate "):
                yield from ARGUMENT.findall(token.contents)
    said = Said()
    said.feed(html)
    yield from (text.strip() for text in said.texts if LETTERS.search(text))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_word_of_a_template_is_marked(template):
    names = {"Cascade", "· Cascade", "UTC"}
    assert [words for words in words_of(template) if words not in names] == []


@pytest.mark.django_db
def test_a_browser_in_another_language_gets_the_same_page(client):
    other = Client(headers={"accept-language": "pl, de;q=0.8"})
    assert 'lang="en-us"' in other.get("/admin/login/").content.decode()
    assert translation.get_language() == "en-us"
